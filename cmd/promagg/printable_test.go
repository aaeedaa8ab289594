package main

import (
	"bytes"
	"net"
	"testing"
)

// TestErrorsHostile: what a server answers does not reach the terminal as it is, by way
// of an error. net/http keeps a reason phrase as it came.
func TestErrorsHostile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096)) // the request
			_, _ = c.Write([]byte("HTTP/1.1 404 \x1b]0;owned\a \xc2\x9b31m \xff \u202e\"é\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			_ = c.Close()
		}
	}()
	var stdout, stderr bytes.Buffer
	at := "http://" + l.Addr().String() + "/metrics"
	if code := exitCode(run(t.Context(), []string{"top", "--once", "--url", at}, &stdout, &stderr), &stderr); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	want := "promagg: error: " + at + ` answers 404 \x1b]0;owned\a \u009b31m \xff \u202e"é": give with --url where the metrics are, /metrics included` + "\n"
	if stderr.String() != want {
		t.Errorf("got  %q\nwant %q", &stderr, want)
	}
}
