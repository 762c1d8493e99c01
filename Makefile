# Everything begins from a fresh clone: the first run of a target makes .venv, the next ones find it.
#   Try it
#     make demo           etcd, three sites and a user's clone on this machine; REPO=path: with a copy of a repository of yours
#     make demo-servers   the stories on three servers and a laptop, each in a network namespace of its own (needs root)
#
#   Change it (CONTRIBUTING.md)
#     make test           the tests, without the slow ones; ARGS="-k name" chooses, JOBS=n sets how many run at once
#     make check          format, lint, types, import layers
#     make format         put right what the format and the linter can
#     make docs           the documentation as a site in build/site, after the pages that are made from code
#     make constraints    constraints.txt, after dependencies changed in pyproject.toml; ARGS=--upgrade takes the newest versions
#     make clean          remove .venv and everything that was made
#
#   Before a merge or a release
#     make test-all       all tests, as CI runs them
#     make faults         the long fault suite (an hour; broken off, it goes on where it was); ARGS="-k sweep" chooses
#     make fuzz           feed the parsers of foreign bytes for SECONDS=60; what is learnt stays in .cache/fuzz
#     make audit          hashes, licences and known faults of all packages in constraints.txt that are installed
#     make linkcheck      ask every outside address that the pages name (needs a network)
#     make build          dist/: wheel, sdist, Debian package (needs debhelper), and the list of what is in them (SBOM)
#     make pictures       record the demo, and make the pictures of the status page anew (needs chromium)
#     make bench          the measurements, and what moved since the accepted ones; ACCEPT=1 accepts these
#     make bench-full     the large measurements; ARGS="-k name" chooses
#     tools/release       the checklist of a release (docs/development/releasing.md)

SHELL := /bin/sh
.SUFFIXES:
.DEFAULT_GOAL := help

BIN := .venv/bin
SOURCES := piehole controller hooks tests tools docs

# Tests mostly wait for servers, so there are more of them at once than processors.
PROCESSORS := $(shell nproc 2>/dev/null || echo 2)
JOBS ?= $(shell n=$$(( $(PROCESSORS) * 2 )); [ $$n -gt 8 ] && n=8; echo $$n)
REPO ?=
ARGS ?=
ACCEPT ?=
SECONDS ?= 60
PARSER ?= all
GROUPS := $(addprefix --group ,dev docs bench)

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)

help:
	@sed -n 's/^# \{0,3\}//p;/^SHELL/q' Makefile | tail -n +2

runtime:
	@sh tools/bootstrap run

venv:
	@sh tools/bootstrap dev

benchmarks:
	@sh tools/bootstrap bench

sphinx:
	@sh tools/bootstrap docs

demo: runtime
	@$(BIN)/piehole demo $(if $(REPO),--repo "$(REPO)") $(ARGS)

demo-servers: runtime
	@$(BIN)/python tools/leave_nothing.py $(BIN)/python -m tests.servers.demo

# The last line names what was skipped and why; with CI=true or PIEHOLE_REQUIRE_ALL=1 a skip is a failure.
# Each test has a time limit (pyproject.toml); the whole has none, since a busy machine would reach it. No process may stay behind.
TESTS = $(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: venv
	@$(TESTS) $(ARGS)

test-all: venv
	@$(TESTS) -m "not bench and not bench_full and not faults" $(ARGS)

check: venv
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy -p tools
	$(BIN)/mypy docs/conf.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_tree.py

faults: venv
	@$(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n 0 -m faults $(ARGS) tests/fault tests/model

fuzz: venv
	@$(BIN)/python -m tests.fault.hostile.fuzz $(PARSER) $(SECONDS) .cache/fuzz

audit: venv
	@$(BIN)/python -m tools.audit

bench: benchmarks
	@$(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n 0 -s -m bench $(ARGS) tests/bench
	@$(if $(ACCEPT),$(BIN)/python -m tests.bench.page --accept)

bench-full: benchmarks
	@$(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n 0 -s -m bench_full $(ARGS) tests/bench/full

pictures: venv
	@$(BIN)/python tools/recording.py
	@PIEHOLE_TEST_PICTURES=$(CURDIR)/docs/images $(BIN)/python -m pytest -n 0 -q tests/page -k pictures

build: venv
	@sh tools/build

constraints:
	@test -x $(BIN)/uv || sh tools/bootstrap dev
	@$(BIN)/uv pip compile -q --universal --all-extras $(GROUPS) --custom-compile-command 'make constraints' --no-annotate pyproject.toml -o constraints.txt $(ARGS)

SPHINX = $(BIN)/python -m sphinx -q -j auto -d build/doctrees

docs: sphinx
	@$(BIN)/python -m tools.reference
	@$(SPHINX) -W --keep-going docs build/site
	@echo "open build/site/index.html"

linkcheck: sphinx
	@$(SPHINX) -b linkcheck docs build/linkcheck || { grep -q '"working"' build/linkcheck/output.json || \
	    echo "no address answers: this needs a network"; exit 1; }

format: venv
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
