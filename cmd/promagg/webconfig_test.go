package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// site is a directory with certificates and the file that --web.config.file names.
type site struct {
	dir, file string
	ca        *testpeer.CA
}

// hash is what bcrypt makes of "secret".
const (
	hash  = "$2a$04$cit5oXoZM67K4/LT3Y8w2eE5Sacx57YNJB/2r6e.Eub33GvF0b7Ea"
	plain = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
	both  = "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}\n"
)

func newSite(t *testing.T, config string) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	s.file = filepath.Join(s.dir, "web.yml")
	s.ca = testpeer.NewCA(t, s.dir)
	s.ca.Issue(t, s.dir, "server")
	s.ca.Issue(t, s.dir, "scraper")
	s.write(t, config)
	return s
}

func (s *site) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open makes f serve as the file says.
func (s *site) open(t *testing.T, f *serveFlags) {
	t.Helper()
	f.config = s.file
	if err := f.openWeb(); err != nil {
		t.Fatal(err)
	}
}

// TestTLSSlowHandshakes: who connects and does not come to the end of a handshake is
// cut off, whatever he has sent, and others are served meanwhile.
func TestTLSSlowHandshakes(t *testing.T) {
	s := newSite(t, plain)
	v := serveSecure(t, jobs(t, false), s.ca.Client(t, s.dir, ""), func(f *serveFlags) {
		f.web.header = short
		s.open(t, f)
	})
	var all sync.WaitGroup
	for _, text := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		silent := v.dial(t, text)
		all.Go(func() {
			if _, err := io.Copy(io.Discard, silent); isTimeout(err) {
				t.Errorf("%q and then nothing: the connection is not closed after %s", text, patience)
			}
		})
		if text != "" {
			dripping := v.dial(t, text)
			all.Go(func() { drip(t, dripping) })
		}
	}
	// After the handshake the same is true of the request.
	shaken := tls.Client(v.dial(t, ""), s.client(t, "127.0.0.1"))
	if err := shaken.Handshake(); err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		if _, err := io.Copy(io.Discard, shaken); isTimeout(err) {
			t.Errorf("a handshake and then nothing: the connection is not closed after %s", patience)
		}
	})
	v.served(t)
	all.Wait()
	v.served(t)
}

