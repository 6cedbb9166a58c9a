"""Evaluation on benchmarks in place of the dataset's held-out split."""

import json
from pathlib import Path

import pytest

from running import composed, metrics, run
from winnow.assemble import training
from winnow.data.arithmetic import chain_at
from winnow.errors import ConfigError


def chains(path: Path, start: int, right: bool = True) -> Path:
    """Four chains of two operations that the embedded model can read."""
    made = [chain_at(5, i, "heldout", (2,)) for i in range(start, start + 4)]
    rows = [{"problem": p.text, "answer": str(p.answer if right else p.answer + 1)} for p in made]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def two_sets(folder: Path) -> tuple[str, ...]:
    """Overrides that select gsm8k and minerva_math, each as a file of chains in `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: chains(folder / f"{name}.jsonl", 10 * i) for i, name in enumerate(("gsm8k", "minerva_math"))}
    return ("eval.sets=[gsm8k,minerva_math]", *(f"benchmarks.{name}.path={path}" for name, path in files.items()))


def test_held_out_accuracy_is_the_mean_of_the_sets(tmp_path: Path):
    accuracy = run(tmp_path / "run", *two_sets(tmp_path), "iterations=1", "eval.samples=2")
    last = metrics(tmp_path / "run")[-1]
    assert last["eval/average/acc"] == (last["eval/gsm8k/acc"] + last["eval/minerva_math/acc"]) / 2 == accuracy
    assert not any(key.startswith("eval/arithmetic") for key in last)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_last"] == accuracy
    assert summary["verifiers"] == {"gsm8k": "math_verify", "minerva_math": "numeric"}
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "| gsm8k | math_verify |" in card
    assert "| minerva_math | numeric |" in card


def test_a_wrong_gold_makes_the_same_answers_wrong(tmp_path: Path):
    words = ("iterations=1", "eval.sets=[gsm8k]", "eval.samples=4", "rollout.max_tokens=72")
    right = run(tmp_path / "a", *words, f"benchmarks.gsm8k.path={chains(tmp_path / 'right.jsonl', 0)}")
    wrong = run(tmp_path / "b", *words, f"benchmarks.gsm8k.path={chains(tmp_path / 'wrong.jsonl', 0, right=False)}")
    assert right is not None
    assert wrong is not None
    assert right > 0.3 > 0.1 > wrong


def test_a_training_problem_that_is_in_an_evaluation_set_is_dropped_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train = chains(tmp_path / "train.jsonl", 0)
    train.write_text(train.read_text() + chains(tmp_path / "more.jsonl", 40).read_text())
    (tmp_path / "run").mkdir()
    sizes = ("rollout.prompts=2", "rollout.samples=2", "update.minibatches=1", "eval.prompts=2", "iterations=1")
    sets = ("eval.sets=[gsm8k]", f"benchmarks.gsm8k.path={chains(tmp_path / 'gsm8k.jsonl', 0)}")
    cfg = composed("dataset=jsonl", f"dataset.path={train}", *sets, *sizes, "hardware=cpu", "logger=none")
    training.train(cfg, tmp_path / "run")
    assert "train: 8 training problems (4 dropped: also in evaluation set gsm8k)" in capsys.readouterr().out


def test_a_folder_of_benchmarks_that_lacks_one(tmp_path: Path):
    chains(tmp_path / "gsm8k.jsonl", 0)
    with pytest.raises(ConfigError, match=r"no aime24\.jsonl in it \(found: gsm8k\.jsonl\)"):
        run(tmp_path / "run", "iterations=1", "eval.sets=[gsm8k,aime24]", f"eval.folder={tmp_path}")
