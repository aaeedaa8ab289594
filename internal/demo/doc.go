// Package demo is `promagg demo`: a pre-forked HTTP server that links
// pkg/client, load on it, workers that come and go, and promagg beside it.
//
// Words. A worker is a process that serves the demonstration's application on
// the socket that it has inherited. A slot is what one worker after another
// fills.
//
// Promises. Everything is bound to 127.0.0.1. When [Run] returns, whatever ended
// it, no worker is left and the temporary directory is gone; a worker also ends
// by itself when its parent has died.
package demo
