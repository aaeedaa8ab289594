package main

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestLinks: what the pages link to inside the tree is there, headings included.
func TestLinks(t *testing.T) {
	const root = "../.."
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "examples", "gunicorn", "README.md"))
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links, anchors := 0, 0
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(prose(t, page), -1) {
			to, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
				continue
			}
			if to.Scheme != "" {
				continue
			}
			links++
			path := page
			if to.Path != "" {
				path = filepath.Join(filepath.Dir(page), to.Path)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s leads to nothing", page, m[1])
				continue
			}
			if to.Fragment == "" {
				continue
			}
			anchors++
			if filepath.Ext(path) != ".md" || !headings(t, path)[to.Fragment] {
				t.Errorf("%s: %s: that page has no such heading", page, m[1])
			}
		}
	}
	if links < 50 || anchors < 20 {
		t.Errorf("%d links were found, %d of them to headings: too few to have seen them all", links, anchors)
	}
}

// prose is a page without its code.
func prose(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile("(?ms)^ *```.*?^ *```$|^    .*?$").ReplaceAllString(string(b), "")
}

// headings are the names that GitHub gives the headings of a page.
func headings(t *testing.T, path string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(prose(t, path), -1) {
		names[strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, m[1])] = true
	}
	return names
}
