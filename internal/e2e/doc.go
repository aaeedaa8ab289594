// Package e2e holds the tests that look at promagg from outside: the built
// program serves what real workers of other people's clients write, and real
// scrapers read it. No test here knows promagg's packages; what they rely on is
// the command line, the log line with the bound address, and the expositions.
package e2e
