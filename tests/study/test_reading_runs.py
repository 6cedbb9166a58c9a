"""Runs are found, named and never pooled unless they differ by their seed."""

import json
import shutil
from pathlib import Path

import pytest

from study.studies import ACCURACY, SETTINGS, rows, write_run, write_study, write_summary_csv
from winnow.errors import ConfigError
from winnow.run_logs.run_record import RunRecord, Start, now, write_record
from winnow.study.report.facts import merged_arms
from winnow.study.study import read_study


def table(height: float = 0.5) -> list[dict[str, float]]:
    return rows({ACCURACY: height, "train/entropy": height / 10})


def test_a_sweep_by_arm_and_seed(tmp_path: Path):
    study = read_study([write_study(tmp_path, arms=["grpo", "raft"], seeds=[2, 0, 1])])
    assert [(arm.label, arm.title) for arm in study.arms] == [("raft", "RAFT"), ("grpo", "GRPO")]
    assert [run.seed for run in study.arms[0].runs] == [0, 1, 2]
    run = study.arms[0].runs[0]
    assert (run.iterations, run.status, len(run.rows), len(run.evaluations)) == (40, "done", 41, 9)
    assert (run.evaluations[-1].iteration, len(run.evaluations[-1].correct)) == (40, 32)
    assert run.choices["model"] == "tiny"
    assert study.failed == study.differences == ()
    assert study.arm("ppo") is None


def test_a_job_that_was_merged_is_told_and_is_no_failure(tmp_path: Path):
    jobs = []
    for seed in (0, 1):
        run = write_run(tmp_path / f"{2 * seed}", None, seed, table(), algo="raftpp", overrides=["iterations=8"])
        words = f"algo=raftpp seed={seed} iterations=8"
        jobs.append((2 * seed, words, "done", 0, run))
        jobs.append((2 * seed + 1, f"{words} algo.clip.low=0.5", "merged", 0, run))
    write_summary_csv(tmp_path, jobs)
    study = read_study([tmp_path])
    assert (len(study.arms), study.failed) == (1, ())
    assert merged_arms(study) == [
        "Not run: algo=raftpp algo.clip.low=0.5 with seed 0, 1. It trains what algo=raftpp trains, up to rounding, and "
        "that run stands for it."
    ]


def test_what_an_arm_of_ours_chooses_is_no_difference_beside_it(tmp_path: Path):
    for number, (arm, alter) in enumerate({"mismatch/exact": {"_target_": "no"}, "mismatch/tis": {"bits": 4}}.items()):
        settings = {"engine": {"alter": alter, "max_rows": number}}
        write_run(tmp_path / str(number), arm, 0, table(), settings=settings)
    (line,) = read_study([tmp_path]).differences
    assert line.startswith("engine.max_rows: ")


def test_runs_at_any_depth_each_once(tmp_path: Path):
    write_run(tmp_path / "day/time/raft/seed_0", "raft", 0, table())
    write_run(tmp_path / "alone", "raft", 1, table(0.6))
    study = read_study([tmp_path, tmp_path / "day", tmp_path / "day/time/raft/seed_0"])
    assert [run.seed for run in study.arms[0].runs] == [0, 1]


def test_what_was_typed_tells_arms_apart(tmp_path: Path):
    everywhere = ["optim.lr=1e-4", "logger=none", "hydra.launcher.jobs=2", "experiment=miniature/figure2"]
    write_run(tmp_path / "a", None, 0, table(0.1), overrides=everywhere)
    write_run(tmp_path / "b", None, 0, table(0.2), overrides=[*everywhere, "algo.clip.high=0.28"])
    write_run(tmp_path / "c", None, 0, table(0.3), overrides=[*everywhere, "rollout.samples=8", "algo/clip=none"])
    labels = [arm.label for arm in read_study([tmp_path]).arms]
    assert labels == ["grpo", "grpo algo.clip.high=0.28", "grpo algo/clip=none rollout.samples=8"]
    assert read_study([tmp_path]).arms[1].title == "GRPO algo.clip.high=0.28"


def test_another_rule_is_named_where_there_is_one_algorithm(tmp_path: Path):
    rules = ["algo/clip=mine", "algo/advantage=mine"]
    write_run(tmp_path / "a", None, 0, table(0.1), overrides=[*rules, "optim.lr=1e-4", "plugins=[mine]"])
    (alone,) = read_study([tmp_path]).arms
    assert alone.title == "GRPO algo/advantage=mine algo/clip=mine"
    write_run(tmp_path / "b", None, 0, table(0.2), algo="raftpp", overrides=[*rules, "optim.lr=1e-4"])
    titles = [arm.title for arm in read_study([tmp_path]).arms]
    assert titles == ["RAFT++", "GRPO"]  # a condition that both are compared under


