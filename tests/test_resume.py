"""Resumed runs: bit-identical to uninterrupted ones, and refused where they would be something else."""

import json
import signal
from pathlib import Path

import pytest
import torch

from running import SMALL, composed, metrics, program, run, weights
from winnow import cli, signals
from winnow.assemble.training import train
from winnow.errors import ConfigError, Stopped
from winnow.launch import programs
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import read_record
from winnow.run_logs.tracker import RunInfo
from winnow.run_logs.tracker_threads import Trackers
from winnow.training.stopping import StopOnSignal

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
    # Row 3 ended the shorter run and so carries its final evaluation, which the longer run does not make there.
    parts[3] = {key: value for key, value in parts[3].items() if not key.startswith("eval/")}
    assert parts == whole


@pytest.mark.parametrize(
    "curriculum", [["pass_rate"], ["column", "curriculum.column=level"]], ids=lambda words: words[0]
)
def test_mixtures_and_curricula_resume_exactly(tmp_path: Path, curriculum: list[str]):
    """What a curriculum has learnt from the run is in its checkpoints; arms of a seed meet the same problems."""
    for name, low in (("a", 1), ("b", 50)):
        rows = [{"problem": f"{n}+{n % 7}=", "answer": str(n + n % 7), "level": n} for n in range(low, low + 20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [word for word in SMALL if not word.startswith("dataset.")]
    words += ["dataset=mix", f"dataset.mix={{a:{{path:{tmp_path}/a.jsonl}},b:{{path:{tmp_path}/b.jsonl}}}}"]
    words += ["dataset.weights={a:2}", "dataset.heldout_size=4", "curriculum=" + curriculum[0], *curriculum[1:]]

    def go(name: str, *more: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        train(composed(*words, *more), tmp_path / name)

    def asked(name: str) -> list[list[str]]:
        files = sorted((tmp_path / name / "samples").iterdir())
        records = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        return [list(dict.fromkeys(record["prompt_key"] for record in of_iteration)) for of_iteration in records]

    go("whole", "iterations=4")
    go("parts", "iterations=2")
    go("parts", "iterations=4", f"resume={tmp_path / 'parts'}")
    assert metrics(tmp_path / "parts")[3:] == metrics(tmp_path / "whole")[3:]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert asked("parts") == asked("whole")
    assert [sum(key.startswith("a/") for key in keys) for keys in asked("whole")] == [4, 4, 4, 4]
    if curriculum[0] == "column":
        go("other", "iterations=4", "algo=raft")
        assert asked("other") == asked("whole")


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
def test_adapters_resume_exactly_and_their_checkpoints_hold_no_frozen_weights(tmp_path: Path, algo: str):
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
    """The iterations that these tests compare do change the weights."""
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


def test_a_run_is_not_resumed_on_other_problems_unless_that_is_forced(tmp_path: Path):
    rows = [f'{{"problem": "{a}+{b}", "answer": "{a + b}"}}\n' for a in range(1, 7) for b in range(1, 4)]
    data, directory = tmp_path / "sums.jsonl", tmp_path / "run"
    directory.mkdir()
    small = (word for word in SMALL if not word.startswith("dataset."))
    words = (*small, "dataset=jsonl", f"dataset.path={data}", "dataset.heldout_size=4")

    def go_on(changed: list[str], *more: str) -> list[str]:
        data.write_text("".join(changed))
        train(composed(*words, *more), directory)
        record = read_record(directory)
        return record.changes if record else []

    assert go_on(rows, "iterations=1") == []
    resume = f"resume={directory}"
    with pytest.raises(ConfigError, match="training problems are not those"):
        go_on([row.replace('"answer": "5"', '"answer": "6"') for row in rows], "iterations=2", resume)
    assert go_on(rows, "iterations=2", resume) == []
    [change] = go_on(rows[:-1], "iterations=3", resume, "resume_force=true")
    assert change.startswith("after iteration 2: the training problems")


def test_a_new_learning_rate_takes_effect_after_a_resume(tmp_path: Path):
    run(tmp_path, "iterations=1", "optim.lr=1e-5")
    run(tmp_path, "iterations=2", "optim.lr=7e-4", f"resume={tmp_path}")
    assert [row["train/lr"] for row in metrics(tmp_path)[1:]] == [1e-5, 7e-4]


def test_a_forced_change_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its iteration: at start-up, in run.json, summary, report, model cards and at the tracker."""
    told: list[RunInfo] = []
    monkeypatch.setattr(Trackers, "start", lambda self, directory, info, run_id: told.append(info) or "{}")
    run_dir, train_py = tmp_path / "run", program("train")
    assert train_py.exit_code([*SMALL, "iterations=1", "optim.lr=1e-5", f"hydra.run.dir={run_dir}"]) == 0
    before = {path.name: path.read_bytes() for path in (run_dir / ".hydra").iterdir()}
    change = [f"resume={run_dir}", "iterations=2", "optim.lr=7e-4", "reward=zero_one"]
    assert train_py.exit_code(change) == 2
    assert {path.name: path.read_bytes() for path in (run_dir / ".hydra").iterdir()} == before
    assert train_py.exit_code([*change, "resume_force=true"]) == 0
    kept = run_dir / ".hydra" / "until_000001"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    record = read_record(run_dir)
    assert record is not None
    assert [start.after for start in record.starts] == [0, 1]
    assert {"after iteration 1: optim.lr was 1e-05 and is 0.0007"} < set(record.changes)
    assert "after iteration 1: reward.wrong was -1.0 and is 0.0" in record.changes
    assert [row["train/lr"] for row in metrics(run_dir)[1:]] == [1e-5, 7e-4]
    assert json.loads((run_dir / "summary.json").read_text())["changes"] == record.changes
    assert [info.config.get("changes") for info in told] == [None, record.changes]
    assert cli.exit_code(["export", str(run_dir), str(tmp_path / "exported")]) == 0
    assert cli.exit_code(["report", str(run_dir)]) == 0
    for path in (run_dir / "export" / "README.md", tmp_path / "exported" / "README.md", run_dir / "report.html"):
        assert all(line in path.read_text() for line in record.changes)


def test_an_evaluation_that_a_signal_prevented_is_made_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run stopped after iteration 1 and resumed with iterations=1 ends with the accuracy of its exported model."""
    with monkeypatch.context() as during:
        during.setattr(StopOnSignal, "on_train_batch_start", lambda *_: signals.note(signal.SIGTERM))
        with pytest.raises(Stopped):
            run(tmp_path, "iterations=9", "eval.every=0")
        signals.forget()
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


def test_a_run_of_an_earlier_version_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Its configuration names classes that have since been moved; today's classes cannot read its checkpoints."""
    monkeypatch.chdir(tmp_path)
    program = programs.training()
    assert program.exit_code([*SMALL, "iterations=1", "hydra.run.dir=old"]) == 0
    saved = tmp_path / "old" / ".hydra" / "config.yaml"
    text = saved.read_text()
    assert "winnow.models.templates.Plain" in text
    saved.write_text(text.replace("winnow.models.templates.Plain", "winnow.data.templates.Plain"))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capfd.readouterr()
    reason = (
        "was made by an earlier version of Winnow (its configuration names winnow.data.templates.Plain, which no "
        "longer exists); `winnow report` still reads it"
    )
    assert program.exit_code(["resume=old", "iterations=2"]) == 2
    assert capfd.readouterr() == ("", f"error: resume=old: {reason}; start a new run to continue training\n")
    assert cli.exit_code(["export", "old", "out"]) == 2
    assert capfd.readouterr() == ("", f"error: old: {reason}; export it with that version\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    evaluation = programs.evaluation()
    # An evaluation takes the run's overrides and its exported model, for which that configuration does not matter.
    assert evaluation.exit_code(["run=old", "limit=2", "hardware=cpu", "hydra.run.dir=evaluated"]) == 0
    assert json.loads((tmp_path / "evaluated" / "summary.json").read_text())["status"] == "done"
    capfd.readouterr()
    assert cli.exit_code(["report", "old"]) == 0
    assert (tmp_path / "old" / "report.html").is_file()
