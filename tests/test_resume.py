"""Three iterations and a resume are six iterations, bit for bit."""

from pathlib import Path

import pytest

from running import metrics, run, weights

ALGORITHMS = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_three_and_resume_equal_six(tmp_path: Path, algo: str):
    run(tmp_path / "whole", f"algo={algo}", "iterations=6")
    run(tmp_path / "parts", f"algo={algo}", "iterations=3")
    halfway = weights(tmp_path / "parts")
    run(tmp_path / "parts", f"algo={algo}", "iterations=6", f"resume={tmp_path / 'parts'}")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert weights(tmp_path / "parts") != halfway
    # Row 3 of the shorter run ends it, and so carries an evaluation that the longer run has no reason to make.
    parts = [{k: v for k, v in row.items() if not k.startswith("eval/")} for row in metrics(tmp_path / "parts")]
    whole = [{k: v for k, v in row.items() if not k.startswith("eval/")} for row in metrics(tmp_path / "whole")]
    assert parts == whole
    assert metrics(tmp_path / "parts")[6] == metrics(tmp_path / "whole")[6]


def test_the_learning_signal_is_real(tmp_path: Path):
    """What the resume tests compare is not six idle iterations."""
    run(tmp_path, "algo=grpo", "iterations=3")
    assert sum(row.get("train/updates", 0) for row in metrics(tmp_path)) >= 4