def test_a_function_that_was_typed_as_a_target_is_another_rule(tmp_path: Path):
    write_run(tmp_path / "a", None, 0, table(), overrides=["algo.clip._target_=mine.clip", "algo.clip.high=0.3"])
    assert [arm.label for arm in read_study([tmp_path]).arms] == ["grpo algo.clip._target_=mine.clip"]


def test_an_arm_of_another_size_keeps_its_name(tmp_path: Path):
    write_run(tmp_path / "a", "paper/dpo", 0, table())
    assert [arm.label for arm in read_study([tmp_path]).arms] == ["dpo"]


def test_a_run_twice_is_refused(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, table())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ConfigError, match=r"the same run of raft with seed 0 twice: .*/a and .*/b"):
        read_study([tmp_path])


def test_seeds_that_measured_the_same_are_told(tmp_path: Path):
    for seed in (0, 1):
        last = {"iteration": 9, "train/grad_norm": float("nan"), "time/total": seed}
        write_run(tmp_path / str(seed), "raft", seed, [*table(), last])
    write_run(tmp_path / "2", "raft", 2, table(0.6))
    (line,) = read_study([tmp_path]).differences
    assert line.startswith("RAFT: seeds 0 and 1 have identical metrics")


def test_two_settings_under_one_name_are_refused(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, table(0.1), overrides=["experiment=one"])
    write_run(tmp_path / "b", "raft", 0, table(0.2), overrides=["experiment=two"], settings={"optim": {"lr": 2e-4}})
    with pytest.raises(ConfigError, match=r"two runs of raft with seed 0 differ in optim\.lr: .*/a and .*/b"):
        read_study([tmp_path])


def test_reward_functions_tell_arms_apart(tmp_path: Path):
    for number, name in enumerate(("short", "long")):
        reward = ["reward=function", "plugins=[mine]", f"reward.functions=[mine:{name}]"]
        functions = {"functions": [f"mine:{name}"]}
        write_run(tmp_path / name, None, 0, table(0.1 * number), overrides=reward, settings={"reward": functions})
    study = read_study([tmp_path])
    assert [arm.title for arm in study.arms] == [
        "GRPO reward.functions=[mine:long]",
        "GRPO reward.functions=[mine:short]",
    ]
    assert study.differences == ()


def test_code_of_plug_ins_that_differs_is_told(tmp_path: Path):
    def with_code(arm: str, seed: int, digit: str) -> None:
        run = write_run(tmp_path / f"{arm}_{seed}", arm, seed, table(0.1 * seed))
        write_record(run, RunRecord("ab", "train", (Start(0, now(), {}, code={"mine": digit * 64}),)))

    for arm, digit in (("raft", "a"), ("raftpp", "a"), ("grpo", "b")):
        with_code(arm, 0, digit)
    assert read_study([tmp_path]).differences == (f"code of mine: {'b' * 12} in GRPO, {'a' * 12} elsewhere",)
    with_code("raft", 1, "c")
    assert read_study([tmp_path]).differences == (f"code of mine: {'a' * 12} and {'c' * 12} within RAFT",)
    (tmp_path / "raft_1").rename(tmp_path / "other")
    with_code("raft", 1, "a")
    with pytest.raises(ConfigError, match=r"two runs of raft with seed 1 differ in the code of mine: .* report them"):
        read_study([tmp_path])


def test_settings_that_differ_between_arms_are_told(tmp_path: Path):
    eight = {"rollout": {**SETTINGS["rollout"], "samples": 8}, "hardware": {"threads": 2}}
    write_run(tmp_path / "a", "raft", 0, table(0.1))
    write_run(tmp_path / "b", "grpo", 0, table(0.2), settings={"algo": {"clip": None}})
    write_run(tmp_path / "c", "dpo", 0, table(0.3), settings=eight | {"budget": {"seconds": None}})
    assert read_study([tmp_path]).differences == ("rollout.samples: 8 in Iterative DPO, 4 elsewhere",)


