# make demo: every step on real speech.  make test: linters, types, manual and all tests.  make docs: the manual, in site/.
# Each runs make setup first.
PYTHON ?=
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin

.PHONY: setup demo clean-demo test check docs

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml tools/setup_venv.sh
	PYTHON="$(PYTHON)" tools/setup_venv.sh $(VENV)

demo: setup
	PATH="$(BIN):$$PATH" recipes/prompts/run.sh

clean-demo:
	rm -rf exp/prompts

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck -x recipes/*/*.sh recipes/*/*.sbatch tools/*.sh tests/*.sh .ci/run

# A broken link, a page outside the navigation or a marker without its table fails the build.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# One thread per process: threads that fight for two cores are 16 times slower. A file stays in one process, which makes
# its corpora and models once; the longest come first.
test: check docs
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --durations=10 \
		tests/integration tests
