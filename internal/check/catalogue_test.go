package check

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of docs/check.md anew")

const (
	docs       = "../../docs/check.md"
	tableBegin = "<!-- findings: written by go test ./internal/check -update -->\n"
	tableEnd   = "<!-- end of findings -->\n"
)

// TestDocs: docs/check.md has all ids, with the words that check prints, and no other
// ones.
func TestDocs(t *testing.T) {
	content, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(content), tableBegin)
	got, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no table of findings between its two marks", docs)
	}
	if want := table(); *update && got != want {
		if err := os.WriteFile(docs, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of %s is not that of the code (-update writes it; -want +got):\n%s", docs, diff)
	}
	ids := regexp.MustCompile(`PA\d+`).FindAllString(string(content), -1)
	for _, id := range ids {
		if _, ok := catalogue[id]; !ok {
			t.Errorf("%s speaks of %s, which is no id", docs, id)
		}
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| id | at worst | what | why it matters | what to do |\n|---|---|---|---|---|\n")
	for _, id := range IDs() {
		k := catalogue[id]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", id, k.severity, k.title, k.why, k.do)
	}
	return b.String()
}

// TestCatalogue: every id has all of its words, and the code makes findings of it.
func TestCatalogue(t *testing.T) {
	var code strings.Builder
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "catalogue.go" {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	for _, id := range IDs() {
		k := catalogue[id]
		if !regexp.MustCompile(`^PA[1-6]\d\d$`).MatchString(id) || !slices.Contains(severities, k.severity) {
			t.Errorf("%s: %q is no severity, or the id no id", id, k.severity)
		}
		for _, words := range []string{k.title, k.why, k.do} {
			if words == "" || strings.ContainsAny(words, "|\n") || strings.HasSuffix(words, ".") {
				t.Errorf("%s: %q does not fit into a table, or a line", id, words)
			}
		}
		if !strings.Contains(code.String(), `"`+id+`"`) {
			t.Errorf("%s is in the catalogue, and nothing makes a finding of it", id)
		}
	}
}

// TestDocsOfJSON: docs/check.md has all fields of the JSON.
func TestDocsOfJSON(t *testing.T) {
	content, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Report](), reflect.TypeFor[Facts](), reflect.TypeFor[Finding]()} {
		for i := range typ.NumField() {
			if !typ.Field(i).IsExported() {
				continue // not in JSON
			}
			field, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if field == "" || !strings.Contains(string(content), "`"+field+"`") {
				t.Errorf("%s does not tell what %s.%s is, %q in JSON", docs, typ.Name(), typ.Field(i).Name, field)
			}
		}
	}
}
