// Package remotewrite sends snapshots to a Prometheus remote write receiver, for
// hosts that nobody can scrape.
//
// Words. A point is a sample of one series; its time is that of the snapshot it
// comes from. A batch is the points of one request, all of one snapshot. The queue
// holds the batches that no receiver has confirmed.
//
// Promises. Batches are sent one after the other, oldest first, so that the points
// of a series arrive in order. A batch that may not have arrived is sent again as
// it was, with its time: a receiver that has it already stores nothing twice. The
// queue is bounded by points and by age; what leaves it without having been
// confirmed is counted, by reason. A series that vanishes is ended by a stale
// marker, as when it vanishes from a scrape; one that is there at the stop is not,
// as a server that stops does not end what it scrapes either.
//
// The message is that of remote write 2.0. A receiver that has only 1.0 says so, or
// confirms nothing of what it was sent; it gets 1.0 from then on.
package remotewrite
