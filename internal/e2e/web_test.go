package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// web runs a command that ends in `promagg serve`, and returns it and where it
// listens once it does.
func web(t *testing.T, addresses int, cmd *exec.Cmd) (*testpeer.Process, []string) {
	t.Helper()
	p := testpeer.Start(t, cmd)
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("promagg did not end with exit code 0 on SIGTERM: %v", err)
		}
	})
	var bound []string
	testpeer.WaitFor(t, "promagg to listen", patience, func() error {
		if ended, err := p.Exited(); ended {
			t.Fatalf("promagg has ended: %v", err)
		}
		bound = nil
		for _, m := range regexp.MustCompile(`msg=listening address=(\S+)`).FindAllStringSubmatch(p.Log(), -1) {
			bound = append(bound, m[1])
		}
		if len(bound) != addresses {
			return fmt.Errorf("listening on %q, want %d addresses", bound, addresses)
		}
		return nil
	})
	return p, bound
}

// counted is a directory in which a worker has counted jobs_total to 3.
func counted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 1)
	if err != nil {
		t.Fatal(err)
	}
	off, err := w.Append([]byte(`["jobs", "jobs_total", {}, "Jobs."]`))
	if err != nil {
		t.Fatal(err)
	}
	w.Set(off, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPrometheusOverTLS: Prometheus scrapes with a client certificate and a password,
// also after all certificates were replaced; without one of them it gets nothing.
func TestPrometheusOverTLS(t *testing.T) {
	testpeer.Require(t, testpeer.Prometheus)
	site := t.TempDir()
	ca := testpeer.NewCA(t, site)
	ca.Issue(t, site, "promagg")
	ca.Issue(t, site, "scraper")
	config := filepath.Join(site, "web.yml")
	// The password is "secret".
	if err := os.WriteFile(config, []byte(`tls_server_config:
  cert_file: promagg.crt
  key_file: promagg.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [scraper]
  min_version: TLS13
basic_auth_users:
  prometheus: $2a$04$cit5oXoZM67K4/LT3Y8w2eE5Sacx57YNJB/2r6e.Eub33GvF0b7Ea
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, bound := web(t, 1, command(testpeer.Promagg(t), "serve", "--dir", counted(t), "--web.listen-address", "127.0.0.1:0", "--web.config.file", config))
	if !strings.Contains(p.Log(), " tls=true") {
		t.Errorf("the log does not tell of TLS:\n%s", p.Log())
	}
	job := func(name, tls, auth string) string {
		return fmt.Sprintf(`
- job_name: %s
  scheme: https
  static_configs: [{targets: ['%s']}]
  tls_config: {ca_file: %s/ca.crt%s}
  %s`, name, bound[0], site, tls, auth)
	}
	cert := fmt.Sprintf(", cert_file: %[1]s/scraper.crt, key_file: %[1]s/scraper.key", site)
	password := "basic_auth: {username: prometheus, password: secret}"
	jobs := job("all", cert, password) + job("nocert", "", password) + job("nopassword", cert, "") +
		job("wrong", cert, "basic_auth: {username: prometheus, password: x}") + "\n"
	sees := func(prom *prometheus) {
		t.Helper()
		for query, want := range map[string]float64{
			`jobs_total{job="all"}`: 3, `up{job="all"}`: 1, `up{job="nocert"}`: 0, `up{job="nopassword"}`: 0, `up{job="wrong"}`: 0,
			`count(jobs_total)`: 1,
		} {
			testpeer.WaitFor(t, query, patience, func() error {
				if got := prom.query(t, query); len(got) != 1 || got[0].Value.value != want {
					return fmt.Errorf("%s is %v, want %v", query, got, want)
				}
				return nil
			})
		}
	}
	sees(startPrometheusWith(t, jobs))

	// All are new, the authority too. Whoever has a connection may keep it.
	ca = testpeer.NewCA(t, site)
	ca.Issue(t, site, "scraper")
	serial := ca.Issue(t, site, "promagg")
	client := ca.Client(t, site, "scraper")
	if got := shownSerial(t, bound[0], client); got != serial {
		t.Errorf("the certificate %d is shown, want %d", got, serial)
	}
	sees(startPrometheusWith(t, jobs))
	if strings.Contains(p.Log(), "level=ERROR") || strings.Contains(p.Log(), "level=WARN") {
		t.Errorf("the log has more than it should:\n%s", p.Log())
	}
}

// shownSerial is the serial number of the certificate that a server shows.
func shownSerial(t *testing.T, address string, client *tls.Config) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// curl is what curl prints of a page over a unix socket.
func curl(t *testing.T, socket, path string) string {
	t.Helper()
	return output(t, command(testpeer.Curl.Path(), "--silent", "--show-error", "--fail", "--max-time", "30", "--unix-socket", socket, "http://promagg"+path))
}

// TestUnixSocket: curl gets the metrics over a unix socket, also after the promagg
// that had it before was killed.
func TestUnixSocket(t *testing.T) {
	testpeer.Require(t, testpeer.Curl)
	dir, socket := counted(t), filepath.Join(t.TempDir(), "promagg.sock")
	argv := []string{testpeer.Promagg(t), "serve", "--dir", dir, "--web.listen-address", "unix://" + socket}
	killed := testpeer.Start(t, command(argv...))
	testpeer.WaitFor(t, "the socket", patience, func() error {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err
	})
	killed.Kill(t)
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("a killed promagg has cleaned up: %v", err)
	}
	p, bound := web(t, 1, command(argv...))
	if bound[0] != "unix://"+socket {
		t.Errorf("the log says %q", bound[0])
	}
	if got := curl(t, socket, "/metrics"); !strings.Contains(got, "\njobs_total 3\n") {
		t.Errorf("metrics over the socket: %s", got)
	}
	if got := curl(t, socket, "/-/healthy"); got != "promagg is healthy.\n" {
		t.Errorf("health over the socket: %q", got)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// underSystemd is a shell that runs a program as systemd does that gives it sockets:
// from descriptor 3 on, with their number and the program's own PID in the environment.
const underSystemd = `LISTEN_PID=$$ LISTEN_FDS=$0 LISTEN_FDNAMES=$1; export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; shift; exec "$@"`

// TestSystemdSockets: promagg serves on sockets that were there before it.
func TestSystemdSockets(t *testing.T) {
	testpeer.Require(t, testpeer.Curl)
	dir, socket := counted(t), filepath.Join(t.TempDir(), "promagg.sock")
	file := func(l interface{ File() (*os.File, error) }) *os.File {
		t.Helper()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	serve := []string{testpeer.Promagg(t), "serve", "--dir", dir, "--web.systemd-socket"}
	cmd := command(append([]string{"/bin/sh", "-c", underSystemd, "2", "tcp:unix"}, serve...)...)
	cmd.ExtraFiles = []*os.File{file(tcp.(*net.TCPListener)), file(unix.(*net.UnixListener))}
	p, bound := web(t, 2, cmd)
	if bound[0] != tcp.Addr().String() || bound[1] != "unix://"+socket {
		t.Errorf("listening on %q", bound)
	}
	if got, err := fetch("http://" + bound[0] + "/metrics"); err != nil || !strings.Contains(got, "\njobs_total 3\n") {
		t.Errorf("metrics: %s, %v", got, err)
	}
	if got := curl(t, socket, "/metrics"); !strings.Contains(got, "\njobs_total 3\n") {
		t.Errorf("metrics over the unix socket: %s", got)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	// It is systemd's, which will start promagg again when somebody connects.
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("promagg has removed a socket that is not its own: %v", err)
	}

	// What is no socket to listen on is an error, not silence.
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	cmd = command(append([]string{"/bin/sh", "-c", underSystemd, "1", "udp"}, serve...)...)
	cmd.ExtraFiles = []*os.File{file(packets.(*net.UDPConn))}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "promagg: error: --web.systemd-socket: ") {
		t.Errorf("with a socket for packets: %v: %s", err, out)
	}
}
