# make demo, make test: everything from nothing but Python and make. Each builds its own environment in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Four workers on two cores, since most tests wait; which tests share one, and with it a server: tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 4

VENDORS := aim clearml mlflow trackio wandb

.PHONY: demo test test-quick coverage check docs bench bench-long clean test-long test-oldest fuzz $(VENDORS:%=test-oldest-%)

$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch -e '.[demo]'
	touch $@

$(VENV)/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch -e '.[dev]'
	touch $(VENV)/base $@

demo: $(VENV)/base
	$(BIN)/python examples/digits.py

test: $(VENV)/dev
	$(PYTEST)

# While you work: the suite without the tests marked `heavy` (tests/conftest.py); under three minutes.
test-quick: $(VENV)/dev
	$(PYTEST) -m 'not heavy and not long'

# More of the same: further kills, the whole fault matrix, ten thousand examples of each model. An hour and a half.
test-long: $(VENV)/dev
	$(PYTEST) -m long

# An hour of random event files, journals and calls, with 1 GiB of memory, then of forks and double signals.
fuzz: $(VENV)/dev
	FUZZ_SECONDS=1200 $(PYTEST) -m long -n 2 tests/long/test_fuzz.py tests/long/test_fork_moments.py

# Branch coverage of the lines that run in the tests' own processes; programs that tests start are not counted.
coverage: $(VENV)/dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html:$(VENV)/coverage

# The contract tests with the lowest release of each vendor that its extra admits, in .venv-oldest.
test-oldest: $(VENDORS:%=test-oldest-%)

$(VENDORS:%=test-oldest-%): test-oldest-%:
	$(PYTHON) -m venv $(VENV)-oldest/$*
	$(VENV)-oldest/$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-c constraints-oldest.txt -e '.[$*]' hypothesis pytest pytest-timeout
	$(VENV)-oldest/$*/bin/python -m pytest tests/backends/test_$*.py -k 'Test$* and not Server'

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

docs: $(VENV)/dev
	$(BIN)/mkdocs serve

# The reports are measured in an environment of their own: SwanLab, one of the peers, pins an older protobuf.
BENCH := $(VENV)-bench/bin/python

$(VENV)-bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(BENCH) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev,bench]'
	touch $@

# Half an hour on two cores; bench-long, ten million records and the vendors' scale besides, takes longer. One report:
# make bench BENCH_ARGUMENTS='--only loops --repeats 1 --save'
BENCH_ARGUMENTS ?= --save

bench: $(VENV)-bench/ready
	$(BENCH) -m benchmarks $(BENCH_ARGUMENTS)
	$(BENCH) -m benchmarks.plots

bench-long: BENCH_ARGUMENTS := --long --save
bench-long: bench

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-bench build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
