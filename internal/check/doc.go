// Package check looks at a multiprocess directory, at the processes that write there
// and at what comes of it, and tells an operator what is wrong or soon will be.
//
// Words. A finding is one thing to tell; its id, which never changes its meaning, says
// of which kind. An error is something that loses values or keeps them from being
// served, a warning something that will or may, a hint something that could be better.
// What the findings are made of are facts: [Gather] looks at the world once, and each
// check is a function of facts alone.
//
// Promises. The directory stays as it is, but for a file of promagg's own that is there
// for a moment, whose name no reader of value files takes for one; read-only not even
// that. No process is changed or stopped. What can't be seen for want of privileges is
// said, and no finding is made of it.
package check
