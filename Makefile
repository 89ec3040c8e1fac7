# Two verbs do everything on a fresh machine: `make up` and `make test`. `make` alone lists the others.
# Every cargo call names the whole workspace and one profile, so that none compiles again what another has built.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := $(TARGET)/tools
CLIENTS := $(TARGET)/clients
# Where tools/setup_without_root.py puts Postgres and Redis.
STORES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/odock/stores
export PATH := $(abspath $(TOOLS))/bin:$(STORES)/bin:$(PATH)
PIP_INSTALL := install --quiet --disable-pip-version-check

.PHONY: help setup up build test-tools test verify fmt lint docs doc deny bench chaos soak fresh-clone coverage-of-lines

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

setup: ## install what is missing: Postgres, Redis, nginx, test runner, the clients' SDKs
	@tools/setup.sh stores
	@tools/setup.sh tests
	@$(MAKE) --no-print-directory test-tools

up: ## run everything on this machine; Ctrl-C stops it, data stays in .odock; flags: make up UP="--gateways 2"
	@tools/setup.sh stores
	$(CARGO) build --workspace --locked
	@exec $(TARGET)/debug/odock up $(UP)

build:
	$(CARGO) build --workspace --locked

test: setup build ## all tests, on real Postgres and Redis; the 20 slowest at the end; a part: make test T=budgets
	status=0; $(CARGO) nextest run --workspace --locked --no-fail-fast $(T) || status=$$?; \
	  python3 tools/slowest.py $(TARGET)/nextest/default/junit.xml; exit $$status

verify: ## what CI runs: format, lints, documentation, tests, dependencies
	$(CARGO) fmt --all --check
	$(MAKE) lint
	$(MAKE) doc
	$(MAKE) test
	$(MAKE) deny
	$(MAKE) coverage-of-lines

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## clippy with every warning an error
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Private items are documented too, so public pages may lead to them.
doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items --locked

docs: build doc ## the documentation, private items too, and docs/CONFIGURATION.md
	$(TARGET)/debug/odock check-config --document > docs/CONFIGURATION.md

deny: $(TOOLS)/installed ## licences, bans and sources of dependencies
	$(CARGO) deny --workspace --locked check --hide-inclusion-graph licenses bans sources

bench: setup ## measure: gateway against nginx, the whole system, the push of configuration
	$(CARGO) build --workspace --release --locked
	$(TARGET)/release/odock-benches all $(BENCH)

chaos: setup build ## longer schedules of failures, seeds printed
	ODOCK_CHAOS_ROUNDS=$${ODOCK_CHAOS_ROUNDS:-100} \
	  $(CARGO) nextest run --workspace --locked --profile chaos -E 'test(/(^|::)chaos_/)' --no-capture

soak: setup build ## steady load with Redis down for 15 minutes, then with Postgres down for 10
	ODOCK_SOAK_SECONDS=$${ODOCK_SOAK_SECONDS:-600} \
	  $(CARGO) nextest run --workspace --locked --profile chaos -E 'test(/(^|::)soak_/)' --no-capture

fresh-clone: ## the README's two commands in a bare Debian chroot (needs root)
	tools/fresh_clone.sh

coverage-of-lines: ## which lines of the product's checklist have a test
	@python3 tests/coverage_of_lines.py

# Test runner and dependency checker as their projects build them, and the unmodified SDKs that the tests speak with.
test-tools: $(TOOLS)/installed $(CLIENTS)/python/installed $(CLIENTS)/node/installed

$(TOOLS)/installed: tools/requirements.txt
	@tools/setup.sh tests
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip $(PIP_INSTALL) --require-hashes -r $<
	@touch $@

$(CLIENTS)/python/installed: tests/clients/requirements.txt
	python3 -m venv $(CLIENTS)/python
	$(CLIENTS)/python/bin/python -m pip $(PIP_INSTALL) -r $<
	@touch $@

$(CLIENTS)/node/installed: tests/clients/node-packages.txt
	mkdir -p $(CLIENTS)/node
	npm install --silent --no-save --no-audit --no-fund --prefix $(CLIENTS)/node $$(cat $<)
	@touch $@
