# make demo  runs the main job; make test passes the tests; both install what they need.
# Variables: FAST=1 (two months instead of a year), TINY=1 and FILTER (for bench), DEMO_PORT, JOBS.

SWIFT      ?= swift
DEBUG      := .build
RELEASE    := .build-release
BINARY     := $(RELEASE)/release/bottega
PYTHON     := .venv/bin/python
SOURCES    := Package.swift $(shell find Sources -type f \( -name '*.swift' -o -name '*.h' -o -name '*.modulemap' \) 2>/dev/null)

.PHONY: demo test test-engines test-feast test-triton unit e2e lint format bench build setup setup-test clean

demo: setup $(BINARY)
	$(PYTHON) tools/demo.py --bottega $(BINARY) $(if $(FAST),--fast)

setup:
	@tools/setup.sh demo

setup-test:
	@tools/setup.sh test

build: setup $(BINARY)

$(BINARY): $(SOURCES)
	$(SWIFT) build -c release --scratch-path $(RELEASE) --product bottega

test: setup-test lint unit e2e

# Swift tests: unit, contract, parity, golden, integration. Four at a time: left to itself, the runner begins all of them at once, and
# one that waits for a deadline of its own then waits for hundreds of others too.
TEST       := $(SWIFT) test --scratch-path $(DEBUG) --skip-build --experimental-maximum-parallelization-width 4
unit: setup-test
	$(SWIFT) build --scratch-path $(DEBUG) --build-tests
	$(TEST) --skip '^(ParityTests|ProcessAdapterTests)\.'
	# Apart: these wait for moments of other processes, the next keep every processor busy.
	$(TEST) --filter '^ProcessAdapterTests\.'
	$(TEST) --filter '^ParityTests\.'

# The plan in Spark and in Flink, as a batch and as a stream, against the oracle. They are large (850 MB), so they are installed apart
# and not part of `test`; each takes some minutes.
ENGINES    := .venv-engines
test-engines: setup-test
	test -x $(ENGINES)/bin/python || python3 -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/engines.txt
	BOTTEGA_ONLY=ParityTests $(SWIFT) build --scratch-path $(DEBUG) --build-tests
	BOTTEGA_ONLY=ParityTests BOTTEGA_SPARK_PYTHON=$(abspath $(ENGINES))/bin/python \
	BOTTEGA_FLINK_HOME=$$(echo $(abspath $(ENGINES))/lib/python3*/site-packages/pyflink) \
	$(SWIFT) test --scratch-path $(DEBUG) --skip-build --filter 'EngineParityTests'

# Feast's own client and a repository of `feast init` against the program. It needs another pandas, so it is installed apart (580 MB).
FEAST      := .venv-feast
test-feast: setup-test
	test -x $(FEAST)/bin/python || python3 -m venv $(FEAST)
	$(FEAST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/feast.txt
	$(SWIFT) build --scratch-path $(DEBUG) --product bottega
	BOTTEGA_FEAST_PYTHON=$(abspath $(FEAST))/bin/python BOTTEGA_BINARY=$(abspath $(DEBUG)/debug/bottega) \
	$(PYTHON) -m pytest Tests/Python/test_feast_client.py Tests/Python/test_feast_converter.py -q

# The same calls of tritonclient to the real Triton and to the program. Its server is in a wheel of NVIDIA's (370 MB), so it is
# installed apart.
TRITON     := .venv-triton
test-triton: setup-test
	test -x $(TRITON)/bin/python || $(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/triton.txt
	$(SWIFT) build --scratch-path $(DEBUG) --product bottega
	BOTTEGA_TRITON_PYTHON=$(abspath $(TRITON))/bin/python BOTTEGA_BINARY=$(abspath $(DEBUG)/debug/bottega) \
	$(PYTHON) -m pytest Tests/Python/test_triton_server.py -q

# End to end: the built program, driven through the real Python clients.
e2e: setup-test
	$(SWIFT) build --scratch-path $(DEBUG) --product bottega
	BOTTEGA_BINARY=$(abspath $(DEBUG)/debug/bottega) $(PYTHON) -m pytest sdk/python/tests Tests/Python -q

lint: setup-test
	$(SWIFT) format lint --strict --parallel --recursive Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	tools/check_repository.sh

format:
	$(SWIFT) format --in-place --parallel --recursive Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources
	.venv/bin/ruff format --quiet .

# Hot paths; TINY=1 only checks that they still run. FILTER is a regular expression that a whole name must match.
bench: setup
	BOTTEGA_BENCH_TINY=$(TINY) $(SWIFT) package --package-path Benchmarks --scratch-path .build-bench benchmark --no-progress --grouping metric $(if $(FILTER),--filter "$(FILTER)")

clean:
	rm -rf $(DEBUG) $(RELEASE) .build-bench demo-output .bottega
