package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// recorder is a ResponseWriter that notes what is answered. It belongs to the
// request's goroutine. An http.ResponseController gets at what it wraps by
// Unwrap; of what is asked for by type assertion it has what the wrapped one
// has, see asCapable.
type recorder struct {
	http.ResponseWriter
	head     bool // the request is a HEAD: no body that is written goes out
	code     int  // 0 until the header is sent
	size     int64
	hijacked bool
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader notes the first final status: 1xx ones but 101 come before it.
func (r *recorder) WriteHeader(code int) {
	// Before it is noted: an invalid code panics here.
	r.ResponseWriter.WriteHeader(code)
	if code >= 200 || code == http.StatusSwitchingProtocols {
		r.sent(code)
	}
}

func (r *recorder) sent(code int) {
	if r.code == 0 {
		r.code = code
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.sent(http.StatusOK)
	n, err := r.ResponseWriter.Write(b)
	r.wrote(int64(n))
	return n, err
}

// wrote counts what goes out of n bytes of a body.
func (r *recorder) wrote(n int64) {
	if !r.head {
		r.size += n
	}
}

// ReadFrom keeps sendfile(2) for who copies a file into the response.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseWriter, src)
	if n > 0 { // of an empty source no header is sent yet
		r.sent(http.StatusOK)
	}
	r.wrote(n)
	return n, err
}

// FlushError is the flush that an http.ResponseController prefers. The header
// goes out with it.
func (r *recorder) FlushError() error {
	err := http.NewResponseController(r.ResponseWriter).Flush()
	if err == nil {
		r.sent(http.StatusOK)
	}
	return err
}

// Hijack takes the connection over, if the wrapped writer can.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(r.ResponseWriter).Hijack()
	r.hijacked = r.hijacked || err == nil
	return conn, buf, err
}

// answered returns the status code that the client has got, or will.
func (r *recorder) answered(returned bool) int {
	switch {
	case r.code != 0:
		return r.code
	case r.hijacked:
		return http.StatusSwitchingProtocols
	case !returned:
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

type (
	// plain hides the Hijacker of a recorder whose wrapped writer is none, for
	// code that decides by a type assertion.
	plain struct {
		http.ResponseWriter
		rec *recorder
	}
	flusher         struct{ plain }
	hijacker        struct{ plain }
	flusherHijacker struct{ flusher }
)

func (p plain) Unwrap() http.ResponseWriter                     { return p.rec }
func (p plain) ReadFrom(src io.Reader) (int64, error)           { return p.rec.ReadFrom(src) }
func (f flusher) Flush()                                        { _ = f.rec.FlushError() }
func (f flusher) FlushError() error                             { return f.rec.FlushError() }
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.rec.Hijack() }
func (h flusherHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.rec.Hijack()
}

// asCapable returns the recorder as an http.Flusher and an http.Hijacker exactly
// where the wrapped writer is one.
func (r *recorder) asCapable() http.ResponseWriter {
	p := plain{r, r}
	_, flushes := r.ResponseWriter.(http.Flusher)
	_, hijacks := r.ResponseWriter.(http.Hijacker)
	switch {
	case flushes && hijacks:
		return flusherHijacker{flusher{p}}
	case flushes:
		return flusher{p}
	case hijacks:
		return hijacker{p}
	}
	return p
}
