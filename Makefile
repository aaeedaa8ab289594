SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

# The version is what git says about the checkout; nothing of the time or place
# of the build goes in, so the same commit gives the same binary.
VERSION = $(or $(patsubst v%,%,$(shell git describe --tags --dirty 2>/dev/null)),dev)
REVISION = $(shell git rev-parse --verify --quiet HEAD 2>/dev/null)
BRANCH = $(shell git symbolic-ref --quiet --short HEAD 2>/dev/null)
BUILD_DATE = $(shell TZ=UTC git log -1 --date=format-local:%Y%m%d-%H:%M:%S --format=%cd 2>/dev/null)
BUILD_USER = promagg

FUZZTIME  ?= 60s
BENCHARGS ?=
CHAOSTIME ?= 10m
SOAKTIME  ?= 1h
CHAOSARGS ?=

version_pkg := github.com/prometheus/common/version
ldflags = -X $(version_pkg).Version=$(VERSION) \
          -X $(version_pkg).Revision=$(REVISION) \
          -X $(version_pkg).Branch=$(BRANCH) \
          -X $(version_pkg).BuildUser=$(BUILD_USER) \
          -X $(version_pkg).BuildDate=$(BUILD_DATE)

.DEFAULT_GOAL := help
.PHONY: help build docs docs-metrics man demo demo-gunicorn test lint fuzz chaos soak bench bench-quick deb dist dist-check trial clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Without cgo, so that the result does not depend on a C compiler being there.
build: ## Build bin/promagg
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(ldflags)' -o bin/promagg ./cmd/promagg

gendocs = go run -buildvcs=false -tags gendocs ./cmd/promagg gen-docs

docs: ## Make docs/cli.md anew from the commands
	$(gendocs) markdown >docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

# As old as the commit, so that the same one gives the same pages.
man: ## Make manual pages and completion scripts, in dist/man and dist/completions
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) $(gendocs) man dist/man
	$(gendocs) completions dist/completions

demo: build ## Run a pre-forked Go server and promagg until Ctrl-C, or for DEMO_SECONDS=N
	@exec bin/promagg demo $(if $(DEMO_SECONDS),--for $(DEMO_SECONDS)s)

demo-gunicorn: ## The same with a Flask application under gunicorn
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory build
	@exec examples/gunicorn/demo.sh

docs-metrics: ## Write the table in docs/metrics.md anew
	go test ./cmd/promagg -run '^TestMetricsDoc$$' -update

test: ## Install what the tests need, run them all with the race detector, fuzz each target for 10 s
	@scripts/setup.sh test
	CGO_ENABLED=1 go test -race -timeout 40m ./...
	go test -run '^(TestFoldUnderTruncation|TestFewMappings)$$' ./internal/multiproc ./pkg/client
	@$(MAKE) --no-print-directory fuzz FUZZTIME=10s

lint: ## Check formatting, go vet, staticcheck and the import rules
	@unformatted=$$(gofmt -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted >&2; exit 1; fi
	go vet ./...
	go vet -tags gendocs ./cmd/promagg
	GOOS=darwin go vet ./...
	GOARCH=arm64 go vet ./...
	go tool staticcheck ./...
	scripts/check-imports.sh

# Go fuzzes one target of one package at a time. go test -list prints the
# targets of a package and then "ok <package>".
#
# At the end of the time, go before 1.27 sometimes reports its own deadline as a
# failure (https://go.dev/issue/75804). A real one comes with an input, or with
# more to say than that.
fuzz: ## Fuzz each target for FUZZTIME (60s)
	@list=$$(go test -list '^Fuzz' ./...) || { echo "$$list" >&2; exit 1; }; \
	log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	awk '/^Fuzz/ { t[n++] = $$1 } $$1 == "ok" { for (i = 0; i < n; i++) print $$2, t[i]; n = 0 }' <<<"$$list" | \
	while read -r pkg target; do \
		echo "== $$pkg $$target"; \
		if go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "$$pkg" </dev/null 2>&1 | tee "$$log"; then continue; fi; \
		grep -A1 -e '^--- FAIL: ' "$$log" | grep -qx '    context deadline exceeded' || exit 1; \
		! grep -q 'Failing input written' "$$log" || exit 1; \
		echo "(the time was up; not a failure)"; \
	done

# With more of its flags in CHAOSARGS, -seed among them.
chaos: ## Kill workers and promagg at random for CHAOSTIME (10m), and check every scrape
	go run ./internal/chaos -time $(CHAOSTIME) $(CHAOSARGS)

soak: ## Recycle workers for SOAKTIME (1h), and print what promagg and its directory cost
	go run ./internal/chaos soak -time $(SOAKTIME) $(CHAOSARGS)

bench: ## Run the benchmark
	go run ./bench $(BENCHARGS)

bench-quick: ## Run a short form of the benchmark
	go run ./bench -quick $(BENCHARGS)

deb: man ## Make Debian packages in dist
	scripts/deb.sh dist

dist: man ## Make release archives, bills of materials and checksums in dist
	scripts/dist.sh dist

dist-check: ## Make all of that twice, and compare
	scripts/dist-check.sh

# As root. With ROOT=DIR, a system that debootstrap has made, it need not be made anew.
trial: ## Try package, units, gunicorn, TLS and remote write in a fresh Debian 12
	@scripts/setup.sh trial
	@$(MAKE) --no-print-directory deb
	scripts/trial.sh "$$(ls -t dist/promagg_*_amd64.deb | head -1)" $(ROOT)

clean: ## Remove what was built
	rm -rf bin dist
