# Every target does the real thing, or says in a sentence what is missing.

PREFIX ?= $(HOME)/.local
BUILT = $(or $(CARGO_TARGET_DIR),target)
OPENCLAW = $(BUILT)/release/openclaw
SHARE = $(BUILT)/share
CARGO = cargo
# As LSMinimumSystemVersion in macos/bundle/Info.plist.
export MACOSX_DEPLOYMENT_TARGET = 15.0

.DEFAULT_GOAL := help
.PHONY: help build run demo test lint bench bench-bridge interop check-macos ffi-audit gui-test audit restart restart-app restart-services install man completions uninstall

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the release binary
	OPENCLAW_COMMIT=$$(git describe --always --dirty 2>/dev/null || true) $(CARGO) build --release --locked

# On a Linux desktop that has the AppKit-compatible library the app asks in a panel, else on this terminal.
SCREEN = $(and $(DISPLAY),$(shell PATH=$$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -o -m1 libgnustep-gui.so.0.29))
run: ## the app in local mode, asking in a panel where there is a screen for it, else on this terminal
	$(CARGO) build --release --locked $(if $(SCREEN),--features gnustep)
	$(OPENCLAW) app $(if $(SCREEN),--ask panel,$(if $(filter Darwin,$(shell uname)),,--ask terminal))

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

bench: ## start-up, memory, round trips, analysis, fence, audit log, each beside its floor, and up to 5000 peers (BENCH=--json, --quick, --exec, --scale or --bridge)
	$(CARGO) bench --locked --bench wire -- $(BENCH)

# A release build lets no unsigned program near the desktop, so this one has debug assertions.
bench-bridge: ## the bridge beside a bare Unix socket, captures a second, idle cost (BENCH=--json or --quick)
	$(CARGO) bench --locked --profile proof --bench wire -- --bridge $(BENCH)

interop: build ## the official product (npm): client, CLI, node host and exec-host client against ours (BENCH=1: how fast and how large both are, instead)
	OPENCLAW_BIN=$(OPENCLAW) BENCH=$(BENCH) scripts/interop.sh

check-macos: ## from Linux: lint, compile and link for both Apple targets (STEPS="clippy build …")
	scripts/check-macos.sh $(STEPS)

ffi-audit: ## every Objective-C name that we call, against Apple's headers, and that the audit can fail
	scripts/ffi-audit.sh
	scripts/ffi-audit.sh --prove

gui-test: ## the panel and the menu under a virtual X server, driven by pointer and keyboard (GUI_TEST_PICTURES=DIR keeps pictures)
	scripts/gui-test.sh

audit: build ## crates with reasons, unsafe blocks, what listens, what is written, known advisories (PARTS="crates unsafe …")
	@OPENCLAW_BIN=$(OPENCLAW) scripts/audit.sh $(PARTS)

restart: $(if $(filter Darwin,$(shell uname)),restart-app,restart-services) ## build, put the new one in place of what runs as a service, start it (a Mac: OpenClaw.app, signed)

restart-app:
	@scripts/restart-mac.sh

restart-services: build
	@OPENCLAW_BIN=$(OPENCLAW) PREFIX=$(PREFIX) scripts/restart.sh

man: build ## man pages, from the definitions of the flags, into target/share
	@install -d "$(SHARE)/man/man1"
	@$(OPENCLAW) man "$(SHARE)/man/man1"

completions: build ## completions for bash, zsh and fish, from the same definitions, into target/share
	@install -d "$(SHARE)/bash-completion/completions" "$(SHARE)/zsh/site-functions" "$(SHARE)/fish/vendor_completions.d"
	@$(OPENCLAW) completions bash > "$(SHARE)/bash-completion/completions/openclaw"
	@$(OPENCLAW) completions zsh > "$(SHARE)/zsh/site-functions/_openclaw"
	@$(OPENCLAW) completions fish > "$(SHARE)/fish/vendor_completions.d/openclaw.fish"

install: build man completions ## the binary into PREFIX/bin (~/.local/bin), man pages and completions into PREFIX/share
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(OPENCLAW)" "$(DESTDIR)$(PREFIX)/bin/openclaw"
	cp -R "$(SHARE)" "$(DESTDIR)$(PREFIX)/"
	@echo "installed $(DESTDIR)$(PREFIX)/bin/openclaw, and what belongs to it in $(DESTDIR)$(PREFIX)/share"

uninstall: ## the services, OpenClaw.app, and what `make install` put into PREFIX; the state directory stays
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/uninstall.sh
