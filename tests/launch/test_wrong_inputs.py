"""Wrong inputs of every kind: exit code 2, one line that says what is wrong and what to type, and no file touched.

What the configuration alone shows is found before torch is imported. The seconds of each are in docs/log.md, by
`python tests/launch/measure_refusals.py`.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from launch.refusals import HEAVY, Refusal

HERE = Path(__file__).parent
FILE = "dataset=file dataset.path=sums.jsonl dataset.heldout_size=3"

OTHER_AXIS = "algo=grpo algo.select._target_=winnow.ops.advantage.one"

IMPORTING = "is still being imported"
"""Words of a line about an import that takes long, as on a machine that has much to do."""

Case = tuple[str, str, str]
"""The words typed, what is wrong and where, and what to type instead."""

LIGHT: list[Case] = [
    ("dataset=file", "dataset.path and dataset.repository are not set", "type dataset.path=FILE.jsonl"),
    (
        "dataset=file dataset.path=pipe.jsonl",
        "dataset.path=pipe.jsonl: not a regular file",
        "type dataset.path=FILE.jsonl",
    ),
    ("dataset=file dataset.path=folder", "dataset.path=folder: a folder", "type dataset.path=FILE.jsonl"),
    ("dataset=file dataset.path=broken.jsonl", "broken.jsonl:4: not a JSON object", "dataset.bad_rows=drop"),
    ("dataset=file dataset.path=unreadable.jsonl dataset.heldout_size=1", "line 4 ('\\\\frac{1}{')", "bad_rows=drop"),
    ("dataset=file dataset.path=capitals.jsonl dataset.heldout_size=1", "line 4 ('東京')", "reward/verifier=exact"),
    (FILE.replace("=3", "=200"), "dataset.heldout_size=200: sums has 20 rows", "type e.g. dataset.heldout_size=4"),
    (f"{FILE} curriculum=column curriculum.column=size", "no such column", "there are problem, answer, level"),
    ("dataset.levels=[3,a]", "dataset.levels=[3, 'a']: must be a list of numbers", "type dataset.levels=[3,4,5,6]"),
    ("~dataset.levels", "dataset: has no `levels`", "leave out what removes it (~dataset.levels)"),
    ("~seed", "~seed: every run needs this setting", "leave out the ~seed"),
    ("~hardware", "hardware: has no value", "type hardware=auto|cpu|ddp|fsdp|gpu|multi_node|slurm"),
    ("dataset=mix 'dataset.mix={a:gsm9k}'", "dataset.mix.a=gsm9k: no such dataset", "did you mean gsm8k?"),
    (
        "dataset=mix 'dataset.mix={a:{path:sums.jsonl},b:{path:sums.jsonl}}' rollout.problems=1 rollout.prompts=1",
        "rollout.problems=1: dataset.mix has 2 parts",
        "type rollout.problems=2",
    ),
    ("eval.files=[sums.jsonl]", "eval.files=['sums.jsonl']: must be files by name", "type 'eval.files={easy:a.jsonl"),
    ("hydra.run.dir=/dev/null", "hydra.run.dir=/dev/null: /dev/null is no directory", "choose another directory"),
    ("hydra.run.dir=.", "hydra.run.dir=.: holds README.md, adapter, bert and", "such as hydra.run.dir=NAME"),
    ("-m seed=1,2 hydra.sweep.dir=.", "hydra.sweep.dir=.: holds README.md", "such as hydra.sweep.dir=NAME"),
    (
        "reward=function reward.functions=[winnow.rewards:acuracy]",
        "has no acuracy",
        "did you mean winnow.rewards:accuracy",
    ),
    ("reward=function reward.weights=[1,2]", "reward.weights=[1, 2]: must be one number", "type reward.weights=[1]"),
    (
        "reward/verifier=function reward.verifier.rule.function=winnow.rewards.rules:Exakt",
        "winnow.rewards.rules has no Exakt",
        "did you mean winnow.rewards.rules:Exact?",
    ),
    ("logger=[csv,nope]", "logger=nope: no such choice", "choices: none, csv"),
    ("logger=[csv,csv]", "logger=[csv,csv]: csv is named twice", "name each once"),
    ("trainer.precision=16", "trainer.precision=16: a name of Lightning's", "type hardware.precision=bf16-mixed"),
    ("+trainer.accumulate_grad_batches=4", "a name of Lightning's Trainer", "type hardware.token_budget=4096"),
    ("hparams_search=optuna hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0", "type hydra.sweeper.n_trials=8"),
    ("-m hparams_search=optuna optim.lrr=interval(1,2)", "optim.lrr=1.0: no such key", "did you mean optim.lr?"),
    ("num_generations=8", "num_generations=8: a name of TRL", "type rollout.samples=8"),
    ("model=custom model.path=gone/ dataset=arithmetic", "model.path=gone/: no such folder", "type model.path=DIR"),
    ("model=custom model.path=bert dataset=arithmetic", "BertForMaskedLM is an encoder", "choose a decoder"),
    ("resume=ended", "resume=ended:", "start a"),
    ("winnow report folder --out README.md", "--out README.md: is a file", "type a directory"),
    ("winnow report ended", "ended/metrics.jsonl, line 2: not JSON", "remove the line"),
    ("winnow verify empty.jsonl", "empty.jsonl: the file has no rows", "it needs a JSON object a line"),
    ("winnow verify wrong_cases.jsonl", "wrong_cases.jsonl, line 2", 'expected {"gold": "1/2"'),
    (f"winnow prompt {FILE.replace('=3', '=200')}", "sums has 20 rows", "type e.g. dataset.heldout_size=4"),
    ("winnow export ended README.md", "README.md: exists already", "type the name of a new directory"),
    ("winnow new folder", "folder: holds something already", "type the name of a new directory"),
    ("winnow new class", "class: no package can be called 'class'", "type another name"),
]
"""Faults that are found without torch."""

WITH_TORCH: list[Case] = [
    ("algo/ratio=none", "algo/ratio is none", "add algo/clip=none"),
    ("algo/correction=truncated", "there is nothing to correct", "type algo/correction=none, or engine=vllm"),
    (OTHER_AXIS, "algo.select: one is a rule of algo/advantage", "algo/select gives by position rewards, correct"),
    ("hardware=gpu hardware.devices=99", "hardware.devices=99: torch can use", "type hardware=cpu"),
]
"""Faults that take torch to be seen, and neither transformers nor Lightning."""

MORE: list[Case] = [
    *(
        (f"winnow {command} {OTHER_AXIS}", "algo.select: one is a rule of algo/advantage", "algo/select gives")
        for command in ("explain", "check", "oracle")
    ),
    ("algo=grpo algo.kl._target_=winnow.objectives.Sync", "algo.kl: a Sync and no KL term", "type algo/kl=k2"),
    ("dataset=file dataset.path=empty.jsonl", "dataset.path=empty.jsonl", "the file has no rows"),
    ("dataset=file dataset.path=unlabelled.jsonl", "no field 'answer'", "type dataset.answer_field=NAME"),
    (f"{FILE} dataset.heldout_path=gone.jsonl", "dataset.heldout_path=gone.jsonl: no such file", "type dataset.held"),
    (f"{FILE} dataset.problem_field=text", "line 1: no field 'text'", "type dataset.problem_field=NAME"),
    (f"{FILE} 'dataset.filter=\"size > 3\"'", "size", "level"),
    ("dataset=hub", "dataset.repository are not set", "dataset.repository=OWNER/NAME"),
    ("dataset=hub dataset.repository=a/b/c", "dataset.repository=a/b/c: must be OWNER/NAME", "as on the hub"),
    ("dataset=mix", "dataset.mix is empty", "type e.g. 'dataset.mix={"),
    ("dataset=mix dataset.mix=[sums.jsonl]", "dataset.mix=['sums.jsonl']: must be datasets by name", "type e.g."),
    ("dataset=mix 'dataset.mix={a:{pth:sums.jsonl}}'", "dataset.mix.a.pth: no such setting", "did you mean path?"),
    ("dataset=mix 'dataset.mix={a:{path:gone.jsonl}}'", "dataset.mix.a.path=gone.jsonl: no such file", "type dataset"),
    (
        "dataset=mix 'dataset.mix={a:{path:sums.jsonl}}' 'dataset.weights={b:1}'",
        "dataset.weights.b: no part",
        "there are a",
    ),
    ("dataset=mix 'dataset.mix={a:{path:sums.jsonl}}' 'dataset.weights={a:x}'", "must be positive", "type 'dataset.w"),
    ("dataset=mix 'dataset.mix={a:reasoning_gym}'", "dataset.mix.a=reasoning_gym: brings other", "type dataset="),
    ("dataset.levels=3", "dataset.levels=3: not a list", "type for example dataset.levels=[3"),
    ("dataset=reasoning_gym dataset.tasks=[1]", "dataset.tasks=[1]: must be names of tasks", "type dataset.tasks="),
    ("optim.betas=[0.9,x]", "optim.betas=[0.9,x]: not a number", "type for example optim.betas=[0.9"),
    ("plugins=[1]", "plugins: no package 1", "install it"),
    ("eval.sets=[[math500]]", "eval.sets: no benchmark ['math500']", "there are math500"),
    ("logger=wandb 'logger.wandb.tags=[1]'", "logger.wandb.tags=[1]: must be", "a list of texts"),
    ("~rollout", "~rollout: every run needs this setting", "leave out the ~rollout"),
    ("~model", "model: has no value", "type model=custom|"),
    ("~reward", "reward: has no value", "type reward=function|"),
    ("~reward.correct", "reward.correct: has no value", "leave out what removes it"),
    ("~benchmarks", "benchmarks: must be", "a group of benchmarks"),
    ("hydra.run.dir=folder", "hydra.run.dir=folder: holds mine.txt", "such as hydra.run.dir=folder/NAME"),
    ("hydra.run.dir=README.md/run", "README.md is no directory", "choose another directory"),
    ("hydra.run.dir=pipe.jsonl", "pipe.jsonl is no directory", "choose another directory"),
    ("-m seed=1,2 hydra.sweep.dir=/dev/null", "hydra.sweep.dir=/dev/null", "choose another directory"),
    ("-m seed=1,x", "seed=x: not a number", "type for example seed=0"),
    ("eval.files={math500:sums.jsonl}", "eval.files.math500: is the name of another", "choose another name"),
    ("'eval.files={a:gone.jsonl}'", "eval.files.a=gone.jsonl: no such file", "type eval.files.a=FILE.jsonl"),
    ("eval.folder=gone eval.sets=[math500]", "eval.folder=gone: no math500.jsonl in it", "or another folder"),
    ("curriculum=column", "curriculum.column is not set", "type curriculum.column=NAME"),
    ("algo=sft collector=refill", "collector=refill: demonstrations are not sampled", "type collector=fixed"),
    ("collector=adaptive rollout.staleness=1", "collector=adaptive draws by the verdicts", "type rollout.staleness=0"),
    ("collector=refill algo=raft rollout.samples=1", "rollout.samples=1: collector=refill", "type more samples"),
    ("collector=adaptive rollout.samples=33", "draws 32 samples of a prompt at most", "type rollout.samples=32"),
    ("algo=raft collector=budgets hardware=fsdp", "collector=budgets reads gradients", "type hardware=ddp"),
    ("algo=raft collector=budgets model/lora=adapter", "the embeddings are not trained", "collector.gradient=all"),
    ("collector=adaptive collector.positives=3", "collector.goal=balance does not read it", "goal=positives, or leave"),
    (
        "collector=adaptive collector.goal=positives collector.positives=33",
        "collector.positives=33: collector=adaptive draws 32 samples",
        "type collector.positives=32 or fewer",
    ),
    ("engine/alter=temperature engine.alter.factor=1", "engine.alter.factor=1: must be", "type engine/alter=none"),
    ("algo/tokens=top_entropy algo.tokens.share=1", "algo.tokens.share=1: must be", "type algo/tokens=all"),
    ("experiment=recipe/gvm_raft algo=sft", "experiment=recipe/gvm_raft: sets algo/kl", "leave that algo out"),
    ("''", "an override is empty", "leave it out, or type KEY=VALUE"),
    ("collector.rounds=3", "collector=fixed has no `rounds`", "type collector="),
    ("curriculum.start=0.5", "curriculum=none has no `start`", "type curriculum=column curriculum.start=0.5"),
    (
        "reward=function reward.functions=[accuracy]",
        "must be module:name",
        "reward.functions=[winnow.rewards:accuracy]",
    ),
    ("reward=function reward.functions=[os:system]", "os:system: not part of winnow", "type plugins=[os]"),
    ("reward=function 'reward.success={name:a,at_least:1}'", "reward.success.name=a: no such", "there are accuracy"),
    ("reward.weights=[1]", "reward=plus_minus_one has no `weights`", "type reward=function reward.weights=[1]"),
    ("reward/verifier=numeric reward.verifier.rule.relative=2", "rule.relative=2: must be", "from 0 to 1"),
    ("callbacks=[timer,nope]", "callbacks=nope: no such choice", "choices: none, device_stats"),
    ("callbacks=timer logger=none", "callbacks=timer: its figures go to the loggers", "type logger=csv"),
    ("trainer.max_epochs=3", "a name of Lightning's Trainer", "type iterations=3"),
    ("hparams_search=optuna hydra.sweeper.direction=up", "hydra.sweeper.direction=up", "maximize or minimize"),
    ("hparams_search=optuna optimized_metric=nope", "optimized_metric=nope: must be", "eval_last"),
    ("beta=0.1", "beta=0.1: a name of TRL", "type algo/kl=k3 algo.kl.coef=0.1"),
    ("actor_rollout_ref.rollout.n=8", "a name of verl", "type rollout.samples=8"),
    ("model=custom model.path=./gone dataset=arithmetic", "model.path=./gone: no such folder", "type model.path=DIR"),
    ("model=custom model.path=README.md dataset=arithmetic", "model.path=README.md: a file", "type model.path=DIR"),
    ("model=custom model.path=adapter dataset=arithmetic", "holds an adapter", "type model.path=DIR with the merged"),
    ("winnow verify pipe.jsonl", "pipe.jsonl: not a regular file", "type the path of a JSONL file"),
    ("winnow verify cases.jsonl reward/verifier=nope", "reward/verifier=nope: no such choice", "choices: exact"),
    ("winnow report gone", "gone: no such directory", "name runs or sweeps"),
    ("winnow report folder", "folder: no run found there", "name runs or sweeps"),
    ("winnow prompt --set nope", "--set nope: no such benchmark", "there are math500"),
    ("winnow export gone out", "gone: no run directory", "type outputs/DAY/NAME"),
    ("winnow new torch", "there is a package torch already", "type another name"),
    ("winnow new README.md/x", "README.md/x: cannot be written", "type another directory"),
    ("winnow rescore gone out", "gone: no results.json", "continues one that was interrupted"),
    ("winnow evaluate run=folder", "run=folder: no run directory", "type run=outputs/DAY/NAME"),
    ("winnow evaluate limit=0", "limit=0: must be", "1 or more, or null"),
    ("winnow evaluate hydra.run.dir=.", "hydra.run.dir=.: holds README.md", "hydra.run.dir=NAME"),
]
"""Further faults of the same kinds, which run apart."""


def ends(place: Path, cases: Iterable[Case]) -> list[Refusal]:
    """The ends of the commands, tried in one fresh process."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "cases.json").write_text(json.dumps([shlex.split(words) for words, _, _ in cases]))
    environment = os.environ | {"HF_HOME": str(place / "hub"), "WINNOW_CACHE": str(place / "cache")}
    done = subprocess.run(
        [sys.executable, HERE / "refusals.py", "cases.json"],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment,
        check=False,
    )
    found = [Refusal(**json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(list(cases)), done.stderr
    return found


def require_refused(end: Refusal, wrong: str, instead: str, imports: Iterable[str]) -> None:
    said = [line for line in end.said if IMPORTING not in line]
    assert (end.code, len(said)) == (2, 1), end
    [line] = said
    assert line.startswith("error: ")
    assert wrong in line
    assert instead in line
    assert end.changed == []
    assert [name for name in end.imported if name not in imports] == []


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    return ends(tmp_path_factory.mktemp("ordinary"), [*LIGHT, *WITH_TORCH])


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    return ends(tmp_path_factory.mktemp("further"), MORE)


@pytest.mark.parametrize("number", range(len(LIGHT)), ids=[words for words, _, _ in LIGHT])
def test_a_fault_is_found_before_torch_is_imported(ordinary: list[Refusal], number: int):
    require_refused(ordinary[number], *LIGHT[number][1:], imports=())


@pytest.mark.parametrize("number", range(len(WITH_TORCH)), ids=[words for words, _, _ in WITH_TORCH])
def test_a_fault_is_found_before_the_models_are_imported(ordinary: list[Refusal], number: int):
    require_refused(ordinary[len(LIGHT) + number], *WITH_TORCH[number][1:], imports=("torch",))


@pytest.mark.faults
@pytest.mark.parametrize("number", range(len(MORE)), ids=[words for words, _, _ in MORE])
def test_further_faults(further: list[Refusal], number: int):
    require_refused(further[number], *MORE[number][1:], imports=HEAVY)


def test_as_typed_in_a_shell(tmp_path: Path):
    """The first process of a command, which has not imported anything yet."""
    (tmp_path / "README.md").write_text("Mine.\n")
    command = [sys.executable, "-m", "winnow", "train", "hydra.run.dir=.", "logger=none"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: hydra.run.dir=.: holds README.md, which no run wrote")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_reader_that_goes_ends_a_command_without_a_traceback(tmp_path: Path):
    rows = "".join(json.dumps({"gold": str(n), "pred": str(n)}) + "\n" for n in range(5000))
    (tmp_path / "cases.jsonl").write_text(rows)
    command = [sys.executable, "-m", "winnow", "verify", "cases.jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["verdict"] == "correct"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + 13
