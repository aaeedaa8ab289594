// Package limit bounds what a client may take of an HTTP server: connections,
// requests at the same time, bytes of a request. Its one job is to refuse what
// is past a bound, early and cheaply, so that others are served.
//
// What only the server itself can bound (the time for a header and its size) is
// set at [net/http.Server]; what an answer may take, where answers are made.
package limit
