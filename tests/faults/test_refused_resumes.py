"""Resumes that would make another run of a run are refused, and leave every byte in its directory as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from running import SMALL, metrics, program
from winnow.run_logs.run_record import read_record

OTHER_SETTINGS = (
    "seed=1",
    "algo=raft",
    "algo=raftpp",
    "algo=ppo",
    "algo/clip=none",
    "algo/kl=k3",
    "algo/advantage=reward",
    "algo/select=mixed_prompts",
    "algo/aggregate=token_mean",
    "algo.clip.high=0.3",
    "algo.entropy=0.01",
    "algo.rejected=zero",
    "arm=raftpp_no_clip",
    "reward=zero_one",
    "reward.correct=2",
    "reward.wrong=-0.5",
    "reward/verifier=exact",
    "rollout.prompts=8",
    "rollout.samples=8",
    "rollout.max_tokens=16",
    "rollout.temperature=0.9",
    "rollout.max_mismatch_kl=0.1",
    "update.minibatches=1",
    "update.epochs=2",
    "optim.lr=2e-5",
    "optim.betas=[0.9,0.99]",
    "optim.eps=1e-6",
    "optim.weight_decay=0.5",
    "optim.grad_clip=2",
    "optim.warmup=1",
    "optim.schedule=linear",
    "model=tiny_fresh",
    "model/lora=adapter",
    "model.path=elsewhere",
    "dataset.levels=[3]",
    "dataset=jsonl dataset.path=elsewhere.jsonl",
    "metrics.kl_rows=2",
    "engine.prefill_rows=2",
)
OTHERWISE_WRONG = (
    "iterations=1",
    "iterations=0",
    "iteration=5",
    "hydra/launcher=basic optim.lr=1",
    "-m seed=1,2",
    "hardware.devices=0",
    "eval.every=-1",
    "logger=gone",
)
SAVED_FILES = ("config", "hydra", "overrides")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("refused") / "run"
    assert program("train").exit_code([*SMALL, "iterations=2", "checkpoint.every=1", f"hydra.run.dir={run}"]) == 0
    return run


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refuse(run: Path, words: str, capfd: pytest.CaptureFixture[str], name: str = "train") -> str:
    """The one line that refuses the command; the directories are as they were."""
    before = contents(run.parent)
    capfd.readouterr()
    assert program(name).exit_code([f"resume={run}", *words.split()]) == 2
    assert contents(run.parent) == before
    [line] = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.faults
@pytest.mark.parametrize("words", OTHER_SETTINGS)
def test_another_setting_is_refused_and_named(made: Path, words: str, capfd: pytest.CaptureFixture[str]):
    line = refuse(made, f"{words} iterations=3", capfd)
    key = words.split("=")[0]
    assert "resume_force=true" in line or key in line
    assert key.split(".")[0].split("/")[0] in line


@pytest.mark.faults
@pytest.mark.parametrize("words", OTHERWISE_WRONG)
def test_a_resume_that_is_wrong_otherwise_changes_nothing(made: Path, words: str, capfd: pytest.CaptureFixture[str]):
    refuse(made, words, capfd)


@pytest.mark.faults
def test_all_changed_settings_are_listed(made: Path, capfd: pytest.CaptureFixture[str]):
    line = refuse(made, "optim.lr=2e-5 rollout.samples=8 reward=zero_one seed=3", capfd)
    for change in ("optim.lr was ", "rollout.samples was 4 and is 8", "reward was ", "seed was 0 and is 3"):
        assert change in line


@pytest.mark.faults
def test_another_program_is_named(made: Path, capfd: pytest.CaptureFixture[str]):
    assert "python train.py resume=" in refuse(made, "", capfd, "evaluate")


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def halve(path: Path) -> None:
    """What is left is a configuration too, with fewer keys."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))


def edit(path: Path) -> None:
    """The same settings in other bytes, as an editor leaves them that has changed some and others back."""
    path.write_text(path.read_text() + "# \n")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff{: ]")


@pytest.mark.faults
@pytest.mark.parametrize("damage", [remove, empty, halve, edit, garbage])
@pytest.mark.parametrize("name", SAVED_FILES)
def test_a_damaged_configuration_is_one_line(
    made: Path, tmp_path: Path, name: str, damage: Callable, capfd: pytest.CaptureFixture[str]
):
    run = shutil.copytree(made, tmp_path / "run")
    damage(run / ".hydra" / f"{name}.yaml")
    refuse(run, "iterations=3", capfd)


@pytest.mark.faults
def test_rows_of_another_run_are_refused(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    run = shutil.copytree(made, tmp_path / "run")
    text = (run / "hashes.jsonl").read_text()
    record = read_record(run)
    assert record is not None
    (run / "hashes.jsonl").write_text(text.replace(record.run, "0" * 16))
    assert "belongs to another run" in refuse(run, "iterations=3", capfd)


@pytest.mark.faults
def test_what_is_about_length_measuring_and_hardware_may_change(made: Path, tmp_path: Path):
    run = shutil.copytree(made, tmp_path / "run")
    words = "iterations=3 eval.prompts=2 eval.every=1 budget.seconds=1000 checkpoint.keep=1 hardware.token_budget=2048"
    assert program("train").exit_code([f"resume={run}", *words.split()]) == 0
    assert len(metrics(run)) == 4
    assert metrics(run)[:3] == metrics(made)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["iteration_000003"]
