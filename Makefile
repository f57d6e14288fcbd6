# tonald: one command each. `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
TONALD := $(BIN)/tonald
PINS := pyproject.toml constraints.txt
RUN_STAMP := $(VENV)/.run-$(shell cat $(PINS) | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.dev-$(shell cat $(PINS) Makefile | cksum | cut -d' ' -f1)

.PHONY: help run demo test test-all check check-tensorrt bench bundle faults soak fuzz unit venv system notices clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run demo: $(RUN_STAMP)  ## install what the daemon needs and show it at work on a simulated ocean (Ctrl-C ends it)
	@$(TONALD) demo

venv: $(DEV_STAMP)  ## create .venv with all that tests, training and benchmarks need

# On a shared build machine a test that failed is tried once more, and listed as rerun: these run real sound servers and
# deadlines. Where a person runs them, each failure counts.
test: $(DEV_STAMP)  ## all fast tests
	$(BIN)/python -m pytest $(if $(CI),--reruns 1 --reruns-delay 5 -rR)

test-all: $(DEV_STAMP)  ## every test that can run here, the slow ones too
	$(BIN)/python -m pytest -m "not gpu"

check: $(DEV_STAMP)  ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=typings:typings/tensorrt-10.16 $(BIN)/mypy --cache-dir .mypy_cache/tensorrt-10.16 models/engines
	MYPYPATH=typings:typings/tensorrt-11.4 $(BIN)/mypy --cache-dir .mypy_cache/tensorrt-11.4 models/engines
	$(BIN)/lint-imports

check-tensorrt: $(DEV_STAMP)  ## the TensorRT engine, proved as far as no card is needed (fetches 105 MB of wheels once)
	$(BIN)/python -m tests.trt

bench: $(DEV_STAMP)  ## speed of one explained window, against the peers, in one run
	$(TONALD) bench window

faults: $(DEV_STAMP)  ## cause every fault of the catalogue, write docs/faults.md (about 35 minutes)
	$(BIN)/python -m tests.faults

soak: $(DEV_STAMP)  ## a day of sound through the daemon at full speed: nothing lost, memory flat (about 40 minutes)
	$(BIN)/python -m tests.soak --hours 24

fuzz: $(DEV_STAMP)  ## a million damaged messages, settings, bundles, recordings and keys
	$(BIN)/python -m tests.fuzz --cases 1000000

unit: $(DEV_STAMP)  ## boot the service unit under a real systemd in a container, break it in every way (as root, about 6 minutes)
	$(BIN)/python -m tests.unit --page docs/security.md

system:  ## Debian packages for sound cards and for the capture tests (as root)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends libportaudio2 libasound2-plugins jackd2 systemd-container iproute2

notices: $(DEV_STAMP)  ## write THIRD_PARTY_NOTICES.md from what is installed
	$(BIN)/python docs/third_party_notices.py > THIRD_PARTY_NOTICES.md

bundle: $(DEV_STAMP)  ## train and calibrate the shipped bundle anew (about 30 minutes)
	$(TONALD) train --scenario standard --out build/simulated
	$(TONALD) calibrate build/simulated --out models/bundles/simulated --force
	$(TONALD) experiments falsealarms --only-curve --into models/bundles/simulated --force

clean:  ## remove what these commands made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): | $(BIN)/python
	@echo "installing tonald and what it needs to run into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[cpu,audio,view]'
	@rm -f $(VENV)/.run-*; touch $@

$(DEV_STAMP): | $(BIN)/python
	@echo "installing tonald and all that its tests need into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@$(PIP) install --no-deps -c constraints.txt -r requirements-peers.txt
	@rm -f $(VENV)/.dev-* $(VENV)/.run-*; touch $@ $(RUN_STAMP)
