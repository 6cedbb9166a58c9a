"""A search by Optuna: each trial a process of its own, whose figure comes back; the best is reported."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from winnow.launch.in_process import hydra_put_aside
from winnow.launch.sweep_results import JobRow, SweepResults, optimised_figure, write_rows

pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from winnow.errors import Diverged
from winnow.launch.program import Program

def run(cfg, directory):
    if cfg.x > cfg.fails_above:
        raise Diverged("loss is nan")
    checkpoint = directory / "checkpoints" / "iteration_000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    rows = [{"iteration": 0, "train/loss": 9.0}, {"iteration": 1, "train/loss": abs(cfg.x - 0.7)}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    figures = {"status": "done", "iterations": 1, "eval_last": 1 - (cfg.x - 0.3) ** 2}
    (directory / "summary.json").write_text(json.dumps(figures))
    return figures["eval_last"]

def report(top):
    return f"report of {len(list(top.glob('*/summary.json')))} runs"

PROGRAM = Program("toy", lambda cfg: [], run, Path(__file__).parent / "conf", report=report)
if __name__ == "__main__":
    sys.exit(PROGRAM.exit_code(sys.argv[1:]))
"""
YAML = """
defaults:
  - _self_
  - algo: grpo
  - hparams_search: null
  - override hydra/launcher: processes
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
x: 0.0
fails_above: 2.0
seed: 0
resume: null
optimized_metric: eval_last
hydra: {run: {dir: "outputs/${winnow.unique:}"}, sweep: {dir: top, subdir: "${hydra.job.num}"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the program, and Winnow's own preset with another setting to search over."""
    (tmp_path / "toy.py").write_text(PROGRAM)
    (tmp_path / "conf" / "algo").mkdir(parents=True)
    (tmp_path / "conf" / "toy.yaml").write_text(YAML)
    (tmp_path / "conf" / "algo" / "grpo.yaml").write_text("clip: 0.2\n")
    shutil.copytree(ROOT / "conf" / "hparams_search", tmp_path / "conf" / "hparams_search")
    preset = tmp_path / "conf" / "hparams_search" / "optuna.yaml"
    text = preset.read_text()
    header, body = text[: text.index("defaults:")], yaml.safe_load(text)
    body["hydra"]["sweeper"]["params"] = {"x": "interval(0.0, 1.0)"}
    preset.write_text(header + yaml.safe_dump(body))
    return tmp_path


@dataclass(frozen=True)
class Search:
    """An ended search: exit code, and lines of both outputs."""

    code: int
    out: list[str]
    err: list[str]


