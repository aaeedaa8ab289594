// Package mmapfile reads and writes value files: the memory-mapped files in
// which one worker process keeps the current values of its metrics.
//
// Words. A value file belongs to one writer process and holds the entries of
// one metric type (and, for gauges, one multiprocess mode). An entry is a JSON
// key and an 8-byte value, in the value+timestamp layout followed by an 8-byte
// timestamp. Entries below the header's used count never move and never
// disappear; used only grows.
//
// Promises. Nothing in a file is trusted: every length and offset is checked
// before it is used, bad bytes are an error and never a panic, and a file that
// shrinks under its mapping (SIGBUS) is an error from [Guard], not a crash. The
// reading side opens and maps read-only. This is the only package of promagg
// that imports unsafe, golang.org/x/sys and mmap-go; it knows nothing of merging.
package mmapfile
