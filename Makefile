# Two verbs do everything on a fresh machine: `make up` and `make test`. `make` alone lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# One profile, one target folder, one feature set: every cargo call names the whole workspace.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON_CLIENT := $(TARGET)/clients/python
NODE_CLIENT := $(TARGET)/clients/node
SETUP_DONE := $(TARGET)/setup-done

.PHONY: help setup up build test verify fmt lint docs tidy deny bench chaos soak fresh-clone coverage-of-lines nextest

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

setup: $(SETUP_DONE) ## install what is missing: Postgres, Redis, nginx, the clients' SDKs
$(SETUP_DONE): tools/setup.sh
	tools/setup.sh "$(TARGET)"
	@touch $@

build:
	$(CARGO) build --workspace --locked

up: setup ## run everything on this machine; Ctrl-C stops it, data stays in .odock
	$(CARGO) build --workspace --locked
	$(TARGET)/debug/odock up $(UP)

nextest:
	@command -v cargo-nextest >/dev/null || $(CARGO) install --locked cargo-nextest

test: setup nextest ## all tests, on real Postgres and Redis; the 20 slowest at the end
	$(CARGO) build --workspace --locked
	$(CARGO) nextest run --workspace --locked --no-fail-fast; \
	  status=$$?; python3 tools/slowest.py $(TARGET)/nextest/default/junit.xml; exit $$status

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## clippy with every warning an error
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ## the documentation, private items too
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

deny: ## licences, bans and sources of dependencies
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check licenses bans sources

verify: setup ## what CI runs
	$(CARGO) fmt --all --check
	$(MAKE) lint
	$(MAKE) docs
	$(MAKE) test
	$(MAKE) deny

bench: setup ## measure: gateway against nginx, the whole system, the push of configuration
	$(CARGO) build --workspace --release --locked
	$(TARGET)/release/odock-benches all $(BENCH)

chaos: setup nextest ## longer schedules of failures, seeds printed
	$(CARGO) build --workspace --locked
	$(CARGO) nextest run --workspace --locked --profile chaos -E 'test(/chaos/)' --no-capture

soak: setup nextest ## outages of minutes under steady load
	$(CARGO) build --workspace --locked
	$(CARGO) nextest run --workspace --locked --profile soak -E 'test(/soak/)' --no-capture

fresh-clone: ## the README's two commands in a bare Debian chroot (needs root and debootstrap)
	tools/fresh_clone.sh

coverage-of-lines: ## which lines of the product's checklist have a test
	python3 tests/coverage_of_lines.py
