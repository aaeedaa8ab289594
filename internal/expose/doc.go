// Package expose turns a snapshot into bytes: the text and OpenMetrics formats,
// their negotiation and compression, and the /metrics handler.
//
// Equal snapshots give equal bytes. Whatever a snapshot holds, the output is
// lawful in its format; what can't be is left out before it gets here.
package expose
