"""Sweeps: every job is a process of its own, and every job's end is in the table."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

import toy_program
from winnow import signals
from winnow.config.saved_runs import sweep_of
from winnow.errors import Stopped
from winnow.launch.jobs import EndedJob, Gpus, Job, JobPool
from winnow.launch.program import Program, Task
from winnow.launch.sweep_plan import minimum_detectable_effect
from winnow.launch.sweep_results import JobRow, SweepResults, status_of, write_rows

PROGRAM = Path(toy_program.__file__)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Function that starts the toy program in `tmp_path/here`."""
    toy_program.write_conf(tmp_path / "conf")
    (tmp_path / "here").mkdir()

    def start(*words: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {
            "TOY_CONF": str(tmp_path / "conf")
        }
        command = [sys.executable, str(PROGRAM), *words]
        return subprocess.Popen(
            command, cwd=tmp_path / "here", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


def rows(here: Path) -> list[dict[str, str]]:
    [path] = here.glob("multirun/*/summary.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_job_is_accounted_for(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    sweep = start("-m", "algo=grpo,raft", "end=done,bug,killed,diverged,config", "hydra.launcher.jobs=2")
    out, err = sweep.communicate(timeout=120)
    assert (sweep.returncode, err) == (1, "")
    table = {row["overrides"]: row for row in rows(tmp_path / "here")}
    ends = {"done": ("done", "0"), "bug": ("failed", "1"), "killed": ("killed by SIGKILL", "137")}
    ends |= {"diverged": ("diverged", "3"), "config": ("config error", "2")}
    expected = {f"algo={a} end={e}": codes for a in ("grpo", "raft") for e, codes in ends.items()}
    assert {key: (row["status"], row["exit_code"]) for key, row in table.items()} == expected
    assert {row["algo"] for key, row in table.items() if "raft" in key} == {"raft"}
    assert table["algo=raft end=done"]["eval_last"] == "0.5"
    assert table["algo=raft end=killed"]["eval_last"] == ""
    assert sum(line.startswith("[") for line in out.splitlines()) == 10
    assert "[10/10]" in out
    assert "held-out accuracy 25.0% → 50.0%" in out
    assert "model.path=gone: no such folder" in out


def test_a_job_is_a_run_that_can_be_resumed(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    sweep = start("-m", "seed=5,6", "iterations=4")
    out, err = sweep.communicate(timeout=60)
    assert (sweep.returncode, err) == (0, "")
    assert "note: short" in out
    [top] = (tmp_path / "here/multirun").iterdir()
    assert {"multirun.yaml", "summary.csv", "0", "1"} == {path.name for path in top.iterdir()}
    assert yaml.safe_load((top / "1/.hydra/overrides.yaml").read_text()) == ["seed=6", "iterations=4"]
    hydra = yaml.safe_load((top / "1/.hydra/hydra.yaml").read_text())["hydra"]
    assert hydra["job"]["num"] == 1
    assert hydra["sweep"]["dir"] == f"multirun/{top.name}"
    assert sweep_of(top / "1") == f"multirun/{top.name}"
    assert sweep_of(top) is None
    assert start(f"resume={top}/1", "iterations=5").wait(timeout=60) == 0
    assert (top / "1/checkpoints/iteration_000005/manifest.json").is_file()


def test_one_run_stands_for_jobs_that_provably_do_the_same(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """Once it is done, its figures are theirs; one that fails stands for nothing. A job keeps a run of its own."""
    sweep, top = ("seed=1", "end=done,bug", "idle=1,2"), tmp_path / "here/sweep"

    def table() -> dict[str, tuple[str, ...]]:
        with (top / "summary.csv").open(newline="") as file:
            return {
                row["overrides"]: (row["status"], row["exit_code"], row["eval_last"], Path(row["directory"]).name)
                for row in csv.DictReader(file)
            }

    code, said = again(start, *sweep)
    assert (code, len(said)) == (1, 4)
    assert table() == {
        "seed=1 end=done idle=1": ("done", "0", "0.5", "0"),
        "seed=1 end=done idle=2": ("merged", "0", "0.5", "0"),
        "seed=1 end=bug idle=1": ("failed", "1", "", "2"),
        "seed=1 end=bug idle=2": ("not started", "", "", "3"),
    }
    assert {path.name for path in top.iterdir() if path.is_dir()} == {"0", "2"}
    assert again(start, "seed=1", "end=done", "idle=1,2", "hydra.launcher.merge=false") == (
        0,
        ["seed=1 end=done idle=1: already done", "seed=1 end=done idle=2: done"],
    )
    assert again(start, *sweep)[0] == 1
    assert table()["seed=1 end=done idle=2"][:2] == ("done", "0")
    assert table()["seed=1 end=bug idle=2"][:2] == ("not started", "")


def test_where_a_run_is_refused_the_next_that_trains_the_same_is_started_and_stands_for_the_rest(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    code, said = again(start, "end=done,refused", "idle=1,2,3,4", "seed=1")
    assert (code, len(said)) == (2, 8)
    with (tmp_path / "here/sweep/summary.csv").open(newline="") as file:
        ends = [(row["status"], row["exit_code"], Path(row["directory"]).name) for row in csv.DictReader(file)]
    assert ends[:4] == [("done", "0", "0"), *[("merged", "0", "0")] * 3]
    refused = [("config error", "2", str(job)) for job in (4, 5)]
    assert ends[4:] == [*refused, ("done", "0", "6"), ("merged", "0", "6")]


def test_a_run_that_is_there_stands_for_jobs_that_come_before_it(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    """And the row of a merged job goes once the job has a run of its own, in whatever order its words are typed."""
    again(start, "idle=2", "seed=1")
    assert again(start, "idle=1,2,3", "seed=1")[1][1] == "idle=2 seed=1: already done"
    top = tmp_path / "here/sweep"
    assert {path.name for path in top.iterdir() if path.is_dir()} == {"0"}
    again(start, "seed=1", "idle=3", "hydra.launcher.merge=false")
    with (top / "summary.csv").open(newline="") as file:
        assert sorted((row["overrides"], row["status"]) for row in csv.DictReader(file)) == [
            ("idle=1 seed=1", "merged"),
            ("idle=2 seed=1", "done"),
            ("seed=1 idle=3", "done"),
        ]


def test_jobs_of_one_configuration_by_other_words_are_merged(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    words = ("experiment=long,fifty", "seed=1")
    for _ in range(2):
        code, said = again(start, *words)
        assert (code, len(said)) == (0, 2)
        with (tmp_path / "here/sweep/summary.csv").open(newline="") as file:
            assert [row["status"] for row in csv.DictReader(file)] == ["done", "merged"]
    sweep = start("-m", "hydra.sweep.dir=other", "hydra.launcher.merge=false", *words)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 2
    both = "experiment=long seed=1 and experiment=fifty seed=1"
    assert f"{both}: two jobs of this sweep are the same run" in err


FIXED = "hydra.sweep.dir=sweep"


def again(start: Callable[..., subprocess.Popen[str]], *words: str) -> tuple[int, list[str]]:
    """Exit code of a sweep in the fixed directory, and its line about each job, without numbers."""
    sweep = start("-m", FIXED, *words)
    out, err = sweep.communicate(timeout=120)
    assert err == ""
    ends = [line.split("] ", 1)[1].split(" ", 1)[1].split(";")[0] for line in out.splitlines() if line.startswith("[")]
    return sweep.returncode, sorted(re.sub(r" in \d+ s", "", line) for line in ends)


def test_a_sweep_started_again_runs_the_jobs_that_are_not_done(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    top = tmp_path / "here/sweep"
    assert again(start, "seed=1", "end=done,late") == (1, ["seed=1 end=done: done", "seed=1 end=late: failed"])
    assert again(start, "seed=1", "end=done,late") == (1, ["seed=1 end=done: already done", "seed=1 end=late: stopped"])
    assert again(start, "seed=1", "end=done,late") == (0, ["seed=1 end=done: already done", "seed=1 end=late: done"])
    # Its second try was from the start, as the first had left no checkpoint; its third resumed. All had one directory.
    assert str(top / "1") in json.loads((top / "1/seen.json").read_text())["resume"]
    assert (top / "1/tries").read_text() == "3"
    assert {path.name for path in top.iterdir()} == {"multirun.yaml", "summary.csv", "0", "1"}


def test_a_run_is_recognised_by_its_configuration(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """And neither by its number nor by its overrides: job 0 was seed 1, and `algo=grpo` is the default."""
    assert again(start, "seed=1,2")[0] == 0
    assert again(start, "seed=0,2", "algo=grpo,raft") == (
        0,
        [
            "seed=0 algo=grpo: done",
            "seed=0 algo=raft: done",
            "seed=2 algo=grpo: already done",
            "seed=2 algo=raft: done",
        ],
    )
    with (tmp_path / "here/sweep/summary.csv").open(newline="") as file:
        name_of = {row["overrides"]: Path(row["directory"]).name for row in csv.DictReader(file)}
    assert name_of["seed=2 algo=grpo"] == "1"
    assert name_of["seed=0 algo=grpo"].startswith("0-"), "0 is the run of seed 1, which stays"
    assert yaml.safe_load((tmp_path / "here/sweep/0/.hydra/config.yaml").read_text())["seed"] == 1


def test_an_experiment_may_say_what_to_sweep_over(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    one = start("experiment=seeds", "seed=7")
    assert one.communicate(timeout=60)[1] == (
        "error: experiment=seeds is a sweep over algo; type -m before it, or choose one: algo=raft\n"
    )
    assert start("experiment=seeds", "seed=7", "algo=grpo").wait(timeout=60) == 0
    assert start("-m", "experiment=seeds", "algo=grpo").wait(timeout=60) == 0
    tops = [path.parent for path in (tmp_path / "here").rglob("summary.csv")]
    [path] = [top / "summary.csv" for top in tops]
    with path.open(newline="") as file:
        assert [(row["algo"], row["seed"]) for row in csv.DictReader(file)] == [("grpo", "1"), ("grpo", "2")]


def test_jobs_divide_the_cores_between_them(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    start("-m", "seed=1", "hydra.launcher.jobs=1000").communicate(timeout=60)
    [one] = (tmp_path / "here").glob("multirun/*/0/seen.json")
    assert '"threads": "1"' in one.read_text()
    one.unlink()
    start("-m", "seed=1", "hydra.launcher.threads=3").communicate(timeout=60)
    [three] = (tmp_path / "here").glob("multirun/*/0/seen.json")
    assert '"threads": "3"' in three.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, "130"), (signal.SIGTERM, "75")])
def test_a_signal_is_forwarded_to_the_jobs_and_the_sweep_waits_for_them(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals, code: str
):
    sweep = start("-m", "end=waits", "seed=1,2,3", "hydra.launcher.jobs=2")
    wait_until(lambda: sum("waiting" in log.read_text() for log in tmp_path.rglob("output.log")) == 2)
    sweep.send_signal(number)
    out, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == int(code)
    assert [(row["status"], row["exit_code"]) for row in rows(tmp_path / "here")] == [
        ("stopped", code),
        ("stopped", code),
        ("not started", ""),
    ]
    assert "continue with resume=multirun/" in out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a process a signal when its parent dies")
def test_a_job_does_not_outlive_its_sweep(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """The sweep cannot react to SIGKILL itself; its job receives SIGTERM, and can save."""
    sweep = start("-m", "end=waits", "seed=1")
    wait_until(lambda: any("waiting" in log.read_text() for log in tmp_path.rglob("output.log")))
    [job] = (tmp_path / "here").rglob("pid")
    assert Path(f"/proc/{job.read_text()}").is_dir()
    sweep.kill()
    sweep.wait()
    wait_until(lambda: not Path(f"/proc/{job.read_text()}").is_dir())
    assert (job.parent / "signal").read_text() == str(signal.SIGTERM.value)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.05)


def test_a_bad_job_stops_the_sweep_before_the_first_starts(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    sweep = start("-m", "iterations=3,2,0")
    _, err = sweep.communicate(timeout=30)
    assert (sweep.returncode, err) == (2, "error: iterations=0: must be 1 or more\n")
    assert list((tmp_path / "here").iterdir()) == []


def sleeper(number: int, folder: Path, code: str) -> Job:
    return Job(number, (sys.executable, "-c", code), folder / str(number))


def test_no_more_jobs_at_once_than_asked_for(tmp_path: Path):
    stamp = "import time; print(time.monotonic()); time.sleep(.2); print(time.monotonic())"
    ended: list[EndedJob] = []
    JobPool(at_once=2, threads=1).run([sleeper(n, tmp_path, stamp) for n in range(5)], ended.append)
    assert sorted(end.job.number for end in ended) == [0, 1, 2, 3, 4]
    spans = [tuple(map(float, end.job.log.read_text().split())) for end in ended]
    assert max(sum(a <= moment < b for a, b in spans) for moment, _ in spans) == 2


def test_jobs_at_a_time_have_gpus_of_their_own(tmp_path: Path):
    """Four GPUs and three jobs of two, two at a time; the third has those of the second, for which the first waits."""
    said = "import os, time, pathlib; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
    third = tmp_path / "2" / "output.log"
    first = f"{said}while not pathlib.Path({str(third)!r}).exists(): time.sleep(0.05)"
    jobs = [replace(sleeper(n, tmp_path, code), gpus=2) for n, code in enumerate((first, said, said))]
    ended: list[EndedJob] = []
    pool = JobPool(at_once=2, threads=1, gpus=Gpus(("4", "5", "6", "7")))
    pool.run(jobs, ended.append)
    assert [job.log.read_text().strip() for job in jobs] == ["4,5", "6,7", "6,7"]
    assert not any(pool.gpus.jobs.values())


def test_too_few_gpus_are_shared_evenly():
    gpus = Gpus(("a", "b", "c"))
    assert [gpus.take(2) for _ in range(3)] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert gpus.jobs == {"a": 2, "b": 2, "c": 2}
    gpus.give_back(("a", "c"))
    assert gpus.take(1) == ("a",)
    assert gpus.take(9) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("needed", "at_once", "told"),
    [
        ([1, 2], 2, ", 2 of 4 GPUs each"),
        ([2, 2, 2], 3, ", 2 of 4 GPUs each, which jobs share"),
        ([2, 2], 3, ", 2 of 4 GPUs each"),
        ([0, 0], 2, ""),
    ],
)
def test_a_sweep_says_what_gpus_its_jobs_have(tmp_path: Path, needed: list[int], at_once: int, told: str):
    jobs = [replace(sleeper(n, tmp_path, ""), gpus=gpus) for n, gpus in enumerate(needed)]
    assert Gpus(("0", "1", "2", "3")).told(jobs, at_once) == told


def test_a_second_signal_kills_the_jobs(tmp_path: Path):
    ignoring = "import signal, os, time; signal.signal(15, signal.SIG_IGN); os.kill(os.getppid(), 15); time.sleep(.3); "
    ignoring += "os.kill(os.getppid(), 15); time.sleep(60)"
    ended: list[EndedJob] = []
    JobPool(at_once=1, threads=1).run([sleeper(0, tmp_path, ignoring), sleeper(1, tmp_path, "")], ended.append)
    codes = {end.job.number: end.exit_code for end in ended}
    assert codes == {0: 128 + signal.SIGKILL, 1: None}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "done"), (1, "failed"), (75, "stopped"), (139, "killed by SIGSEGV"), (None, "not started"), (99, "failed")],
)
def test_status(code: int | None, name: str):
    assert status_of(code) == name


def test_a_reader_never_sees_a_part_of_the_table(tmp_path: Path):
    """The table is replaced, not rewritten, so that an open file keeps the old rows."""
    path = tmp_path / "summary.csv"
    row = JobRow(0, "seed=1", tmp_path / "0", {"algo": "grpo"})
    write_rows(path, [row])
    with path.open() as old:
        write_rows(path, [row, row])
        assert len(old.read().splitlines()) == 2
    assert len(path.read_text().splitlines()) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["summary.csv"]


def test_one_sweep_at_a_time_in_a_directory(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    first = start("-m", FIXED, "end=waits", "seed=1")
    wait_until(lambda: any("waiting" in log.read_text() for log in tmp_path.rglob("output.log")))
    second = start("-m", FIXED, "seed=2")
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err.count("\n")) == (2, 1)
    assert err.startswith("error: sweep: another sweep, or a job of a sweep that was killed, is running here")
    first.send_signal(signal.SIGTERM)
    first.wait(timeout=30)
    assert start("-m", FIXED, "seed=2").wait(timeout=60) == 0


def test_a_run_with_a_damaged_configuration_is_run_again(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    assert again(start, "seed=1")[0] == 0
    top = tmp_path / "here/sweep"
    (top / "0/.hydra/config.yaml").write_text("seed: [1")
    assert again(start, "seed=1") == (0, ["seed=1: done"])


def test_a_sweep_over_its_own_directory_is_refused(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """Its earlier runs would be looked for in one of the directories only."""
    sweep = start("-m", "hydra.sweep.dir=top/${hydra:runtime.choices.algo}", "algo=grpo,raft")
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 2
    assert "sweep over that in commands of their own" in err


def test_the_same_run_twice_is_refused(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    sweep = start("-m", "seed=1,1")
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 2
    assert "seed=1 and seed=1: two jobs of this sweep are the same run" in err
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (0.02, "only differences above 23.1 points of accuracy are detectable"),
        (0.1, "no difference is detectable with study.noise=0.1; type more seeds"),  # it would take 115 points
        (None, "only differences above 11.5 standard deviations of the paired difference are detectable"),
    ],
)
def test_a_sweep_says_beforehand_what_it_can_detect(tmp_path: Path, noise: float | None, said: str):
    words = [(f"algo={algo} seed={seed}", seed) for algo in ("raft", "grpo") for seed in (0, 1)]
    jobs = [JobRow(job, text, tmp_path, {"seed": seed}) for job, (text, seed) in enumerate(words)]
    [line] = minimum_detectable_effect(jobs, OmegaConf.create({"study": {"noise": noise}}))
    assert line == f"2 arms × 2 seeds: at 80 % power {said}"


def test_a_signal_while_the_report_is_written_does_not_say_that_nothing_was_computed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    report = lambda top: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    task = Task(Program("toy", lambda cfg: [], lambda cfg, top: None, report=report), sweep=SweepResults(tmp_path))
    with signals.lent(), signals.caught(), pytest.raises(Stopped):
        task.report()
    assert capfd.readouterr().out.splitlines() == [
        f"SIGTERM: every job has ended, but there is no report; type winnow report {tmp_path}"
    ]


def test_rows_of_other_sweeps_in_the_directory_stay(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    again(start, "seed=1", "end=diverged")
    again(start, "seed=2", "hydra.sweep.subdir=other_${seed}")
    with (tmp_path / "here/sweep/summary.csv").open(newline="") as file:
        assert [(row["overrides"], row["status"]) for row in csv.DictReader(file)] == [
            ("seed=1 end=diverged", "diverged"),
            ("seed=2", "done"),
        ]


def test_a_refusal_of_the_first_job_starts_no_other(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """Validation has passed: what the job found needs its model or its data."""
    sweep = start("-m", "end=config", "seed=1,2,3,4,5")
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 2
    assert [row["status"] for row in rows(tmp_path / "here")] == ["config error", *["not started"] * 4]
    assert "type the sweep again" in out


def test_a_refusal_holds_the_others_until_a_job_gets_further(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    sweep = start("-m", "end=config,done", "seed=1,2", "hydra.launcher.jobs=3")
    assert sweep.wait(timeout=120) == 2
    assert [row["status"] for row in rows(tmp_path / "here")] == ["config error", "config error", "done", "done"]


@pytest.mark.parametrize("directory", ["/dev/null", "file/below"])
def test_a_sweep_where_there_can_be_no_directory(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, directory: str
):
    (tmp_path / "here/file").touch()
    sweep = start("-m", "seed=1,2", f"hydra.sweep.dir={directory}")
    _, err = sweep.communicate(timeout=60)
    assert (sweep.returncode, len(err.splitlines())) == (2, 1)
    assert f"hydra.sweep.dir={directory}: " in err
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]
