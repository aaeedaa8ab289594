// Package foldtest holds the tests that break folding at every place where it can
// break: the daemon is killed or hindered before each step that changes the
// directory, the machine stops with any part of what was not synced on its disk,
// and writers come, die and come back meanwhile. What is served afterwards must
// equal what a model of the writers says, to the last sample.
//
// With PROMAGG_TEST_LONG set in the environment the tests take minutes and see
// more of the same.
package foldtest
