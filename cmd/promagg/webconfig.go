package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"github.com/promagg/promagg/internal/mmapfile"
)

// webConfig is the file that --web.config.file names, with TLS and users. The
// toolkit reads its file anew for each request, and refuses them all while there is
// something wrong with it. So it is given a copy, which only a file without a fault
// replaces. The certificates, which it reads for each connection, are no copies.
type webConfig struct {
	path string

	mu     sync.Mutex // protects all below
	copy   *mmapfile.Private
	parsed *web.Config
}

// openWebConfig reads the file; "" is none.
func openWebConfig(path string) (*webConfig, error) {
	if path == "" {
		return nil, nil
	}
	c := &webConfig{path: path}
	parsed, content, err := c.read()
	if err != nil {
		return nil, err
	}
	if c.copy, err = mmapfile.NewPrivate(content); err != nil {
		return nil, c.wrap(err)
	}
	if err := web.Validate(c.copy.Path()); err != nil {
		return nil, c.wrap(errors.Join(fmt.Errorf("its copy in memory can't be used: %w", err), c.copy.Close()))
	}
	c.parsed = parsed
	return c, nil
}

func (c *webConfig) wrap(err error) error {
	return fmt.Errorf("--web.config.file: %s: %w", c.path, err)
}

// read returns the file as it is now if there is no fault in it: what it says, and a
// copy that says the same wherever it is.
func (c *webConfig) read() (*web.Config, []byte, error) {
	if err := web.Validate(c.path); err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil, nil, fmt.Errorf("--web.config.file: %w", err) // which has the path
		}
		// YAML's errors have lines of their own.
		return nil, nil, c.wrap(errors.New(strings.Join(strings.Fields(err.Error()), " ")))
	}
	content, err := os.ReadFile(c.path)
	if err != nil {
		return nil, nil, fmt.Errorf("--web.config.file: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(c.path))
	if err != nil {
		return nil, nil, c.wrap(err)
	}
	want, err := parseWebConfig(content, dir)
	if err != nil {
		return nil, nil, c.wrap(err)
	}
	copied, err := withPaths(content, want)
	if err != nil {
		return nil, nil, c.wrap(err)
	}
	// Nobody is to be let in because a copy says something else.
	if got, err := parseWebConfig(copied, "/"); err != nil || !reflect.DeepEqual(got, want) {
		return nil, nil, c.wrap(errors.Join(errors.New("it can't be copied: write it without YAML's anchors and tags"), err))
	}
	return want, copied, nil
}

// parseWebConfig reads a file of dir as the toolkit does.
func parseWebConfig(content []byte, dir string) (*web.Config, error) {
	c := &web.Config{
		TLSConfig:  web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: web.HTTPConfig{HTTP2: true},
	}
	err := yaml.UnmarshalStrict(content, c)
	c.TLSConfig.SetDirectory(dir)
	return c, err
}

// withPaths returns the file with whole paths in it.
func withPaths(content []byte, c *web.Config) ([]byte, error) {
	var doc yaml.MapSlice
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, err
	}
	if len(doc) == 0 {
		return content, nil
	}
	paths := map[any]string{"cert_file": c.TLSConfig.TLSCertPath, "key_file": c.TLSConfig.TLSKeyPath, "client_ca_file": c.TLSConfig.ClientCAs}
	for _, section := range doc {
		settings, ok := section.Value.(yaml.MapSlice)
		if section.Key != "tls_server_config" || !ok {
			continue
		}
		for i, s := range settings {
			if path := paths[s.Key]; path != "" {
				settings[i].Value = path
			}
		}
	}
	return yaml.Marshal(doc)
}

// reload takes over the file as it is now, and returns what is not as it was. What
// can't be taken over leaves all as it was.
func (c *webConfig) reload() ([]string, error) {
	parsed, content, err := c.read()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fixed := range []struct {
		what string
		same bool
	}{
		{"TLS can't be turned on or off", parsed.TLSConfig.IsEnabled() == c.parsed.TLSConfig.IsEnabled()},
		{"http_server_config.http2 can't change", parsed.HTTPConfig.HTTP2 == c.parsed.HTTPConfig.HTTP2},
		{"rate_limit can't change", parsed.RateLimiterConfig == c.parsed.RateLimiterConfig},
	} {
		if !fixed.same {
			return nil, c.wrap(fmt.Errorf("%s while promagg runs: restart it", fixed.what))
		}
	}
	changes := changed("", reflect.ValueOf(*c.parsed), reflect.ValueOf(*parsed))
	if len(changes) == 0 {
		return nil, nil
	}
	if err := c.copy.Replace(content); err != nil {
		return nil, c.wrap(err)
	}
	c.parsed = parsed
	return changes, nil
}

// changed names the settings that differ, by their names in the file. What they are
// set to is nobody's business who reads the log.
func changed(name string, was, is reflect.Value) (names []string) {
	if reflect.DeepEqual(was.Interface(), is.Interface()) {
		return nil
	}
	below := func(s string) string { return strings.TrimPrefix(name+"."+s, ".") }
	switch was.Kind() {
	case reflect.Struct:
		for i := range was.NumField() {
			field, _, _ := strings.Cut(was.Type().Field(i).Tag.Get("yaml"), ",")
			names = append(names, changed(below(field), was.Field(i), is.Field(i))...)
		}
		return names
	case reflect.Map:
		for _, key := range slices.Sorted(maps.Keys(keys(was, is))) {
			a, b := was.MapIndex(reflect.ValueOf(key)), is.MapIndex(reflect.ValueOf(key))
			switch {
			case !a.IsValid():
				names = append(names, below(key)+" added")
			case !b.IsValid():
				names = append(names, below(key)+" removed")
			default:
				names = append(names, changed(below(key), a, b)...)
			}
		}
		return names
	}
	return []string{name}
}

func keys(ms ...reflect.Value) map[string]bool {
	set := make(map[string]bool)
	for _, m := range ms {
		for _, key := range m.MapKeys() {
			set[key.String()] = true
		}
	}
	return set
}

// encrypted reports whether there is TLS.
func (c *webConfig) encrypted() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parsed.TLSConfig.IsEnabled()
}

// serve serves on l as the file says.
func (c *webConfig) serve(l net.Listener, server *http.Server, log *slog.Logger) error {
	path := ""
	if c != nil {
		path = c.copy.Path()
	}
	return web.Serve(l, server, &web.FlagConfig{WebConfigFile: &path}, slog.New(faults{log.Handler()}))
}

func (c *webConfig) close() {
	if c != nil {
		_ = c.copy.Close() // nothing of it is left either way
	}
}

// faults passes on what is more than information: where promagg listens, it says itself.
type faults struct{ slog.Handler }

func (f faults) Enabled(ctx context.Context, level slog.Level) bool {
	return level > slog.LevelInfo && f.Handler.Enabled(ctx, level)
}

// openWeb reads what --web.config.file names.
func (f *serveFlags) openWeb() (err error) {
	if f.secure, err = openWebConfig(f.config); err != nil || f.secure == nil {
		return err
	}
	f.reloads.add("web configuration", f.secure.reload)
	return nil
}
