# make study   the robustness study on phantom radiographs, set-up included; it names its report
# make test    the quick tests; make slow, make lint and make types are the rest of what CI runs
# make long    tests that take minutes each: kills of studies and of servers, thousands of simulated studies, of damaged
#              files; then the quick tests with other drawn examples
# make clones  places of the product that are alike, by pylint (pip install pylint), from 5 lines on
# make lock    recompile requirements.lock after a change to pyproject.toml

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: study test slow long lint types clones lock clean

study: $(READY)
	$(BIN)/medmtl study

test: $(READY)
	$(BIN)/pytest -q -n 2 -m "not slow and not long"

# three at a time, since many wait for servers; the longest file first
slow: $(READY)
	$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "slow and not long" tests/stack tests

long: $(READY)
	$(BIN)/pytest -q -s -m long --timeout 0 --hypothesis-profile other-examples
	$(BIN)/pytest -q -n 2 -m "not slow and not long" --hypothesis-profile other-examples

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# imports, signatures, comments and docstrings do not count
clones:
	pylint --disable=all --enable=duplicate-code --min-similarity-lines=5 --ignore-imports=y --ignore-signatures=y \
	  --ignore-comments=y --ignore-docstrings=y flows tasks models data_prep

# uv installs in half of pip's time; it comes from the lock by its hash, and where it cannot be had pip does. Bytecode,
# as pip makes it: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each command would take ten seconds more.
$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv: about two minutes, 7 GB (the CUDA build of torch; it runs on the CPU as well)"
	$(PYTHON) -m venv .venv
	awk '/^uv==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r .venv/uv.lock || echo "no uv: using pip"
	if [ -x $(BIN)/uv ]; then \
	  $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock && \
	  $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
	  $(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	  $(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

lock: $(READY)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build *.egg-info