func (s *site) client(t *testing.T, server string) *tls.Config {
	c := s.ca.Client(t, s.dir, "")
	c.ServerName = server
	return c
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// TestTLSFew: those who never begin a handshake, or end it and ask for nothing, make
// room for others where there is little, with no time limit to help.
func TestTLSFew(t *testing.T) {
	s := newSite(t, plain)
	v := serveSecure(t, jobs(t, false), s.ca.Client(t, s.dir, ""), func(f *serveFlags) {
		f.web.connections, f.web.header = 2, time.Hour
		s.open(t, f)
	})
	for range 3 {
		for _, text := range []string{"", "\x16\x03\x01"} {
			v.dial(t, text)
			v.dial(t, text)
			v.served(t)
		}
		for _, protos := range [][]string{{"http/1.1"}, {"h2"}} {
			for range 2 {
				c := s.client(t, "127.0.0.1")
				c.NextProtos = protos
				if err := tls.Client(v.dial(t, ""), c).Handshake(); err != nil {
					t.Fatal(err)
				}
			}
			v.served(t)
		}
	}
}

// TestTLSReadersAreCutOff: by HTTP/2, too, who takes nothing any more of an answer
// loses it, and the place goes to others.
func TestTLSReadersAreCutOff(t *testing.T) {
	s := newSite(t, plain)
	v := serveSecure(t, jobs(t, true), s.ca.Client(t, s.dir, ""), func(f *serveFlags) {
		f.web.requests, f.web.stall = 3, short
		s.open(t, f)
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.ca.Client(t, s.dir, ""), ForceAttemptHTTP2: true, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var bodies []io.ReadCloser
	for range 3 {
		r, err := client.Get(v.url("/metrics?name[]=many"))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.ProtoMajor != 2 || r.StatusCode != http.StatusOK {
			t.Fatalf("%s, status %d", r.Proto, r.StatusCode)
		}
		bodies = append(bodies, r.Body)
	}
	v.healthy(t)
	testpeer.WaitFor(t, "all of them to be cut off", patience, func() error {
		status, _, body, err := v.get("/metrics?name[]=promagg_http_requests_refused")
		if err == nil && (status != http.StatusOK || !strings.Contains(body, `{reason="slow"} 3`)) {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
	for _, body := range bodies {
		if n, err := io.Copy(io.Discard, body); err == nil {
			t.Errorf("%d bytes, and no error: want less than all", n)
		}
	}
	v.served(t)
}

// TestTLSCertificates: a new certificate is shown at the next connection, without a
// reload; clients without one of ours are not let in.
func TestTLSCertificates(t *testing.T) {
	s := newSite(t, both)
	v := serveSecure(t, jobs(t, false), s.ca.Client(t, s.dir, "scraper"), func(f *serveFlags) { s.open(t, f) })
	serial := func() int64 {
		conn, err := tls.Dial("tcp", v.address, v.tls)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if version := conn.ConnectionState().Version; version != tls.VersionTLS13 {
			t.Errorf("TLS %x, want 1.3", version)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	before := serial()
	if want := s.ca.Issue(t, s.dir, "server"); serial() != want || want == before {
		t.Errorf("certificate %d is shown, want %d; before it was %d", serial(), want, before)
	}
	// Another authority of clients counts at once, too.
	other := t.TempDir()
	stranger := testpeer.NewCA(t, other)
	stranger.Issue(t, other, "scraper")
	theirs := stranger.Client(t, other, "scraper")
	theirs.RootCAs = v.tls.RootCAs
	for name, c := range map[string]*tls.Config{"no certificate": s.ca.Client(t, s.dir, ""), "a stranger's": theirs} {
		if status, _, _, err := (&target{v.address, c}).get("/metrics"); err == nil {
			t.Errorf("%s: status %d, want no connection", name, status)
		}
	}
	ca, err := os.ReadFile(filepath.Join(other, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	(&target{v.address, theirs}).served(t)
	if status, _, _, err := v.get("/metrics"); err == nil {
		t.Errorf("the old authority's client: status %d, want no connection", status)
	}
}

// ask asks for path as a user; "" is none.
func (v *target) ask(t *testing.T, user, password string) (status int, header http.Header) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, v.url("/metrics?name[]=jobs"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: v.tls}
	answer, err := (&http.Client{Timeout: patience, Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode, answer.Header
}

// TestWebConfigReload: what is wrong with the file when it is reloaded leaves all as
// it was; what is right about it holds from then on, not before.
func TestWebConfigReload(t *testing.T) {
	s := newSite(t, "http_server_config: {headers: {X-Frame-Options: deny}}\n")
	var f *serveFlags
	v := serveSecure(t, jobs(t, false), nil, func(flags *serveFlags) {
		f = flags
		s.open(t, f)
	})
	reload := func() string {
		var b bytes.Buffer
		err := f.reloads.reload(slog.New(slog.NewTextHandler(&b, nil)))
		if (err != nil) != strings.Contains(b.String(), "level=ERROR") {
			t.Errorf("%v: %s", err, &b)
		}
		if n := strings.Count(b.String(), "\n"); n != 1 {
			t.Errorf("%d lines, want 1: %s", n, &b)
		}
		return b.String()
	}
	expect := func(log, pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(log) {
			t.Errorf("%q is not in %s", pattern, log)
		}
	}
	status := func(user, password string, want int) {
		t.Helper()
		if got, _ := v.ask(t, user, password); got != want {
			t.Errorf("%s with %q: status %d, want %d", user, password, got, want)
		}
	}
	expect(reload(), `msg="reloaded: nothing has changed" what="web configuration"`)
	if _, header := v.ask(t, "", ""); header.Get("X-Frame-Options") != "deny" {
		t.Errorf("headers %v, want X-Frame-Options", header)
	}

	s.write(t, "basic_auth_users: {anna: "+hash+"}\n")
	status("", "", http.StatusOK) // not yet
	expect(reload(), `msg=reloaded what="web configuration" changed="http_server_config.headers.X-Frame-Options removed, basic_auth_users.anna added"`)
	status("", "", http.StatusUnauthorized)
	status("anna", "secret", http.StatusOK)
	status("anna", "wrong", http.StatusUnauthorized)
	status("otto", "secret", http.StatusUnauthorized)

	for config, want := range map[string]string{
		"basic_auth_users: {anna: plain}\n":    "crypto/bcrypt",
		"basic_auth_users: [\n":                "yaml: line",
		"basic_auth_user: {}\n":                "field basic_auth_user not found",
		plain:                                  "TLS can't be turned on or off while promagg runs: restart it",
		"http_server_config: {http2: false}\n": "http2 can't change while promagg runs: restart it",
		"rate_limit: {interval: 1s}\n":         "rate_limit can't change while promagg runs: restart it",
		"tls_server_config: {cert_file: a.crt, key_file: a.key}\n": "failed to read cert_file",
		"http_server_config: {headers: {X-Mine: 1}}\n":             "can not be configured",
	} {
		s.write(t, config)
		expect(reload(), `level=ERROR msg="not reloaded: what was read before goes on to hold" what="web configuration" err="--web.config.file: `+regexp.QuoteMeta(s.file)+`: .*`+regexp.QuoteMeta(want))
		status("", "", http.StatusUnauthorized)
		status("anna", "secret", http.StatusOK)
	}
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	expect(reload(), `err="--web.config.file: open `+regexp.QuoteMeta(s.file)+`: no such file or directory"`)
	status("", "", http.StatusUnauthorized)

	s.write(t, "basic_auth_users: {otto: "+hash+"}\n")
	log := reload()
	expect(log, `changed="basic_auth_users.anna removed, basic_auth_users.otto added"`)
	if strings.Contains(log, "2y") {
		t.Errorf("a secret is in the log: %s", log)
	}
	status("otto", "secret", http.StatusOK)
	status("anna", "secret", http.StatusUnauthorized)
}

// TestWebConfigCopy: the copy says what the file says, in whatever form it is written.
func TestWebConfigCopy(t *testing.T) {
	s := newSite(t, "")
	cert, err := os.ReadFile(filepath.Join(s.dir, "server.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	indented := func(b []byte) string { return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n    ") }
	for name, config := range map[string]string{
		"empty":    "",
		"comments": "# nothing\n---\n",
		"inline":   "tls_server_config:\n  cert: |\n    " + indented(cert) + "\n  key: |\n    " + indented(key) + "\n",
		"all": `tls_server_config:
  cert_file: ./server.crt
  key_file: ` + s.dir + `/server.key
  client_ca_file: "ca.crt"
  client_auth_type: VerifyClientCertIfGiven
  client_allowed_sans: [scraper, 10.0.0.1]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  curve_preferences: [X25519, CurveP256]
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: "max-age=63072000"
    X-XSS-Protection: 0
rate_limit: {interval: 1s, burst: 5}
basic_auth_users:
  "0123": ` + hash + `
  4711: ` + hash + `
  'yes': ` + hash + "\n",
		"anchors": "basic_auth_users:\n  anna: &h " + hash + "\n  otto: *h\n",
	} {
		t.Run(name, func(t *testing.T) {
			s.write(t, config)
			c, err := openWebConfig(s.file)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if changes, err := c.reload(); err != nil || len(changes) > 0 {
				t.Errorf("changes %q, %v: want none", changes, err)
			}
		})
	}
}

// TestManyAddresses: all addresses are served, over unix sockets too, and the limit
// on connections is one for all of them.
func TestManyAddresses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "promagg.sock")
	// A socket that a killed process has left.
	stale, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()

	f := listenFlags{addresses: []string{"127.0.0.1:0", "127.0.0.1:0", "unix://" + socket}}
	l, err := f.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening := addresses(l)
	if len(listening) != 3 || listening[0] == listening[1] || listening[2] != "unix://"+socket {
		t.Fatalf("listening on %q", listening)
	}
	if _, err := listenOn("unix://" + socket); err == nil || !strings.Contains(err.Error(), "somebody listens there already") {
		t.Errorf("a second time on the same socket: %v", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })}
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	for _, address := range listening {
		network := "tcp"
		if path, ok := strings.CutPrefix(address, unixScheme); ok {
			network, address = "unix", path
		}
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
		if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), "served") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
		conn.Close()
	}
	server.Close()
	if err := <-ended; err != http.ErrServerClosed {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	// What is no socket is nobody's to remove.
	if err := os.WriteFile(socket, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&listenFlags{addresses: []string{"127.0.0.1:0", "unix://" + socket}}).listen(); err == nil || !strings.Contains(err.Error(), "--web.listen-address") {
		t.Errorf("over a file: %v", err)
	}
	if got, err := os.ReadFile(socket); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if !slices.Equal(f.addresses[:2], []string{"127.0.0.1:0", "127.0.0.1:0"}) {
		t.Errorf("the flags have changed: %q", f.addresses)
	}
}
