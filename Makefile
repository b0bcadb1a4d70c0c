# Outlet. `make` lists the targets.
#
# Everything is built and tested inside this clone: bin/ has what is meant for
# use, .cache/ what tests and the demo need. Only Go's own caches are elsewhere.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=

# In a clone the version is what git calls the commit; without git it is "dev"
# or what is given: make build VERSION=1.2.3
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
X       := github.com/outletd/outlet/internal/version
LDFLAGS := -s -w -X $(X).version=$(VERSION) -X $(X).commit=$(COMMIT)

# The race detector needs a C compiler. RACE= turns it off.
RACE     ?= $(shell command -v gcc >/dev/null && echo -race)
TESTTIME ?= 60m
FUZZTIME ?= 10s
SOAKTIME ?= 3m
BENCHTIME ?= 3s
PKGS     ?= ./...

.PHONY: help build outlet runc demo deps test test-root test-interop bench soak crash mutants fuzz lint fmt vuln check golden licenses \
	install uninstall clean

help: ## list the targets
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

build: outlet runc ## build bin/outlet and bin/runc, both static

outlet:
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/outlet ./cmd/outlet

# runc sets its container up in C before Go's runtime starts, so it needs a C
# compiler. Without libseccomp it has no seccomp; see docs/compat.md.
RUNC_BUILD = CGO_ENABLED=1 $(GO) build -C tools/runc -trimpath -tags 'netgo osusergo' -o ../../bin/runc
runc:
	@mkdir -p bin
	@command -v gcc >/dev/null || { echo 'make runc: no gcc: install gcc and the C library headers' >&2; exit 1; }
	@$(RUNC_BUILD) -ldflags '-s -w -extldflags -static' github.com/opencontainers/runc 2>/dev/null \
	|| $(RUNC_BUILD) -ldflags '-s -w' github.com/opencontainers/runc

demo: build ## show a volume plugin's life from create to remove
	@scripts/demo.sh

deps: ## install what the tests use (Debian, as root)
	@scripts/deps.sh

test: build ## vet and run all tests; says what was skipped and what enables it
	@$(GO) vet ./...
	@$(GO) test -json $(RACE) -timeout $(TESTTIME) $(PKGS) | $(GO) run ./internal/testutil/testreport

test-root: ## run all tests as root; a test that cannot use root's rights fails
	@OUTLET_TEST_NEED=root,mountns,overlay,cgroups,runc $(MAKE) test

test-interop: build ## run only the tests against docker, rclone and others
	@$(GO) test -count=1 -v -timeout $(TESTTIME) ./test/...

bench: build ## run the benchmarks beside their limits; ends with one table of ratios
	@$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 60m -p 1 $(PKGS) | $(GO) run ./internal/testutil/benchreport

soak: build ## run the endurance tests for SOAKTIME (3m)
	@OUTLET_SOAK=$(SOAKTIME) $(GO) test -count=1 -v -run '^TestSoak' -timeout 0 ./test/soak

crash: ## end the daemon, fail calls and cut the power at every point
	@OUTLET_CRASH=all $(GO) test -count=1 -v -timeout 60m ./test/crash

mutants: ## take renames, leases and syncs out, each must make a walk fail
	@OUTLET_MUTANTS=1 $(GO) test -count=1 -v -run '^TestEveryMutant' -timeout 60m ./test/crash

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@GO=$(GO) scripts/fuzz.sh $(FUZZTIME)

lint: ## check formatting and run the linters (builds them first)
	@scripts/lint.sh

fmt: ## format all Go files
	@$(GO) tool -modfile=tools/go.mod gofumpt -w $$(git ls-files '*.go')

vuln: ## look for known vulnerabilities in what is linked
	@$(GO) tool -modfile=tools/go.mod govulncheck ./...

check: lint test ## what a change must pass

golden: ## rewrite the golden files from what the code does now
	@GO=$(GO) scripts/golden.sh

licenses: ## rewrite THIRD_PARTY_LICENSES from the modules that are linked
	@GO=$(GO) scripts/licenses.sh

# Paths below which things are installed.
BIN        = $(DESTDIR)$(PREFIX)/bin
LIBEXEC    = $(DESTDIR)$(PREFIX)/libexec/outlet
UNITS      = $(DESTDIR)$(PREFIX)/lib/systemd/system
DOC        = $(DESTDIR)$(PREFIX)/share/doc/outlet
BASH_COMP  = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_COMP   = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH_COMP  = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

install: build ## install below PREFIX (/usr/local); DESTDIR is put before it
	@install -d $(BIN) $(LIBEXEC) $(UNITS) $(DOC) $(BASH_COMP) $(ZSH_COMP) $(FISH_COMP)
	@install -m 755 bin/outlet $(BIN)/outlet
	@install -m 755 bin/runc $(LIBEXEC)/runc
	@sed 's|@PREFIX@|$(PREFIX)|' packaging/outlet.service > $(UNITS)/outlet.service
	@install -m 644 README.md LICENSE NOTICE THIRD_PARTY_LICENSES $(DOC)
	@bin/outlet completion bash > $(BASH_COMP)/outlet
	@bin/outlet completion zsh > $(ZSH_COMP)/_outlet
	@bin/outlet completion fish > $(FISH_COMP)/outlet.fish
	@echo 'installed $(BIN)/outlet and $(LIBEXEC)/runc'
	@echo 'start it with: systemctl daemon-reload && systemctl enable --now outlet'

uninstall: ## remove what install put there; plugins and their data stay
	@rm -f $(BIN)/outlet $(UNITS)/outlet.service $(BASH_COMP)/outlet $(ZSH_COMP)/_outlet $(FISH_COMP)/outlet.fish
	@rm -rf $(LIBEXEC) $(DOC)
	@echo 'removed; data stays in /var/lib/outlet and is yours to delete'

clean: ## remove what was built
	@rm -rf bin dist .cache
