// Package top shows a multiprocess directory, or a promagg's /metrics, as it changes:
// who the workers are and what they cost, what is counted how fast, and how evenly
// workers share it.
//
// Words. A look is what a [Source] saw at one instant, a [Look]. A rise is by how much a
// count has grown since its source looked for the first time; a rate is the difference
// of two rises by the time between their looks. What counts are counters, and the
// observations of histograms and summaries; gauges have no rate.
//
// The parts. [Dir] and [URL] look; [Workers], [Families] and those beside them make a
// [Table] of two looks, and are pure; [State.Render] lays a table out for a size of
// screen, and is pure too; [Run] has the terminal.
//
// Promises. Nothing is written and no lock is taken: a promagg that serves or folds the
// directory is not disturbed. What can't be known is shown as "-", never as 0. What
// others have named reaches a terminal only as text that it can't take for a command.
package top
