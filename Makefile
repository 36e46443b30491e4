# Every target does the real thing, or says in a sentence what is missing.

PREFIX ?= $(HOME)/.local
BUILT = $(or $(CARGO_TARGET_DIR),target)
OPENCLAW = $(BUILT)/release/openclaw
CARGO = cargo

.DEFAULT_GOAL := help
.PHONY: help build run demo test lint bench interop check-macos ffi-audit gui-test audit restart install

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the release binary
	$(CARGO) build --release --locked

run: build ## the app in local mode, asking on this terminal
	$(OPENCLAW) app --ask terminal

demo: build ## one command through the whole chain, asked for on this terminal, in a throw-away state directory
	@OPENCLAW_BIN=$(OPENCLAW) scripts/demo.sh

test: ## all tests of the workspace
	$(CARGO) test --locked --workspace

lint: ## formatting, clippy with warnings as errors, the house rules, and that those can fail
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/check-rooms.sh
	scripts/check-crates.sh
	scripts/check-source.sh
	scripts/security-table.sh
	scripts/test-checks.sh
	@if command -v shellcheck >/dev/null; then shellcheck -x .ci/run scripts/*.sh && echo "shellcheck: clean"; \
	else echo "shellcheck is not installed: the shell scripts were not checked"; fi

bench: ## start-up, memory, round trips, analysis, fence, audit log, each beside its floor, and up to 5000 peers (BENCH=--json, --quick, --exec or --scale)
	$(CARGO) bench --locked --bench wire -- $(BENCH)

interop: build ## the official product (npm): client, CLI, node host and exec-host client against ours (BENCH=1: how fast and how large both are, instead)
	OPENCLAW_BIN=$(OPENCLAW) BENCH=$(BENCH) scripts/interop.sh

check-macos: ## from Linux: lint, compile and link for both Apple targets (STEPS="clippy build …")
	scripts/check-macos.sh $(STEPS)

ffi-audit: ## every Objective-C name that we call, against Apple's headers, and that the audit can fail
	scripts/ffi-audit.sh
	scripts/ffi-audit.sh --prove

gui-test: ## the AppKit prompts under a virtual X server
	@if ls src/desktop/appkit* >/dev/null 2>&1; then \
	    echo "gui-test: there is AppKit code, and its test is missing (part 4)" >&2; exit 1; \
	else echo "gui-test: no AppKit code yet, so nothing to test; it comes with part 4"; fi

audit: ## the dependency tree against README's table, and known advisories where a tool for that is installed
	scripts/check-crates.sh
	@if cargo audit --version >/dev/null 2>&1; then cargo audit; \
	else echo "cargo-audit is not installed: no look-up of known advisories"; fi
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check advisories licenses sources; \
	else echo "cargo-deny is not installed: no look-up of licences and sources"; fi

restart: build ## build, put the binary in place of the one that runs as a service, start that again
	@OPENCLAW_BIN=$(OPENCLAW) PREFIX=$(PREFIX) scripts/restart.sh

install: build ## the binary into PREFIX/bin (~/.local/bin)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(OPENCLAW)" "$(DESTDIR)$(PREFIX)/bin/openclaw"
	@echo "installed $(DESTDIR)$(PREFIX)/bin/openclaw"
