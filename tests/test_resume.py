"""Three iterations and a resume are six iterations, bit for bit."""

import json
from pathlib import Path

import pytest
import torch

from running import metrics, run, weights
from winnow.errors import ConfigError, Stopped
from winnow.run_logs.run_files import RunFiles
from winnow.training.callbacks import StopOnSignal

ALGORITHMS = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_three_and_resume_equal_six(tmp_path: Path, algo: str):
    run(tmp_path / "whole", f"algo={algo}", "iterations=6")
    run(tmp_path / "parts", f"algo={algo}", "iterations=3")
    halfway = weights(tmp_path / "parts")
    run(tmp_path / "parts", f"algo={algo}", "iterations=6", f"resume={tmp_path / 'parts'}")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert weights(tmp_path / "parts") != halfway
    counted = {name: RunFiles(tmp_path / name).evaluations() for name in ("parts", "whole")}
    assert [counts.iteration for counts in counted["parts"]] == [0, 2, 3, 4, 6]
    assert [counts for counts in counted["parts"] if counts.iteration != 3] == counted["whole"]
    parts, whole = metrics(tmp_path / "parts"), metrics(tmp_path / "whole")
    # Row 3 ended the shorter run, and so carries an evaluation that the longer run has no reason to make.
    parts[3] = {key: value for key, value in parts[3].items() if not key.startswith("eval/")}
    assert parts == whole


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
def test_with_adapters_too_and_their_checkpoints_hold_nothing_frozen(tmp_path: Path, algo: str):
    words = (f"algo={algo}", "model/lora=adapter", "optim.lr=1e-3")
    run(tmp_path / "whole", *words, "iterations=4")
    run(tmp_path / "parts", *words, "iterations=2")
    halfway = weights(tmp_path / "parts")
    run(tmp_path / "parts", *words, "iterations=4", f"resume={tmp_path / 'parts'}")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert weights(tmp_path / "parts") != halfway
    assert metrics(tmp_path / "parts")[3:] == metrics(tmp_path / "whole")[3:]
    state = torch.load(tmp_path / "whole" / "checkpoints" / "iteration_000004" / "state.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in state["state_dict"]} <= {"policy", "critic"}
    assert all("lora_" in name or name.startswith("critic.head") for name in state["state_dict"])


def test_the_learning_signal_is_real(tmp_path: Path):
    """What the resume tests compare is not six idle iterations."""
    run(tmp_path, "algo=grpo", "iterations=3")
    assert sum(row.get("train/updates", 0) for row in metrics(tmp_path)) >= 4


def test_a_run_is_not_resumed_on_other_weights(tmp_path: Path):
    """The reference of KL and preference terms is the initial model, which a checkpoint does not hold."""
    other = tmp_path / "other"
    run(other, "iterations=1")
    run(tmp_path / "run", "iterations=1", f"model.path={other / 'export'}")
    before = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(ConfigError, match="began with other weights"):
        run(tmp_path / "run", "iterations=2", f"resume={tmp_path / 'run'}")
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_new_learning_rate_counts_after_a_resume(tmp_path: Path):
    run(tmp_path, "iterations=1", "optim.lr=1e-5")
    run(tmp_path, "iterations=2", "optim.lr=7e-4", f"resume={tmp_path}")
    assert [row["train/lr"] for row in metrics(tmp_path)[1:]] == [1e-5, 7e-4]


def test_an_evaluation_that_a_signal_prevented_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped after iteration 1 and resumed to 1 in all: the run ends with the accuracy of what it exports."""
    with monkeypatch.context() as during:
        during.setattr(StopOnSignal, "on_train_start", lambda self, trainer, module: setattr(self, "code", 75))
        with pytest.raises(Stopped):
            run(tmp_path, "iterations=9", "eval.every=0")
    assert not any(key.startswith("eval/") for key in metrics(tmp_path)[1])
    accuracy = run(tmp_path, "iterations=1", f"resume={tmp_path}")
    rows = metrics(tmp_path)
    assert len(rows) == 2
    assert (
        rows[1]["eval/arithmetic/acc"] == accuracy == json.loads((tmp_path / "summary.json").read_text())["eval_last"]
    )
    run(tmp_path / "whole", "iterations=1")
    assert rows[1] == metrics(tmp_path / "whole")[1]
    counts = RunFiles(tmp_path).evaluations()
    assert counts == RunFiles(tmp_path / "whole").evaluations()
    assert sum(counts[-1].correct) / len(counts[-1].correct) == accuracy


def test_fewer_iterations_than_are_done_are_refused_and_the_run_stays_as_it_was(tmp_path: Path):
    run(tmp_path, "iterations=3")
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(ConfigError, match=r"iterations=2: .* has done 3; .* type iterations=4 or more"):
        run(tmp_path, "iterations=2", f"resume={tmp_path}")
    assert (tmp_path / "summary.json").read_bytes() == before