@pytest.fixture
def search(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Search]:
    """`python toy.py hparams_search=optuna WORDS` in this process; its trials are processes of their own."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))  # Hydra adds to it
    names: dict[str, Any] = {"__name__": "toy", "__file__": str(folder / "toy.py")}
    exec(compile((folder / "toy.py").read_text(), "toy.py", "exec"), names)

    def run(*words: str) -> Search:
        with hydra_put_aside():
            code = names["PROGRAM"].exit_code(["hparams_search=optuna", *words])
        out, err = capfd.readouterr()
        return Search(code, out.splitlines(), err.splitlines())

    return run


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "top" / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


THREE = ("hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=3")


def test_the_preset_maximises_over_eight_trials_one_after_another():
    sweeper = yaml.safe_load((ROOT / "conf/hparams_search/optuna.yaml").read_text())["hydra"]["sweeper"]
    assert (sweeper["direction"], sweeper["n_trials"], sweeper["n_jobs"]) == ("maximize", 8, 1)


def test_the_best_of_three_trials_and_the_same_search_again(folder: Path, search: Callable[..., Search]):
    done = search("seed=3", *THREE)
    assert done.code == 0, done.err
    rows = table(folder)
    assert [row["status"] for row in rows] == ["done"] * 3
    tried = {float(row["overrides"].split()[0].removeprefix("x=")): float(row["eval_last"]) for row in rows}
    assert len(tried) == 3
    assert all(figure == pytest.approx(1 - (x - 0.3) ** 2) for x, figure in tried.items())
    best = max(tried, key=lambda x: tried[x])
    found = yaml.safe_load((folder / "top" / "optimization_results.yaml").read_text())
    assert found == {"name": "optuna", "best_params": {"x": best}, "best_value": tried[best]}
    last = done.out[-1]
    assert last.startswith(f"best of 3: eval_last {tried[best]:.6g} with x={best};")
    assert last.endswith(next(row["directory"] for row in rows if float(row["eval_last"]) == tried[best]))
    # What the search was about is not what a trial is: its directory is that of a single run.
    assert "hparams_search" not in (folder / "top" / "0" / ".hydra" / "overrides.yaml").read_text()

    again = search("seed=3", *THREE)
    assert sum("already done" in line for line in again.out) == 3
    assert again.out[-1] == last


def test_the_best_of_an_earlier_start_stays_in_the_file(folder: Path, search: Callable[..., Search]):
    words = ("hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1")
    for x, best in {0.5: 0.5, 0.3: 0.3, 0.9: 0.3}.items():
        done = search(f'hydra.sweeper.params={{x: "choice({x})"}}', *words)
        assert done.code == 0, done.err
        found = yaml.safe_load((folder / "top" / "optimization_results.yaml").read_text())
        assert found == {
            "name": "optuna",
            "best_params": {"x": best},
            "best_value": pytest.approx(1 - (best - 0.3) ** 2),
        }
    assert "; an earlier start was better: eval_last 1, " in done.out[-1]
    # Settings that are searched over now, and were not then: another search.
    assert search("+hydra.sweeper.params.fails_above='choice(1.5)'", *words).code == 0
    found = yaml.safe_load((folder / "top" / "optimization_results.yaml").read_text())
    assert {*found["best_params"]} == {"x", "fails_above"}


def test_a_storage_that_this_optuna_cannot_write_is_refused(search: Callable[..., Search]):
    done = search("hydra.sweeper.storage=sqlite:///study.db")
    newer = int(metadata.version("sqlalchemy").split(".")[0]) >= 2
    assert (done.code, len(done.err)) == ((2, 1) if newer else (0, len(done.err)))
    assert not newer or "hydra.sweeper.storage=sqlite:///study.db: this Optuna cannot" in done.err[0]


def test_trials_that_fail_and_another_metric(folder: Path, search: Callable[..., Search]):
    done = search("optimized_metric=train/loss", "hydra.sweeper.direction=minimize", *THREE, "fails_above=0.6")
    rows = table(folder)
    ends = {float(row["overrides"].split()[0].removeprefix("x=")): row["status"] for row in rows}
    assert done.code == 1
    assert {x: status == "done" for x, status in ends.items()} == {x: x <= 0.6 for x in ends}
    assert set(ends.values()) == {"done", "diverged"}
    failed = sum(status == "diverged" for status in ends.values())
    assert done.out[-1].startswith(f"best of 3, {failed} of them without a figure: train/loss ")
    losses = {x: abs(x - 0.7) for x, status in ends.items() if status == "done"}
    found = yaml.safe_load((folder / "top" / "optimization_results.yaml").read_text())
    assert found["best_value"] == pytest.approx(min(losses.values()))


def test_a_trial_that_is_proposed_twice_runs_once(search: Callable[..., Search]):
    words = ('hydra.sweeper.params={x: "choice(0.5)"}', "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    done = search(*words)
    assert done.code == 0, done.err
    assert [line for line in done.out if line.startswith("report")] == ["report of 1 runs"]  # once, after both batches
    assert sum(": done in" in line for line in done.out) == 1
    assert sum("already done" in line for line in done.out) == 1


def test_a_search_none_of_whose_trials_has_a_figure(search: Callable[..., Search]):
    done = search("hydra.sweeper.n_trials=1", "fails_above=-1")
    assert done.code == 2
    assert done.err[-1].startswith("error: no trial of this search ended with a figure `eval_last`")
    assert not any("Traceback" in line for line in done.err)


def test_the_best_of_figures(tmp_path: Path):
    for job, loss in enumerate((3.0, 1.0, 2.0)):
        (tmp_path / str(job)).mkdir()
        (tmp_path / str(job) / "summary.json").write_text(json.dumps({"status": "done", "eval_last": loss}))
    rows = [JobRow(job, f"x={job} y=2", tmp_path / str(job), {}, "done", 0) for job in range(3)]
    for direction, best in {"minimize": 1, "maximize": 0}.items():
        results = SweepResults(tmp_path, "eval_last", direction, ["y=2"])
        results.rows = {row.job: row for row in rows}
        assert results.best() == (rows[best], optimised_figure(tmp_path / str(best), "eval_last"))
        assert f"with x={best};" in results.best_in_words()
        # Runs that an earlier start of the search left in the directory, when it proposed other settings.
        write_rows(tmp_path / "summary.csv", list(results.rows.values()))
        again = SweepResults(tmp_path, "eval_last", direction, ["y=2"])
        again.rows = {2: rows[2]}
        again.others = [cells for cells in again.others if cells["job"] != "2"]
        before = f"an earlier start was better: eval_last {float(3 if best == 0 else 1):g}, {tmp_path / str(best)}"
        assert again.best_in_words().endswith(f"{tmp_path / '2'}; {before}")
        again.rows[best] = rows[best]
        assert "earlier" not in again.best_in_words()
        (tmp_path / "summary.csv").unlink()
    assert optimised_figure(tmp_path / "0", "train/loss") is None
    assert optimised_figure(tmp_path / "0", "status") is None