def test_settings_that_differ_within_an_arm_are_told(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, table(0.1))
    write_run(tmp_path / "b", "raft", 1, table(0.2), settings={"algo": {"clip": {"high": 0.3}}})
    assert read_study([tmp_path]).differences == ("algo.clip.high: 0.2 and 0.3 within RAFT",)


def test_what_a_label_says_is_not_told_again(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, table(0.1))
    write_run(tmp_path / "b", "raft", 0, table(0.2), overrides=["optim.lr=2e-4"], settings={"optim": {"lr": 2e-4}})
    assert read_study([tmp_path]).differences == ()


def test_failed_jobs_are_named(tmp_path: Path):
    write_run(tmp_path / "0", "raft", 0, table(0.1))
    diverged = write_run(tmp_path / "1", "raft", 1, table(0.2), status="diverged")
    (diverged / "output.log").write_text("iteration 3\nloss is nan three times in a row\n\n")
    never = write_run(tmp_path / "2", "raft", 2, table(0.3), status=None)
    jobs = [(n, f"arm=raft seed={n}", s, c, tmp_path / str(n)) for n, s, c in
            [(0, "done", 0), (1, "diverged", 3), (3, "not started", None)]]  # fmt: skip
    write_summary_csv(tmp_path, jobs)
    study = read_study([tmp_path])
    assert [run.seed for run in study.arms[0].runs] == [0]
    assert [(job.directory.name, job.status, job.exit_code) for job in study.failed] == [
        ("1", "diverged", 3),
        ("2", "never ended", None),
        ("3", "not started", None),
    ]
    assert [job.reason for job in study.failed] == [
        "loss is nan three times in a row",
        "no log and no error: still running, or killed",
        "no run directory",
    ]
    assert never.name in study.failed[1].overrides or "seed=2" in study.failed[1].overrides


def test_a_job_killed_before_its_configuration_was_written_is_named(tmp_path: Path):
    write_run(tmp_path / "0", "raft", 0, table())
    (tmp_path / "1/.hydra").mkdir(parents=True)
    (tmp_path / "1/.hydra/config.yaml").write_text("seed: [")
    assert [job.status for job in read_study([tmp_path]).failed] == ["never ended"]


def test_a_job_that_was_resumed_to_its_end_did_not_fail(tmp_path: Path):
    write_run(tmp_path / "0", "raft", 0, table())
    write_summary_csv(tmp_path, [(0, "arm=raft seed=0", "stopped", 75, tmp_path / "0")])
    assert read_study([tmp_path]).failed == ()


def test_a_sweep_that_was_moved(tmp_path: Path):
    write_run(tmp_path / "old/raft/seed_0", "raft", 0, table())
    write_summary_csv(tmp_path / "old", [(0, "arm=raft seed=0", "done", 0, tmp_path / "old/raft/seed_0")])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert read_study([tmp_path / "new"]).failed == ()
    shutil.rmtree(tmp_path / "new/raft")
    (tmp_path / "new/raft").mkdir()
    write_run(tmp_path / "new/raft/seed_1", "raft", 1, table(0.6))
    assert [job.directory.name for job in read_study([tmp_path / "new"]).failed] == ["seed_0"]


def test_a_line_cut_short_is_no_evaluation_and_the_last_of_two_counts(tmp_path: Path):
    run = write_run(tmp_path / "a", "raft", 0, table(), {8: [1, 2]})
    with (run / "evaluations.jsonl").open("a") as file:
        line = {"iteration": 8, "set": "arithmetic", "samples": 4, "prompts": "x", "correct": [3, 4]}
        file.write(json.dumps(line) + "\n" + '{"iteration": 9, "se')
    assert [counts.correct for counts in read_study([tmp_path]).arms[0].runs[0].evaluations] == [(3, 4)]


def test_evaluations_are_no_runs(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, table())
    (tmp_path / "e/.hydra").mkdir(parents=True)
    (tmp_path / "e/evaluation.json").write_text("{}")
    assert read_study([tmp_path]).failed == ()


@pytest.mark.parametrize(("name", "why"), [("nowhere", "no such directory"), ("empty", "no run found there")])
def test_nothing_to_read(tmp_path: Path, name: str, why: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=why):
        read_study([tmp_path / name])


def test_a_run_without_its_configuration(tmp_path: Path):
    shutil.rmtree(write_run(tmp_path / "a", "raft", 0, table()) / ".hydra")
    with pytest.raises(ConfigError, match=r"config.yaml is missing.*copy the run with its \.hydra/"):
        read_study([tmp_path])
