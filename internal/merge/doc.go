// Package merge turns the entries of many value files into families of merged
// samples.
//
// Words. A part is one file's share of the index. A cell is one accumulator: a
// counter's or gauge's value, a summary's count or sum, a histogram's sum or one
// of its buckets. An entry of a part is, once its key has been parsed, no more
// than an offset into the file and a cell number.
//
// Promises. A key is parsed when its entry first appears, never again. A
// snapshot reads the 8 or 16 bytes of each entry from the mapping and adds them
// up per cell, without a map look-up or an allocation per entry; a frozen part
// costs nothing. Equal files give equal snapshots, whatever the order in which
// they were found or frozen: sums are exact until they are served, families and
// series are sorted. The package does no I/O, but for what a [Reader] does,
// and reads no clock.
//
// How values become one is told by [Index]; what becomes of families on which
// writers disagree, by [Conflict].
package merge
