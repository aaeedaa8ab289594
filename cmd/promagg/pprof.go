package main

import (
	"net/http"
	"net/http/pprof"

	"github.com/promagg/promagg/internal/limit"
)

// pprofPath is where Go's tools look for profiles.
const pprofPath = "/debug/pprof/"

// maxProfiles is how many profiles are made at the same time: they cost what is to
// be measured.
const maxProfiles = 2

func handlePprof(mux *http.ServeMux, seen *webMetrics) {
	profiles := http.NewServeMux()
	profiles.HandleFunc(pprofPath, pprof.Index)
	profiles.HandleFunc(pprofPath+"cmdline", pprof.Cmdline)
	profiles.HandleFunc(pprofPath+"profile", pprof.Profile)
	profiles.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	profiles.HandleFunc(pprofPath+"trace", pprof.Trace)
	mux.Handle("GET "+pprofPath, limit.AtOnce(maxProfiles, profiles, "too many profiles at once: try again later", seen.refused))
}
