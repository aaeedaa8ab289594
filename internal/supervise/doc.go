// Package supervise is what stands over one program: it starts it, passes signals
// on, waits for it and for all that it leaves behind, and tells how it ended. Its one
// job is to be what a shell, or the first process of a container, has to be.
//
// The *application* is the program that was started, its direct child. A *leftover*
// is a process that the application, or one of its descendants, has started and that
// has lost its parent: it becomes a child of this process, which is a reaper for that
// (PR_SET_CHILD_SUBREAPER, or PID 1). A *stop* is SIGTERM or SIGINT.
//
// The promises:
//
//   - no zombie stays, whoever has started it;
//   - when [Caught.Run] returns, the application and all of its descendants are gone,
//     but on systems without subreapers (macOS) only the application;
//   - a second stop kills all of them, but for one that was sent twice at once;
//   - the application's first process does not outlive this one, however that ends
//     (Linux; not if it changes its user; of its descendants see docs/run.md).
//
// It waits for any child. A process that calls it must have no children of its own
// that somebody else waits for.
package supervise
