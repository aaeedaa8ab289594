// Package procs tells what the worker processes of a multiprocess directory cost:
// their CPU time, memory, threads and descriptors, in whatever language they are
// written, from /proc.
//
// Words. A worker is a writer of the directory whose id is its PID. It is seen if
// /proc shows a process of that PID that has one of the writer's files open or mapped
// writable: that it has, is looked up once, and from then on its start time says that
// it is still the same. A process of another PID namespace that happens to have the
// number, or one that got it later, has not.
//
// Promises. Whoever can't be seen is counted and never guessed at. The sum of CPU time
// never falls: a process that has ended keeps what it was last seen to have used, and
// no process counts twice, whatever becomes of its files.
package procs
