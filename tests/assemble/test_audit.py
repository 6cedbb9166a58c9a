"""`winnow audit`: the right word for runs as they were, edited ones, resumed ones, and those of another machine."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from running import SMALL, program
from winnow import cli
from winnow.files import sha256_of
from winnow.run_logs.file_check import segments
from winnow.run_logs.hashes import text_hash
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import read_record

EQUAL, CONFIG, DIFFERS, UNDECIDED = 0, 2, 4, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six iterations that was resumed twice, with another learning rate after the third."""
    top = tmp_path_factory.mktemp("audited")
    words = (*SMALL, "algo=grpo", "checkpoint.every=1", "checkpoint.keep=all")
    assert program("train").exit_code([*words, "iterations=3", f"hydra.run.dir={top / 'run'}"]) == 0
    again = (f"resume={top / 'run'}", "optim.lr=2e-4", "resume_force=true")
    assert program("train").exit_code([*again, "iterations=5"]) == 0
    assert program("train").exit_code([f"resume={top / 'run'}", "iterations=6"]) == 0
    return top / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def audited(run: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Function that audits the run: exit code and lines."""

    def audited(*words: str) -> tuple[int, list[str]]:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        capfd.readouterr()
        code = cli.exit_code(["audit", str(run), *words])
        captured = capfd.readouterr()
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        return code, (captured.out + captured.err).splitlines()

    return audited


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def keep_only(run: Path, iteration: int) -> None:
    """Delete all checkpoints but that after `iteration`."""
    for folder in (run / "checkpoints").iterdir():
        if folder.name != f"iteration_{iteration:06d}":
            shutil.rmtree(folder)


def test_every_iteration_of_a_run_resumed_twice_is_equal(audited: Callable[..., tuple[int, list[str]]]):
    code, lines = audited("--iterations", "9", "--from-start")
    assert code == EQUAL
    assert [line for line in lines if "computed again, equal" in line] == [
        *(f"iteration {number}: computed again, equal" for number in range(1, 7)),
        "export/ (checkpoint of iteration 6): computed again, equal",
    ]
    assert not any("differs" in line for line in lines)


def test_each_segment_has_its_own_configuration(run: Path):
    record = read_record(run)
    assert record is not None
    assert [(segment.start.after, segment.changed) for segment in segments(run, record)] == [(0, ()), (3, ()), (5, ())]
    rates = [RunFiles(run).rows()[number]["train/lr"] for number in (3, 4, 6)]
    assert rates[1] == rates[2] == 2e-4 != rates[0]
    assert record.changes == [f"after iteration 3: optim.lr was {rates[0]} and is 0.0002"]


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("samples/iteration_000002.jsonl", '"reward": ', '"reward":  ', "samples/iteration_000002.jsonl was edited"),
        ("metrics.jsonl", '"rollout/acc": ', '"rollout/acc": 1', "the row of iteration 1 was edited"),
        ("evaluations.jsonl", '"correct": [', '"correct": [4, ', "the lines of iteration 0 were edited"),
        ("summary.json", '"eval_last": ', '"eval_last": 1', "summary.json: eval_last"),
        (".hydra/config.yaml", "seed: 0", "seed: 1", ".hydra/config.yaml was edited"),
        (".hydra/until_000003/config.yaml", "seed: 0", "seed: 1", ".hydra/until_000003/config.yaml was edited"),
        (".hydra/overrides.yaml", "algo=grpo", "algo=raft", ".hydra/overrides.yaml was edited"),
    ],
)
def test_an_edited_file_is_named(
    run: Path, audited: Callable[..., tuple[int, list[str]]], name: str, old: str, new: str, named: str
):
    edit(run / name, old, new)
    code, lines = audited("--iterations", "0")
    assert code == DIFFERS
    assert any(line.startswith("not as recorded: ") and named in line for line in lines)


@pytest.mark.parametrize("name", ["metrics.jsonl", "hashes.jsonl", "evaluations.jsonl"])
@pytest.mark.parametrize("content", ["", "{", "[]\n", "{}\n", '{"iteration": "x"}\n'])
def test_a_file_of_rows_that_is_none_differs(
    run: Path, audited: Callable[..., tuple[int, list[str]]], name: str, content: str
):
    (run / name).write_text(content)
    assert audited("--iterations", "0")[0] == DIFFERS


def test_samples_edited_together_with_their_hash_are_found_by_computing_them_again(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    keep_only(run, 1)
    path = run / "samples" / "iteration_000002.jsonl"
    before = text_hash(path.read_text())
    edit(path, '"sample": 1', '"sample": 2')
    edit(run / "hashes.jsonl", before, text_hash(path.read_text()))
    code, lines = audited()
    assert code == DIFFERS
    assert "iteration 2: computed again, differs in samples" in lines


def test_a_configuration_edited_together_with_its_hash_is_found_by_computing_again(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    keep_only(run, 2)
    kept = run / ".hydra" / "until_000003" / "config.yaml"
    before = text_hash(kept.read_text())
    edit(kept, "temperature: 1.0", "temperature: 0.9")
    edit(run / "run.json", before, text_hash(kept.read_text()))
    code, lines = audited()
    assert code == DIFFERS
    assert [line for line in lines if "iteration 3: computed again, differs in samples, weights, metrics (" in line]


def test_a_damaged_checkpoint_is_named_and_what_follows_it_is_not_checked(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    with (run / "checkpoints" / "iteration_000004" / "state.ckpt").open("ab") as file:
        file.write(b"x")
    code, lines = audited("--iterations", "0")
    assert code == DIFFERS
    assert any("checkpoints/iteration_000004" in line for line in lines)
    assert "not checked: iterations 1, 5: no checkpoint is kept directly before them" in lines


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_edited_file_of_the_exported_model_is_named(
    run: Path, audited: Callable[..., tuple[int, list[str]]], name: str
):
    path = run / "export" / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    code, lines = audited("--iterations", "1")
    assert code == DIFFERS
    assert f"export/ (checkpoint of iteration 6): computed again, differs in {name}" in lines


def test_a_last_checkpoint_exchanged_with_its_manifest_is_found(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    """No iteration follows it; its weights are not those whose hash the last iteration recorded."""
    folder = run / "checkpoints" / "iteration_000006"
    state = torch.load(folder / "state.ckpt", weights_only=True)
    name = next(iter(state["state_dict"]))
    state["state_dict"][name] += 1
    torch.save(state, folder / "state.ckpt")
    manifest = {"schema": 1, "iteration": 6, "sha256": sha256_of(folder / "state.ckpt")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, lines = audited("--iterations", "1")
    assert code == DIFFERS
    assert any(line.startswith("export/") and "the weights of that checkpoint" in line for line in lines)


def test_an_exported_model_whose_checkpoint_is_gone_is_not_checked(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    shutil.rmtree(run / "checkpoints" / "iteration_000006")
    code, lines = audited("--iterations", "1")
    assert code == EQUAL
    assert any(line.startswith("not checked: export/") for line in lines)


def test_a_difference_on_another_machine_is_undecided(run: Path, audited: Callable[..., tuple[int, list[str]]]):
    """An equal result needs no excuse; a difference has one."""
    keep_only(run, 4)
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(re.sub(r'"torch": "[^"]+"', '"torch": "1.0"', text))
    assert audited("--iterations", "1")[0] == EQUAL
    path = run / "hashes.jsonl"
    edit(path, str(RunFiles(run).recorded_hashes()[5].weights), "0" * 64)
    code, lines = audited("--iterations", "1")
    assert code == UNDECIDED
    assert any("differs in weights, which may be because of torch" in line and "not 1.0" in line for line in lines)


def test_without_kept_checkpoints_the_first_iteration_is_computed_again(
    run: Path, audited: Callable[..., tuple[int, list[str]]]
):
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "samples")
    code, lines = audited()
    assert code == EQUAL
    assert "iteration 1: computed again, equal" in lines
    assert "not checked: iterations 2–6: no checkpoint is kept directly before them" in lines
    assert "not checked: samples/iteration_000002.jsonl is missing" in lines


@pytest.mark.parametrize("missing", ["run.json", "everything"])
def test_what_is_no_run_is_refused(run: Path, audited: Callable[..., tuple[int, list[str]]], missing: str):
    (run / "run.json").unlink()
    if missing == "everything":
        shutil.rmtree(run)
    code, [line] = audited()
    assert code == CONFIG
    assert line.startswith("error: ")


def test_an_iteration_that_was_resumed_into_keeps_the_evaluation_that_ended_the_shorter_run(made: Path):
    """Its row has one, which the longer run would not have made; the segment's configuration makes it again."""
    rows = RunFiles(made).rows()
    assert [number for number, row in enumerate(rows) if "eval/arithmetic/acc" in row] == [0, 2, 3, 4, 5, 6]
