// Package fold adds value files that nobody can write any more into one archive per
// type and gauge mode, and deletes them, so that a crash at any instant loses
// nothing and counts nothing twice.
//
// Words. To claim a file is to give it a name that no process opens. An archive is
// a value file of the daemon's own, with a trailer behind it that names the files
// it includes; a draft is one that is being written.
//
// The steps, in their order, each of which waits for the one before:
//
//  1. claim the files: rename them, never over another one;
//  2. prove that nobody can write them, now that nobody can open them any more by
//     the name they had; those that somebody writes are given back;
//  3. sync the directory, so that no crash brings back an old name of a file that
//     the archive includes, or one that an earlier archive has included;
//  4. write a draft of the old archive and the claimed files together, which names
//     the claimed ones, and sync it;
//  5. rename it over the archive. Before this nothing has happened to any value,
//     after this the claimed files count no more, wherever they are still seen;
//  6. sync the directory, so that the archive is there whenever a file is not;
//  7. delete the claimed files.
//
// Whoever reads the directory takes the files that an archive names for deleted.
// Claimed files that no archive names are dead writers' files like others, which
// the next fold includes. A name is not used for a claim again as long as an
// archive has it in its trailer.
//
// Promises. What is written is what readers of any of the files could read: the keys
// as they were, in the layout of the files, buckets cumulative where they were. No
// sum of a counter, summary or histogram comes out below what it was, be it by
// rounding. The package decides nothing about who is dead; it is told.
package fold
