# make demo: the whole job on real speech.  make test: everything that is checked.  Both set themselves up.
PYTHON ?=
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin

.PHONY: setup demo clean-demo test check

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

# One thread per process: threads that fight for two cores are 16 times slower. A file stays in one process, which makes
# its corpora and models once; the longest come first.
test: check
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --durations=10 \
		tests/integration tests
