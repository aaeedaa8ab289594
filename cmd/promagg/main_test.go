package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/promagg/promagg/internal/mmapfile"
)

// TestMain makes the test binary the program, the process that holds a value file,
// and the application of promagg run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"promagg": main, "hold": hold, "application": application})
}

var update = flag.Bool("update", false, "write the output that the scripts compare with anew")

// TestScript runs the scripts of testdata. Beside testscript's own they have
// these commands:
//
//	exits STATUS COMMAND [ARG...]    run a command that must exit so
//	valuefile FILE LAYOUT KEY=VALUE[@TIMESTAMP]...
//	                                 append entries to a value file; its writer ends
//	many DIR                         make a directory with an exposition of 10 MB
//	exec hold FILE &NAME&            keep a value file's writer alive; FILE.held is there once it is
//	await FILE [PATTERN]             wait until a file is there, and holds what matches
//	listening LOG                    wait until a log tells the address, and set $ADDR to it
//	listen                           take a port and set $TAKEN to its address
//	get [-status N] [-accept TYPE] [-method M] [-line LINE] URL
//	                                 the body on stdout, its headers on stderr, once the status is that
//	                                 and the body has that line
//	! get URL                        wait until nobody listens there
//	begin ADDRESS PATH               begin a request and read only the first line of the answer
//	finish                           read the answer that begin left; its head and size on stdout
//	signal TERM|INT|HUP                  send a signal to the last command in the background
//	json FILE                        check that a file holds one JSON value
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Values[begunKey{}] = new(begun)
			// The race detector lets each process sleep for a second at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"valuefile": valuefile,
			"await":     await,
			"listening": listening,
			"get":       get,
			"begin":     begin,
			"finish":    finish,
			"signal":    sendSignal,
			"json":      checkJSON,
			"listen":    listen,
			"many":      many,
		},
	})
}

// patience is how long a script waits for what must come.
const patience = time.Minute

// eventually calls cond until it returns nil.
func eventually(ts *testscript.TestScript, cond func() error) {
	deadline := time.Now().Add(patience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited for %s: %v", patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exits STATUS COMMAND [ARG...]")
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

var layouts = map[string]mmapfile.Layout{
	mmapfile.ValueOnly.String():      mmapfile.ValueOnly,
	mmapfile.ValueTimestamp.String(): mmapfile.ValueTimestamp,
}

func valuefile(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "valuefile FILE LAYOUT KEY=VALUE[@TIMESTAMP]...")
	layout, ok := layouts[args[1]]
	usage(ts, ok, "LAYOUT is value or value+timestamp")
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	w, err := mmapfile.Create(path, layout, 1)
	ts.Check(err)
	for _, e := range args[2:] {
		i := strings.LastIndexByte(e, '=')
		usage(ts, i >= 0, "KEY=VALUE[@TIMESTAMP]")
		value, at, _ := strings.Cut(e[i+1:], "@")
		v, err := strconv.ParseFloat(value, 64)
		ts.Check(err)
		off, err := w.Append([]byte(e[:i]))
		ts.Check(err)
		w.Set(off, v)
		if at != "" {
			stamp, err := strconv.ParseFloat(at, 64)
			ts.Check(err)
			w.SetAt(off, v, stamp)
		}
	}
	ts.Check(w.Close())
}

// many makes a directory whose exposition is much more than a socket's buffers
// hold: about 10 MB.
func many(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "many DIR")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 16<<20)
	ts.Check(err)
	for i := range 2500 {
		_, err := w.Append(fmt.Appendf(nil, `["many", "many_total", {"i": "%04d", "pad": "%s"}]`, i, strings.Repeat("x", 4000)))
		ts.Check(err)
	}
	ts.Check(w.Close())
}

// hold is the program that keeps a value file's writer alive until it is killed.
func hold() {
	path := os.Args[1]
	if _, err := mmapfile.Create(path, mmapfile.ValueTimestamp, 1); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path+".held", nil, 0o644); err != nil {
		panic(err)
	}
	// The end of the script interrupts what it has left running.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 1 || len(args) == 2), "await FILE [PATTERN]")
	pattern := regexp.MustCompile(cmp.Or(append(args, "")[1], ""))
	eventually(ts, func() error {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && !pattern.Match(content) {
			err = fmt.Errorf("%s has no match for %q: %s", args[0], pattern, content)
		}
		return err
	})
}

var address = regexp.MustCompile(`"?msg"?[=:]"?listening"?[ ,]"?address"?[=:]"?(?:\[::\]|([^ :]+)):(\d+)`)

func listening(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "listening LOG")
	eventually(ts, func() error {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		m := address.FindSubmatch(content)
		if m == nil {
			return fmt.Errorf("no address in the log: %s", content)
		}
		ts.Setenv("ADDR", net.JoinHostPort(cmp.Or(string(m[1]), "127.0.0.1"), string(m[2])))
		return nil
	})
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	status := flags.Int("status", http.StatusOK, "")
	accept := flags.String("accept", "", "")
	method := flags.String("method", http.MethodGet, "")
	line := flags.String("line", "", "")
	usage(ts, flags.Parse(args) == nil && flags.NArg() == 1, "[!] get [-status N] [-accept TYPE] [-method METHOD] [-line LINE] URL")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequest(*method, flags.Arg(0), nil)
	ts.Check(err)
	if *accept != "" {
		request.Header.Set("Accept", *accept)
	}
	if neg {
		eventually(ts, func() error {
			r, err := client.Do(request)
			if err != nil {
				return nil
			}
			r.Body.Close()
			return fmt.Errorf("%s answers with status %s", flags.Arg(0), r.Status)
		})
		return
	}
	var body []byte
	var header http.Header
	eventually(ts, func() error {
		r, err := client.Do(request)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		body, err = io.ReadAll(r.Body)
		if err == nil && r.StatusCode != *status {
			err = fmt.Errorf("want status %d, got %s: %s", *status, r.Status, body)
		}
		if err == nil && *line != "" && !strings.Contains("\n"+string(body), "\n"+*line+"\n") {
			err = fmt.Errorf("want a line %q, got: %s", *line, body)
		}
		header = r.Header
		return err
	})
	_, err = ts.Stdout().Write(body)
	ts.Check(errors.Join(err, header.Write(ts.Stderr())))
}

// begun is a request of which only the first line was read.
type begun struct {
	conn net.Conn
	line []byte
}

type begunKey struct{}

func begin(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "begin ADDRESS PATH")
	b := ts.Value(begunKey{}).(*begun)
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", args[1])
	ts.Check(err)
	b.conn, b.line = conn, make([]byte, len("HTTP/1.0 200 OK\r\n"))
	_, err = io.ReadFull(conn, b.line)
	ts.Check(err)
}

func finish(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "finish")
	b := ts.Value(begunKey{}).(*begun)
	rest, err := io.ReadAll(b.conn)
	ts.Check(err)
	head, body, _ := strings.Cut(string(b.line)+string(rest), "\r\n\r\n")
	// The whole would drown the log of the script.
	fmt.Fprintf(ts.Stdout(), "%s\n%d lines, %d bytes\n", head, strings.Count(body, "\n"), len(body))
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "signal TERM|INT|HUP")
	sig, ok := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}[args[0]]
	usage(ts, ok, "signal TERM|INT|HUP")
	running := ts.BackgroundCmds()
	if len(running) == 0 {
		ts.Fatalf("nothing runs in the background")
	}
	ts.Check(running[len(running)-1].Process.Signal(sig))
}

func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "json FILE")
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
}

func listen(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "listen")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
}
