"""The data of whole runs: several held-out sets, revisions of hub datasets, and rows that no memory holds."""

import json
import re
from pathlib import Path

import pytest

from fake_hub import running_hub
from running import SMALL, composed, metrics
from winnow.assemble import preflight
from winnow.assemble.evaluation import evaluate
from winnow.assemble.training import train
from winnow.config.data_check import check_data
from winnow.errors import ConfigError

WORDS = [word for word in SMALL if not word.startswith("dataset.")] + ["iterations=1", "eval.samples=1"]


def sums(low: int, count: int = 12) -> bytes:
    rows = [{"problem": f"{n}+1=", "answer": str(n + 1)} for n in range(low, low + count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_bytes(sums(1))
    Path("hard.csv").write_text("problem,answer\n" + "".join(f"{n}+9=,{n + 9}\n" for n in range(50, 56)))
    return tmp_path


def run(*words: str) -> Path:
    directory = Path("run")
    directory.mkdir()
    train(composed(*WORDS, *words), directory)
    return directory


def test_own_files_are_evaluated_beside_the_held_out_split(files: Path):
    words = ["dataset=file", "dataset.path=mine.jsonl", "dataset.heldout_size=4", "eval.sets=[heldout]"]
    rows = metrics(run(*words, "eval.files={hard:hard.csv}"))
    assert {key for row in rows for key in row if re.fullmatch("eval/.*/acc", key)} == {
        "eval/mine/acc",
        "eval/hard/acc",
        "eval/average/acc",
    }
    assert rows[0]["eval/average/acc"] == (rows[0]["eval/mine/acc"] + rows[0]["eval/hard/acc"]) / 2


def test_files_alone_replace_the_held_out_split(files: Path):
    rows = metrics(run("dataset=file", "dataset.path=mine.jsonl", "eval.files={hard:hard.csv}"))
    assert {key for row in rows for key in row if re.fullmatch("eval/.*/acc", key)} == {"eval/hard/acc"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval.files={hard:gone.csv}"], r"eval\.files\.hard=gone\.csv: no such file"),
        (["eval.sets=[heldout]", "eval.files={mine:hard.csv}"], r"eval\.files\.mine: is also the name"),
        (["dataset.heldout_path=gone.csv"], r"dataset\.heldout_path=gone\.csv: no such file"),
    ],
)
def test_held_out_files_that_cannot_be_read(files: Path, words: list[str], message: str):
    words = ["dataset=file", "dataset.path=mine.jsonl", "dataset.heldout_size=4", *words]
    if "gone" in words[-1]:  # is found before torch is imported
        with pytest.raises(ConfigError, match=message):
            check_data(composed(*WORDS, *words))
    with pytest.raises(ConfigError, match=message):
        run(*words)


def test_the_commit_of_a_hub_dataset_is_recorded(files: Path, monkeypatch: pytest.MonkeyPatch):
    with running_hub(files, monkeypatch) as hub:
        commit = hub.commit("maths/sums", {"train.jsonl": sums(1), "test.jsonl": sums(30)})
        run("dataset=hub", "dataset.repository=maths/sums", "dataset.heldout_split=test")
    read = {"dataset": f"maths/sums@{commit}"}
    assert json.loads(Path("run/summary.json").read_text())["revisions"] == read
    assert json.loads(Path("run/run.json").read_text())["starts"][0]["revisions"] == read
    assert f"`maths/sums@{commit}`" in Path("run/export/README.md").read_text()


def test_an_evaluation_records_the_commits_that_it_read(files: Path, monkeypatch: pytest.MonkeyPatch):
    with running_hub(files, monkeypatch) as hub:
        commit = hub.commit("maths/exam", {"test.jsonl": sums(1, 3)})
        exam = ["repository=maths/exam", "files=test.jsonl", "problem_field=problem", "answer_field=answer"]
        words = ["hardware=cpu", "eval.sets=[math500]", "eval.samples=1", "eval.max_tokens=8"]
        cfg = composed(*words, *(f"benchmarks.math500.{word}" for word in exam), program="evaluate")
        Path("done").mkdir()
        evaluate(cfg, Path("done"))
    read = {"math500": f"maths/exam@{commit}"}
    for name in ("summary.json", "results.json"):
        assert json.loads(Path("done", name).read_text())["revisions"] == read
    assert json.loads(Path("done/run.json").read_text())["starts"][0]["revisions"] == read


@pytest.mark.parametrize("held_out", [True, False])
def test_a_row_that_no_memory_holds_is_refused_by_name(files: Path, monkeypatch: pytest.MonkeyPatch, held_out: bool):
    """20,000 tokens have 400 million pairs, and so a mask of 0.4 GB beside a cache of 0.1, where there are 0.3."""
    monkeypatch.setattr(preflight, "available_bytes", lambda cfg: 0.3e9)
    long = json.dumps({"problem": "1+" * 10_000 + "1=", "answer": "7"}) + "\n"
    Path("long.jsonl").write_bytes(sums(1) + long.encode())
    train_path, heldout = ("mine", "long") if held_out else ("long", "mine")
    which = "evaluation set mine, line 13" if held_out else "training problem line 13"
    with pytest.raises(ConfigError, match=rf"{which}: its prompt has 20,002 tokens, .* takes 0\.5 GB"):
        run(
            "dataset=file",
            f"dataset.path={train_path}.jsonl",
            f"dataset.heldout_path={heldout}.jsonl",
            "dataset.overlap=keep",
            "eval.prompts=null",
        )
    assert not Path("run/metrics.jsonl").exists()
