# Everything runs in .venv, made from the pinned requirements by Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo demo-lightning test test-all test-lightning test-scale lint bench bench-quick bench-lightning bench-growth bench-publish clean

help:
	@echo 'make demo            buy from the example API, step by step, then serve it (PORT=5402; ONCE=1 ends)'
	@echo 'make demo-lightning  the same with real nodes, built by Go the first time'
	@echo 'make test            the tests that need only Python'
	@echo 'make test-all        with PostgreSQL, Redis, Node.js and Chromium too'
	@echo 'make test-lightning  the tests on a Lightning network of real nodes'
	@echo 'make test-scale      the tests on several hosts, with pgbouncer, Redis Cluster and a standby (root)'
	@echo 'make lint            ruff and mypy'
	@echo 'make bench           the measurements, in six minutes (wrk; PostgreSQL and Redis if there)'
	@echo 'make bench-lightning the measurements on a real node, beside Aperture, built by Go the first time'
	@echo 'make bench-growth    how costs grow from a thousand rows to ten million (20 GB of disk, half an hour)'
	@echo 'make clean           remove .venv and whatever was generated'

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=python3.11 …'; exit 1; }
	@echo 'Making .venv …'
	@$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt pyproject.toml | .venv/pyvenv.cfg
	@echo 'Installing requirements.txt …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@echo 'Installing requirements-dev.txt …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: .venv/.installed
	@$(BIN)/python tools/demo.py

demo-lightning: .venv/.installed
	@PYTHONPATH=tests $(BIN)/python tools/demo_lightning.py

test: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not postgres and not redis and not node and not browser and not lightning and not scale"

test-all: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not lightning and not scale"

test-lightning: .venv/.installed-dev
	$(BIN)/python -m pytest -m lightning

test-scale: .venv/.installed-dev
	$(BIN)/python -m pytest -m scale

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks

bench-quick: .venv/.installed-dev
	$(BIN)/python -m benchmarks quick
	$(BIN)/python -m benchmarks compare

bench-lightning: .venv/.installed-dev
	$(BIN)/python -m benchmarks lightning

bench-growth: .venv/.installed-dev
	$(BIN)/python -m benchmarks growth

bench-publish: .venv/.installed-dev
	$(BIN)/python -m benchmarks publish

clean:
	rm -rf .venv .venv-* build dist instance *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
