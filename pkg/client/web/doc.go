// Package web is the HTTP side of pkg/client: the /metrics handler and a
// middleware that measures requests. It stands apart so that a worker without
// HTTP does not link it.
//
//	handler := web.NewMiddleware(web.MiddlewareOpts{})(mux)
//	mux.Handle("/metrics", web.Handler())
package web
