package packaging

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"

	"github.com/promagg/promagg/internal/testpeer"
)

const mixin = "mixin"

// TestAlerts: promtool understands the alerts, and they fire when they should.
func TestAlerts(t *testing.T) {
	testpeer.Require(t, testpeer.Promtool)
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(testpeer.Promtool.Path(), args...)
		cmd.Dir = mixin
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

type alert struct {
	Alert       string
	Expr        string
	Annotations struct {
		Runbook string `yaml:"runbook_url"`
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	decode(t, filepath.Join(mixin, "alerts.yaml"), &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

// TestAlertsAreTested: each alert has a test in which it fires, and a heading in the docs
// that its runbook link leads to.
func TestAlertsAreTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Tests []struct {
				Alert string `yaml:"alertname"`
				Want  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	decode(t, filepath.Join(mixin, "alerts_test.yaml"), &file)
	fires := map[string]bool{}
	for _, group := range file.Tests {
		for _, test := range group.Tests {
			fires[test.Alert] = fires[test.Alert] || len(test.Want) > 0
		}
	}
	docs, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] {
			t.Errorf("no test in which %s fires", a.Alert)
		}
		if want := "/docs/deploy.md#" + strings.ToLower(a.Alert); !strings.HasSuffix(a.Annotations.Runbook, want) {
			t.Errorf("%s: runbook_url is %q, want one that ends in %s", a.Alert, a.Annotations.Runbook, want)
		}
		if !strings.Contains(string(docs), "\n### "+a.Alert+"\n") {
			t.Errorf("docs/deploy.md has no heading for %s", a.Alert)
		}
	}
}

type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ RefID, Expr string }
}

type variable struct{ Name, Type, Definition string }

func dashboard(t *testing.T) (panels []panel, variables []variable) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(mixin, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID, Title string
		Panels     []panel
		Templating struct{ List []variable }
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || len(d.Panels) == 0 {
		t.Fatal("a dashboard needs a uid, a title and panels")
	}
	return d.Panels, d.Templating.List
}

// TestDashboardLayout: panels have ids of their own, queries, and places that don't overlap.
func TestDashboardLayout(t *testing.T) {
	panels, variables := dashboard(t)
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range panels {
		if other, ok := ids[p.ID]; ok {
			t.Errorf("%q and %q have the id %d", other, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		if p.Title == "" || (p.Type != "row") != (len(p.Targets) > 0) {
			t.Errorf("panel %d %q of type %s has %d queries", p.ID, p.Title, p.Type, len(p.Targets))
		}
		at := p.GridPos
		if at.X < 0 || at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("%q is outside the grid: %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	known := []string{"__rate_interval"}
	for _, v := range variables {
		known = append(known, v.Name)
	}
	for where, query := range dashboardQueries(t) {
		for _, used := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(query, -1) {
			if !slices.Contains(known, used[1]) {
				t.Errorf("%s uses $%s, which is no variable of the dashboard", where, used[1])
			}
		}
	}
}

// dashboardQueries returns the queries by the place where they stand.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	queries := map[string]string{}
	panels, _ := dashboard(t)
	for _, p := range panels {
		for _, target := range p.Targets {
			queries[fmt.Sprintf("dashboard, %s, %s", p.Title, target.RefID)] = target.Expr
		}
	}
	return queries
}

// TestQueries: every query of the dashboard and of the alerts can be parsed, asks for
// metrics that promagg and its demonstration serve, and by labels that they have.
func TestQueries(t *testing.T) {
	served := servedByDemo(t)
	queries := dashboardQueries(t)
	for _, a := range alerts(t) {
		queries["alert "+a.Alert] = a.Expr
	}
	asked := 0
	for where, query := range queries {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(query))
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, query)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			if s, ok := node.(*parser.VectorSelector); ok {
				asked++
				checkSelector(t, where, s, served)
			}
			return nil
		})
	}
	if asked < len(queries) {
		t.Errorf("%d selectors in %d queries: the test looks at nothing", asked, len(queries))
	}
}

func checkSelector(t *testing.T, where string, s *parser.VectorSelector, served map[string]map[string]bool) {
	t.Helper()
	name := s.Name
	if slices.Contains([]string{"up", "scrape_duration_seconds"}, name) {
		return // Prometheus' own
	}
	base := strings.TrimSuffix(name, "_bucket")
	labels := served[name]
	if labels == nil {
		labels = served[base]
	}
	if labels == nil {
		t.Errorf("%s: nobody serves %s", where, name)
		return
	}
	for _, m := range s.LabelMatchers {
		if !slices.Contains([]string{"__name__", "job", "instance", "le"}, m.Name) && !labels[m.Name+"="+m.Value] {
			t.Errorf("%s: no series of %s matches %s", where, name, m)
		}
	}
}

// TestAlertInputs: the series of the alerts' tests have the labels that promagg serves,
// no less and no more. An operator between metrics of other labels matches nothing, and an
// alert that is tested with others is one that never fires.
func TestAlertInputs(t *testing.T) {
	served := servedByDemo(t)
	var file struct {
		Tests []struct {
			Input []struct{ Series string } `yaml:"input_series"`
		}
	}
	decode(t, filepath.Join(mixin, "alerts_test.yaml"), &file)
	looked := 0
	for _, group := range file.Tests {
		for _, in := range group.Input {
			labels, err := parser.NewParser(parser.Options{}).ParseMetric(in.Series)
			if err != nil {
				t.Errorf("%s: %v", in.Series, err)
				continue
			}
			name := labels.Get("__name__")
			if name == "up" {
				continue // Prometheus' own
			}
			looked++
			want := map[string]bool{"__name__": true, "job": true, "instance": true}
			for pair := range served[name] {
				label, _, _ := strings.Cut(pair, "=")
				want[label] = true
			}
			got := map[string]bool{}
			for label := range labels.Map() {
				got[label] = true
			}
			if served[name] == nil || !maps.Equal(got, want) {
				t.Errorf("%s: labels are %v, served are %v", in.Series, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		}
	}
	if looked == 0 {
		t.Error("the test looks at nothing")
	}
}

// servedByDemo returns the metrics that the demonstration serves, with the labels that
// each has.
func servedByDemo(t *testing.T) map[string]map[string]bool {
	t.Helper()
	p := testpeer.Start(t, exec.Command(testpeer.Promagg(t), "demo"))
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`)
	served := map[string]map[string]bool{}
	testpeer.WaitFor(t, "the metrics of the demonstration", patience, func() error {
		at := url.FindString(p.Log())
		if at == "" {
			return fmt.Errorf("it tells no address: %s", p.Log())
		}
		body, err := fetch(at)
		if err != nil {
			return err
		}
		parse := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parse.TextToMetricFamilies(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if families["demo_http_requests_total"] == nil || families["demo_http_request_duration_seconds"] == nil {
			return fmt.Errorf("no requests yet")
		}
		if families["promagg_worker_cpu_seconds_total"] == nil {
			return fmt.Errorf("no look at the workers' processes yet")
		}
		for name, f := range families {
			served[name] = map[string]bool{}
			for _, m := range f.Metric {
				for _, l := range m.Label {
					served[name][l.GetName()+"="+l.GetValue()] = true
				}
			}
		}
		return nil
	})
	return served
}

// decode reads a file of one YAML document.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
