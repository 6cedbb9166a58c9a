"""Hydra's own settings cannot import a stranger's class or write outside the run, and every refusal is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.experimental.callback import Callback

from winnow.launch import programs
from winnow.launch.program import Program

ROOT = Path(__file__).parents[2]
LOGGED = "hydra/job_logging=default"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The training program with a task that leaves a file instead of training."""
    monkeypatch.chdir(tmp_path)
    return replace(programs.training(), run=lambda cfg, directory: (directory / "ran").touch())


def outside(tmp_path: Path) -> str:
    return str(tmp_path / "elsewhere.log")


REFUSED = [
    ("+hydra.callbacks.x._target_=os.system", "plugins=[os]"),
    ("+hydra.callbacks.x._target_=winnow.files.os.system", "but of posix"),
    ("+hydra.callbacks.x._target_=hydra.utils.get_method", "no Callback of Hydra"),
    ("+hydra.callbacks.x=3", "has no class"),
    ("hydra.callbacks=3", "a group of settings"),
    ("hydra.launcher._target_=os.system", "plugins=[os]"),
    ("-m seed=1,2 hydra.launcher._target_=subprocess.run", "plugins=[subprocess]"),
    ("hydra.launcher._target_=hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "no such setting"),
    ("hydra.launcher=null", "has no class"),
    ("hydra.launcher.jobs=abc", "not a number"),
    ("+hydra.launcher.job=2", "did you mean hydra.launcher.jobs?"),
    ("hydra.sweeper._target_=os.system", "plugins=[os]"),
    (f"{LOGGED} hydra.job_logging.handlers.file.filename=OUTSIDE", "outside the run's directory"),
    (f"{LOGGED} hydra.job_logging.handlers.file.filename=../run.log", "outside the run's directory"),
    (f"{LOGGED} hydra.job.name=../../x", "outside the run's directory"),
    (f"{LOGGED} hydra.job_logging.handlers.file.class=os.system", "logging.FileHandler"),
    (f"{LOGGED} hydra.job_logging.handlers.file.class=logging.handlers.SMTPHandler", "logging.FileHandler"),
    (f"{LOGGED} hydra.job_logging.handlers.console.stream=ext://os.environ", "ext://sys.stdout"),
    (f"{LOGGED} +hydra.job_logging.formatters.simple.class=os.system", "plugins=[os]"),
    (f"{LOGGED} +hydra.job_logging.handlers.file.mode=zz", "type a"),
    (f"{LOGGED} +hydra.job_logging.handlers.file.encoding=zz", "unknown encoding"),
    (f"{LOGGED} hydra.job_logging.handlers.file.formatter=none", "logging refuses it"),
    (f"{LOGGED} hydra.job_logging.root.level=loud", "Unknown level"),
    (f"{LOGGED} hydra.job_logging.root.handlers=[none]", "logging refuses it"),
    (f"{LOGGED} ~hydra.job_logging.root", "has no `root`"),
    (f"{LOGGED} hydra.job_logging.version=2", "version=1"),
    ("hydra.job_logging=5", "a group of settings"),
    ("hydra/hydra_logging=hydra_debug", "outside the run's directory"),
    ("hydra.verbose=5", "not true or false"),
    ("hydra.job.chdir=???", "has no value"),
    ("hydra.sweep.dir=???", "has no value"),
    ("hydra.mode=???", "has no value"),
    ("hydra.searchpath=[file:///nowhere]", "no such directory"),
    ("hydra.searchpath=[pkg://antigravity]", "plugins=[antigravity]"),
    ("hydra.searchpath=[5]", "file://DIR"),
    ("hydra.run.dir=", "type hydra.run.dir=DIR"),
    (f"hydra.run.dir={'a' * 5000}", "longer than file systems allow"),
    ("hydra.run.dir=${nope}", "'nope' not found"),
    ("hydra.sweep.subdir=../../x", "outside the sweep's directory"),
    ("-m seed=1,2 hydra.sweep.subdir=/tmp/x", "outside the sweep's directory"),
    ("hydra.output_subdir=../x", "leave it out"),
    ("hydra.mode=LOUD", "RUN, MULTIRUN"),
    ("hydra.runtime.output_dir=/tmp/x", "is set by Hydra"),
    ("hydra.runtime.choices.algo=x", "is set by Hydra"),
    ("hydra.overrides.task=[a]", "is set by Hydra"),
    ("hydra.job=null", "needs a value"),
    ("--info config hydra/hydra_logging=hydra_debug", "outside the run's directory"),
]


@pytest.mark.parametrize(("words", "part"), REFUSED)
def test_it_is_refused_in_one_line_and_nothing_is_written(
    program: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: str, part: str
):
    typed = words.replace("OUTSIDE", outside(tmp_path)).split()
    assert program.exit_code([*typed, "logger=none"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert len(line) < 6000
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "words",
    [
        LOGGED,
        "hydra/job_logging=stdout",
        "hydra/job_logging=disabled",
        "hydra/hydra_logging=default",
        "hydra.verbose=true",
        "+hydra.callbacks.x._target_=hydra.experimental.callbacks.PickleJobInfoCallback",
        "+hydra.callbacks.x._target_=tests.config.test_hydra_settings.Watching plugins=[tests]",
    ],
)
def test_what_is_hydras_own_or_trusted_by_name_is_accepted(program: Program, tmp_path: Path, words: str):
    assert program.exit_code([*words.split(), "logger=none", "hydra.run.dir=run"]) == 0
    assert (tmp_path / "run/ran").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Watching(Callback):
    """A callback of a package that the user trusts."""
