"""Wrong input at the command line: exit code 2, one line that says what to type, no traceback, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from winnow.launch import programs
from winnow.launch.program import Program

ROOT = Path(__file__).parents[2]
QUICK = "logger=none"

BEFORE_TORCH = [
    # words typed, what the line must hold: what is wrong and what to type instead
    ("algo.clip.hihg=.3", "algo.clip.hihg", "did you mean algo.clip.high?"),
    ("lr=1e-4", "lr=1e-4: no such key", "did you mean optim.lr?"),
    ("output_dir=mine", "output_dir=mine: ", "hydra.run.dir=mine"),
    ("samples=4", "samples=4: no such key", "rollout.samples or eval.samples"),
    ("algo=grop", "algo=grop: no such choice", "did you mean algo=grpo?"),
    ("algos=grpo", "algos=grpo: no such key", "did you mean algo?"),
    ("algo/clipp=none", "algo/clipp=none: no such group", "did you mean algo/clip?"),
    ("model/settings=qwen", "model/settings=qwen: the group has been removed", "type model=NAME"),
    ("algo/family=policy_gradient", "the group has been removed", "type algo=NAME"),
    ("algo/clip=outside", "algo/clip=outside: has been renamed", "type algo/clip=ratio_min"),
    (
        "algo/clip=hihg",
        "algo/clip=hihg: no such choice",
        "choices: cispo, clip_higher, cpgd, dppo, dppo_kl, dual, dual_higher, gspo, none, ppo, ratio_min",
    ),
    ("study.noise=-1", "study.noise=-1.0", "must be above 0, or null"),
    ("arm=grpo algo=raft", "algo=raft: arm=grpo says which algorithm", "leave one of them out"),
    (
        "experiment=miniature/figure3",
        "is a sweep over arm, seed",
        "type -m before it, or choose one: arm=raftpp seed=0",
    ),
    ("-m experiment=miniature/figure3 algo=raft", "the experiment's arm says which algorithm", "leave one of them out"),
    ("algo/clip=none algo.clip.high=.3", "algo/clip=none has no `high`", "type algo/clip=ppo algo.clip.high=.3"),
    (
        "algo.kl.coef=.1",
        "algo/kl=none has no `coef`",
        "type algo/kl=k3 algo.kl.coef=.1 (or k1, k2, drift, k1_in_reward",
    ),
    ("algo.critic_lr_ratio=1", "algo=grpo has no `critic_lr_ratio`", "type algo=ppo algo.critic_lr_ratio=1"),
    ("dataset.path=mine.jsonl", "dataset=arithmetic has no `path`", "type dataset=file dataset.path=mine.jsonl (or "),
    ("algo.clip=none", "algo/clip is a group", "type algo/clip=none"),
    ("algo/clip/high=.3", "not a group", "type algo.clip.high=.3"),
    ("algo=sft algo/select=all", "algo=sft has no `select`", "leave it out"),
    ("~algo", "algo: has no value", "type algo=cispo|cpgd|"),
    ("experiment/paper=grpo", "experiment has no `paper`", "type experiment=paper/grpo"),
    ("experiment=paper/grop", "experiment=paper/grop: no such choice", "did you mean experiment=paper/grpo?"),
    ("+algo.clipp=1", "+algo.clipp=1: no such key", "did you mean algo.clip?"),
    ("+seed=1", "the key exists", "type seed=1"),
    ("optim.lr=abc", "optim.lr=abc: not a number", "type for example optim.lr="),
    ("algo.clip.low=", "algo.clip.low=: not a number", "type for example algo.clip.low=0.2"),
    ("seed=1.5", "seed=1.5: not a whole number", "seed=0"),
    ("optim.betas=.9", "optim.betas=.9: not a list", "optim.betas=[0.9,"),
    ("optim.lr=null", "optim.lr=null: needs a value", "type for example optim.lr="),
    ("optim.lr=[1,2", "optim.lr=[1,2: cannot be read", "quote"),
    ("optim.lr=${learning_rate}", "optim.lr", "'learning_rate' not found"),
    ("rollout", "rollout: not an override", "type rollout=VALUE"),
    ("algo=raft,grpo", "several values are a sweep", "type -m algo=raft,grpo"),
    ("-m algo=glob(zz*)", "algo=glob(zz*): a sweep over nothing", "such as algo=raft,grpo"),
    ("-m seed=range(5,5)", "seed=range(5,5): a sweep over nothing", "give it values"),
    ("-m algo=raft,grop seed=1,2", "algo=grop: no such choice", "did you mean algo=grpo?"),
    ("-m seed=1,2 hydra.launcher.jobs=0", "hydra.launcher.jobs=0", "1 or more"),
    ("-m seed=1,2 hydra/launcher=submitit_local hydra.launcher.merge=3", "hydra.launcher.merge=3", "true or false"),
    ("-m resume=A,B", "resume=A,B: continues one run", "type resume=RUN_DIR without -m"),
    ("-m resume=glob(*)", "resume=glob(*): continues one run", "type resume=RUN_DIR without -m"),
    ("resume=[A,B]", "resume=[A,B]: continues one run", "type resume=RUN_DIR without -m"),
    ("-m hydra.run.dir=A,B", "hydra.run.dir=A,B: is for the whole command", "type hydra.run.dir=A"),
    ("-m hydra.run.dir=choice(A,B)", "hydra.run.dir=choice(A,B): is for the", "type hydra.run.dir=VALUE"),
    ("-m optim.lr=interval(1,3)", "chosen by a search", "type hparams_search=optuna, or name the values"),
    ("-m resume=last", "resume=last", "start one without resume"),
    ("resume=last", "resume=last: no run under outputs/ has a checkpoint", "start one without resume"),
    ("resume=outputs/yesterday", "resume=outputs/yesterday: no such directory", "without resume"),
    ("--config-dir nowhere", "--config-dir nowhere: no such directory", "type the path"),
    ("--config-name trian", "--config-name trian: no such configuration", "leave it out"),
    ("--sweep", "--sweep", "--hydra-help lists the options"),
    ("--help algo/clipp", "--help algo/clipp: no such group", "did you mean algo/clip"),
    ("--help algo=grop", "algo=grop: no such choice", "did you mean algo=grpo?"),
    ("model=tiny_fresh model/lora=adapter", "model=tiny_fresh has no `lora`", "leave it out"),
    ("study.titel=mine", "study.titel=mine: no such key", "did you mean study.title?"),
    ("optim.lr=-1e-4", "optim.lr=-0.0001", "above 0"),
    ("rollout.samples=0", "rollout.samples=0", "1 or more"),
    ("rollout.samples=1", "rollout.samples=1", "type rollout.samples=8"),
    ("algo=opo rollout.samples=1", "rollout.samples=1", "type rollout.samples=8"),
    ("algo=passk rollout.samples=2", "algo.advantage.k=4", "algo.advantage.k=1"),
    ("algo=dpo rollout.samples=1", "rollout.samples=1", "type rollout.samples=8"),
    ("algo=maxrl rollout.samples=1", "rollout.samples=1", "type rollout.samples=8"),
    ("algo=passk rollout.samples=4", "algo.advantage.k=4: must be below rollout.samples=4", "algo.advantage.k=2"),
    ("rollout.temperature=0", "rollout.temperature=0", "above 0"),
    ("iterations=0", "iterations=0", "1 or more"),
    ("algo/kl=k3 algo.kl.coef=0", "algo.kl.coef=0", "type algo/kl=none"),
    ("hardware.precision=fp16", "hardware.precision=fp16", "32-true, 64-true, bf16-mixed"),
    ("update.minibatches=1000", "update.minibatches=1000", "256 rows"),
    ("reward.correct=-1", "reward.correct=-1", "above reward.wrong"),
    ("algo/clip=dual algo.clip.c=-3", "algo.clip.c=-3", "1 or more"),
    ("algo.clip.low=1.5", "algo.clip.low=1.5", "from 1e-6 to 1"),
    ("algo=grpo algo.clip.high=1e-7", "algo.clip.high=1e-07", "1e-6 or more"),
    ("algo=grpo algo/clip=dual algo.clip.c=1.00000001", "algo.clip.c=1.00000001", "1, or 1.000001 or more"),
    ("algo=cpgd algo.clip.low=1", "algo.clip.low=1", "must be below 1"),
    ("algo=ppo algo.advantage.gamma=7", "algo.advantage.gamma=7", "from 0 to 1"),
    ("algo=dpo algo.select.pairs=0", "algo.select.pairs=0", "1 or more"),
    ("algo/aggregate=constant_length algo.aggregate.length=0", "algo.aggregate.length=0", "1 or more"),
    ("algo.entropy=null", "algo.entropy=null", "0 or more"),
    ("algo.entropy=adaptive", "algo.entropy=adaptive", "type algo/entropy=adaptive"),
    ("algo.entropy.target=1", "algo/entropy=fixed has no `target`", "algo/entropy=adaptive algo.entropy.target=1"),
    ("algo/entropy=adaptive algo.entropy.start=2.5", "algo.entropy.start=2.5", "type algo.entropy.start=0"),
    ("algo/entropy=adaptive algo.entropy=0.1", "algo.entropy=0.1: a single value", "such as algo.entropy.target"),
    (
        "algo/kl=k3 algo.kl.sync.every=5",
        "algo.kl.sync: with algo.kl.reference=initial",
        "type algo.kl.reference=synced",
    ),
    ("algo=dpo algo.sync.share=0.5", "algo.sync: with algo.reference=initial", "type algo.reference=synced"),
    ("algo/kl=k3 algo.kl.reference=synced algo.kl.sync.share=0", "algo.kl.sync.share=0", "above 0 and at most 1"),
    ("algo=dpo algo.reference=synced model/lora=adapter", "algo.reference=synced", "type algo.reference=initial"),
    ("algo.rejected=null", "algo.rejected", "drop"),
    ("algo/kl=k3 algo.kl.clamp=-1", "algo.kl.clamp=-1", "null for none"),
    ("algo.correction.cap=2", "algo/correction=none has no `cap`", "algo.correction.cap=2 (or masked, "),
    ("engine=vlm", "engine=vlm: no such choice", "did you mean engine=vllm?"),
    ("engine.dtype=float16", "engine=torch has no `dtype`", "type engine=vllm engine.dtype=float16"),
    ("rollout.max_mismatch_kl=0", "rollout.max_mismatch_kl=0", "above 0, or null"),
    ("algo/correction=truncated algo.correction.cap=0.5", "algo.correction.cap=0.5", "1 or more"),
    ("algo/correction=masked algo.correction.floor=2", "algo.correction.floor=2", "from 0 to 1"),
    ("algo=dpo algo/correction=none", "algo=dpo has no `correction`", "leave it out"),
    ("algo=sft update.minibatches=100", "update.minibatches=100", "32 rows"),
    ("budget.sampled_tokens=0", "budget.sampled_tokens=0", "1 or more, or null"),
    ("budget.trained_tokens=-5", "budget.trained_tokens=-5", "1 or more, or null"),
    ("budget.seconds=0", "budget.seconds=0", "above 0, or null"),
    ("budget.tokens=9", "budget.tokens", "did you mean"),
    ("budget.seconds=9 optim.schedule=cosine", "optim.schedule=cosine", "type optim.schedule=constant"),
    ("algo=sft budget.sampled_tokens=9", "budget.sampled_tokens=9", "type budget.trained_tokens=9"),
]

AFTER_TORCH = [
    ("algo/ratio=none", "algo.clip", "add algo/clip=none"),
    ("algo/kl=k3 algo.kl.place=reward algo.kl.reference=previous", "is zero", "type algo.kl.reference=initial"),
    ("algo=raft algo/kl=k3 algo.kl.place=reward", "does not read the reward", "type algo.kl.place=loss"),
    ("algo/correction=truncated", "nothing to correct", "type algo/correction=none, or engine=vllm"),
    ("algo=ppo algo/correction=masked", "nothing to correct", "type algo/correction=none, or engine=vllm"),
    ("engine=vllm metrics.kl_rows=0", "metrics.kl_rows=0", "type metrics.kl_rows=64"),
    ("rollout.max_mismatch_kl=1 metrics.kl_rows=0", "rollout.max_mismatch_kl=1", "leave it out"),
    ("engine.graphs=true hardware=cpu", "engine.graphs=true", "hardware=gpu"),
    ("algo.select._target_=os.system", "algo.select._target_=os.system", "plugins=[os]"),
    ("~algo.kl", "algo: has no `kl`", "leave out what removes it (~algo.kl)"),
    ("hardware=fsdp hardware.devices=99", "hardware.devices=99", "type hardware.accelerator=cpu"),
    ("hardware=fsdp hardware.accelerator=cpu hardware.offload=true", "hardware.offload=true", "leave it out"),
    ("hardware=gpu hardware.devices=99", "hardware.devices=99", "type hardware=cpu"),
    ("plugins=[no_such_package]", "plugins: no package no_such_package", "install it"),
    (
        "dataset=jsonl dataset.path=words.jsonl dataset.heldout_size=1",
        "cannot represent",
        "choose another model or dataset",
    ),
    ("algo=sft dataset=jsonl dataset.path=good.jsonl dataset.heldout_size=1", "no solution", "dataset.solution_field="),
    ("model.path=./nowhere", "model.path=./nowhere: no such folder", "type model.path=DIR"),
    ("dataset=jsonl dataset.path=nowhere.jsonl", "dataset.path=nowhere.jsonl", "type dataset.path="),
    (
        "dataset=jsonl dataset.path=bad.jsonl dataset.heldout_size=1",
        "bad.jsonl: 1 of 2 answers",
        "dataset.bad_rows=drop",
    ),
]


@pytest.fixture(scope="module")
def program() -> Program:
    return programs.training()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(program: Program, words: str, capfd: pytest.CaptureFixture[str], *parts: str) -> None:
    here = sorted(Path.cwd().rglob("*"))
    assert program.exit_code([*words.split(), QUICK]) == 2
    said = capfd.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("error: ")
    assert [part for part in parts if part not in line] == [], line
    assert sorted(Path.cwd().rglob("*")) == here


@pytest.mark.parametrize(("words", "wrong", "instead"), BEFORE_TORCH)
def test_composition(
    program: Program, empty: Path, capfd: pytest.CaptureFixture[str], words: str, wrong: str, instead: str
):
    refused(program, words, capfd, wrong, instead)


@pytest.mark.parametrize(("words", "wrong", "instead"), AFTER_TORCH)
def test_building(
    program: Program, empty: Path, capfd: pytest.CaptureFixture[str], words: str, wrong: str, instead: str
):
    Path("good.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", "answer": "3"}\n')
    Path("words.jsonl").write_text('{"problem": "one", "answer": "2"}\n{"problem": "two", "answer": "3"}\n')
    Path("bad.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", "answer": "\\\\frac{1}{"}\n')
    refused(program, words, capfd, wrong, instead)


@pytest.mark.parametrize(
    ("yaml", "parts"),
    [
        ("optim: {lr: fast}", ("experiment/mine.yaml", "optim.lr", "fast")),
        ("optim: {lrr: 1}", ("experiment/mine.yaml", "optim.lrr")),
        ("optim: {lr: 1", ("mine.yaml, line 3",)),
        ("defaults: [{override /algo: grop}]", ("algo/grop", "did you mean algo=grpo?")),
        ("seed: ${sed}", ("seed", "'sed' not found")),
    ],
)
def test_a_file_of_ones_own(
    program: Program, empty: Path, capfd: pytest.CaptureFixture[str], yaml: str, parts: tuple[str, ...]
):
    (empty / "experiment").mkdir()
    (empty / "experiment/mine.yaml").write_text(f"# @package _global_\n{yaml}\n")
    refused(program, "--config-dir . experiment=mine", capfd, *parts)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("algo.clip.hihg=.3", "algo.clip.high"),
        ("-m algo=raft,grpo seed=1,x", "seed=x: not a number"),
        ("rollout.samples=0", "rollout.samples=0"),
        ("algo=grpo model=qwen", "could not be downloaded"),
    ],
)
def test_as_typed_in_a_shell(empty: Path, words: str, part: str):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(empty / "hub"), "WANDB_MODE": "offline"}
    command = [sys.executable, str(ROOT / "train.py"), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=empty, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert part in line
    assert not (empty / "outputs").exists()
    assert not (empty / "multirun").exists()
