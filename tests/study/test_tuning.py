"""Each algorithm at the best of its own learning rates; a seed's rate is chosen by the other seeds."""

from pathlib import Path

import pytest

from study.studies import ACCURACY, rows, write_run
from winnow.study.report.write import write_report
from winnow.study.study import Study, read_study
from winnow.study.tables import tuning_table
from winnow.study.tuning import tune

ENDS = {
    ("raft", "1e-4"): (0.60, 0.61, 0.90),  # best for seed 2 by luck alone
    ("raft", "5e-5"): (0.70, 0.71, 0.72),
    ("grpo", "1e-4"): (0.50, 0.51, 0.52),
    ("grpo", "5e-5"): (0.80, 0.81, 0.83),
}
"""Late accuracies of seeds 0, 1 and 2."""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for (arm, rate), ends in ENDS.items():
        for seed, end in enumerate(ends):
            directory = tmp_path / arm / rate / str(seed)
            write_run(directory, arm, seed, rows({ACCURACY: end}), overrides=[f"arm={arm}", f"optim.lr={rate}"])
    return read_study([tmp_path])


def test_a_seeds_setting_is_the_best_of_the_others(study: Study):
    """RAFT at 1e-4 has the best mean (0.703) through seed 2; without it, 0.605, it loses to 0.705."""
    tuning = tune(study)
    assert tuning is not None
    assert tuning.chosen["raft"] == {
        0: "raft optim.lr=1e-4",  # the others: (0.61 + 0.90) / 2 = 0.755 against (0.71 + 0.72) / 2 = 0.715
        1: "raft optim.lr=1e-4",  # 0.75 against 0.71
        2: "raft optim.lr=5e-5",  # 0.605 against 0.705
    }
    assert [arm.label for arm in tuning.study.arms] == ["raft", "grpo"]
    ends = [run.rows[-1][ACCURACY] for run in tuning.study.arms[0].runs]
    assert ends == [0.60, 0.61, 0.72], "an estimate that pays for its lucky choice"
    assert set(tuning.chosen["grpo"].values()) == {"grpo optim.lr=5e-5"}


def test_claims_are_held_against_each_at_its_best(study: Study, tmp_path: Path):
    assert "| 81.3 [77.3, 84.8] |" in tuning_table(tune(study)).markdown()  # pyright: ignore[reportArgumentType]
    write_report([tmp_path], tmp_path / "out", "iterations")
    page = (tmp_path / "out/report.html").read_text()
    assert "Each algorithm at its best" in page
    assert (tmp_path / "out/figures/sensitivity.png").is_file()


def test_without_several_settings_there_is_nothing_to_tune(tmp_path: Path):
    for seed in range(2):
        write_run(tmp_path / str(seed), "raft", seed, rows({ACCURACY: 0.5 + seed / 10}), overrides=["arm=raft"])
    assert tune(read_study([tmp_path])) is None


def test_a_clip_range_is_part_of_the_algorithm_not_of_its_tuning(tmp_path: Path):
    for seed in range(2):
        for high in ("0.2", "0.28"):
            words = ["arm=grpo", f"algo.clip.high={high}"]
            write_run(tmp_path / high / str(seed), "grpo", seed, rows({ACCURACY: 0.5 + seed / 10}), overrides=words)
    assert tune(read_study([tmp_path])) is None
