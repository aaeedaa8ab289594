package main

import (
	"bytes"
	"cmp"
	"html/template"
	"net/http"

	"github.com/prometheus/common/version"

	"github.com/promagg/promagg/internal/multiproc"
)

var landing = template.Must(template.New("landing").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>promagg</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 42rem; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
caption { text-align: left; font-weight: bold }
th { text-align: left; font-weight: normal; padding-right: 2rem; color: #555 }
td { text-align: right; font-variant-numeric: tabular-nums }
a { color: #a33a1a }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th { color: #aaa } a { color: #ff9a76 } }
</style>
</head>
<body>
<h1>promagg</h1>
<p>The metrics of all workers, merged. Version {{.Version}}.</p>
<ul>
<li><a href="{{.Path}}">Metrics</a></li>
<li><a href="/-/healthy">Health</a></li>
<li><a href="/-/ready">Readiness</a></li>
{{- if .Pprof}}
<li><a href="/debug/pprof/">Profiles</a> of promagg itself</li>
{{- end}}
</ul>
{{range .Dirs -}}
<table>
{{- if .Name}}
<caption>{{.Name}}</caption>
{{- end}}
<tr><th>Value files of living writers</th><td>{{.Alive}}</td></tr>
<tr><th>Value files of dead writers</th><td>{{.Dead}}</td></tr>
<tr><th>Damaged files</th><td>{{.Corrupt}}</td></tr>
<tr><th>Entries</th><td>{{.Entries}}</td></tr>
<tr><th>Series</th><td>{{.Series}}</td></tr>
</table>
{{end -}}
</body>
</html>
`))

// shown is what the page shows of a directory.
type shown struct {
	Name string
	multiproc.Stats
}

// landingPage tells a person who found the port where everything is.
func landingPage(metrics string, pprof bool, dirs *multiproc.Group) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		var all []shown
		for _, dir := range dirs.Dirs() {
			all = append(all, shown{dir.Name(), dir.Stats()})
		}
		err := landing.Execute(&b, struct {
			Path, Version string
			Pprof         bool
			Dirs          []shown
		}{metrics, cmp.Or(version.Version, "dev"), pprof, all})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes()) // an error is the client's, who has gone
	})
}
