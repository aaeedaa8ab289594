// Package multiproc keeps a merge of a multiprocess directory current: it finds
// the directory's value files, watches for new ones, asks the kernel whose
// writers are alive, and feeds an index that snapshots are taken from.
//
// Words. The directory is what PROMETHEUS_MULTIPROC_DIR names in the workers. A
// file is alive as long as some process can still write it, dead once none can.
//
// Promises. The directory is the truth, at every snapshot: a file that was there
// before the snapshot was asked for is in it, one that was deleted is not, and
// the live gauges of a writer that had died are not. A file that can't be read
// costs itself, never the snapshot; it is logged once and counted.
package multiproc
