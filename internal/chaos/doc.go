// Command chaos runs real workers and real promaggs on one directory, kills both at
// random instants, and compares every scrape that is answered with what the workers
// know that they have done. See "make chaos" and "make soak".
//
// A worker is this program again (worker.go). It notes each update before it begins
// and after it is done in memory that outlives it (progress.go). What a killed worker
// had under way is read from its own files, which the parent opens before the kill
// (settle.go), so that no update is in doubt and the totals are known exactly.
//
// What is checked of every scrape (check.go), of whichever promagg:
//
//   - a total is not below what had been done before the scrape began, and not above
//     what had been begun when it ended;
//   - no counter, bucket, count or sum is below what an earlier scrape answered;
//   - live gauges are those of the living, with their values.
//
// At the end all workers pause, the totals must be equal, and the directory must hold
// the archives and the living workers' files only.
//
// The seed repeats what is drawn, not the order in which the kernel runs it.
package main
