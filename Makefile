# make venv | demo | test | quick | lint | bench | soak | unpinned       (make constraints: resolve all versions anew)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PLUGINS := text sound image video code
LOCAL := .[search,parquet,tensorboard,zstd,download] ./plugins/skillnet-sound[demo] ./plugins/skillnet-text[translate] \
  $(foreach skill,image code,./plugins/skillnet-$(skill)) ./plugins/skillnet-video[download]
PROJECTS := pyproject.toml $(foreach skill,$(PLUGINS),plugins/skillnet-$(skill)/pyproject.toml)
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Where Python may not keep what it has compiled, every process that a test starts compiles torch anew: seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := venv
.PHONY: venv demo test quick lint bench soak unpinned constraints

venv: $(STAMP)

$(STAMP): $(PROJECTS) constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt \
	  $(addprefix -e ,$(LOCAL)) --group dev
	touch $@

demo: venv
	$(BIN)/python examples/demo.py

# Two processes of one thread each: more threads than cores make every small product slower. A file stays in one
# process, so that what its tests share is made once.
test: venv
	$(TESTS) -m 'not soak' $(ARGS)

# For the day's work: the tests of the rooms and the plugins, without the command line, whole trainings, several ranks,
# kills and faults.
QUICK := data evaluation fidelity files floors inference model objectives plugins prepare recipe runs sources
quick: venv
	$(TESTS) -m 'not soak' $(wildcard $(foreach room,$(QUICK),tests/$(room) tests/test_$(room).py)) $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cog --check docs/cli.md docs/plugins.md

bench: venv
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/sparse_load.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/units.py
	$(BIN)/python benchmarks/training.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/preparing.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/saving.py

# The tests with far more random examples, and those with many faults, for an evening.
soak: venv
	$(TESTS) --hypothesis-profile soak $(ARGS)

# The wheels in a fresh environment with the newest versions of everything, and the demo's commands there, in small.
unpinned: venv
	$(BIN)/python tests/unpinned.py

constraints:
	printf '%s\n' $(patsubst %,'-e %',$(LOCAL)) 'torch==2.11.*' 'torchvision==0.26.*' 'torchaudio==2.11.*' uv \
	| $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-emit-index-url --no-annotate \
	  --group pyproject.toml:dev $(foreach name,cli $(PLUGINS),--no-emit-package skillnet-$(name)) \
	  --custom-compile-command 'make constraints' - --output-file constraints.txt
