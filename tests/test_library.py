"""`winnow.train` in the process of somebody else, and the operations in a loop of somebody else's."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import winnow
from winnow.errors import EXIT_CODE_OF_SIGNAL, ConfigError

QUICK = ("debug=default", "logger=none", "hardware=cpu", "iterations=1", "eval.prompts=1", "eval.samples=1")


def state_of_this_process() -> tuple[object, ...]:
    handlers = [signal.getsignal(number) for number in EXIT_CODE_OF_SIGNAL]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("HYDRA", "WINNOW", "PYTHONPATH"))}
    return handlers, Path.cwd(), list(sys.argv), kept


def test_a_run_twice_in_one_process_leaves_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = state_of_this_process()
    runs = [winnow.train(*QUICK, f"seed={seed}") for seed in (0, 1)]
    assert state_of_this_process() == before
    assert len({run.directory for run in runs}) == 2
    for run in runs:
        assert run.directory.is_relative_to(tmp_path / "outputs")
        assert run.summary["status"] == "done"
        assert [row["iteration"] for row in run.rows] == [0, 1]
        assert len(run.metrics) == 2
        assert len(run.curves().axes) == 6
        assert run._repr_png_().startswith(b"\x89PNG")
        assert winnow.Run.read(run.directory) == run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("algo=grp",), "did you mean algo=grpo"),
        (("seed=1,2",), "several values are a sweep"),
        (("-m", "seed=1,2"), "takes overrides only"),
        (("hardware=cpu", "hardware.devices=2"), "type winnow train hardware=cpu"),
    ],
)
def test_what_the_command_line_prints_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
):
    monkeypatch.chdir(tmp_path)
    before = state_of_this_process()
    with pytest.raises(ConfigError, match=said):
        winnow.train(*words)
    assert state_of_this_process() == before
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_and_is_a_keyboard_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    from winnow.training.callbacks import IterationBookkeeping

    ended = IterationBookkeeping.on_train_epoch_end

    def interrupted(*args: object) -> None:
        ended(*args)  # pyright: ignore[reportArgumentType]
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(IterationBookkeeping, "on_train_epoch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        winnow.train(*QUICK, "iterations=5", "hydra.run.dir=run")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert winnow.Run.read("run").summary["status"] == "interrupted"
    assert winnow.train("resume=run", "iterations=2").summary["status"] == "done"


def test_importing_winnow_imports_nothing_heavy():
    probe = "import sys, winnow; sys.exit(bool({'torch', 'hydra', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = winnow.trian  # pyright: ignore[reportAttributeAccessIssue]


def test_the_notebook_runs_from_the_first_cell_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """With fewer iterations, and without a kernel: each cell is plain Python."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((PAGE.parent / "quickstart.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]
    first, second = (
        set(re.findall('"(.*?)"', words)) for words in re.findall(r"winnow\.train\((.*)\)", "\n".join(cells))
    )
    assert second ^ first == {"algo/clip=none"}  # it says that one thing is changed
    names: dict[str, object] = {}
    for cell in cells:
        quick = cell.replace('"iterations=10"', ", ".join(f'"{word}"' for word in QUICK))
        exec(compile(quick, "quickstart.ipynb", "exec"), names)
    assert "of the held-out samples are right" in capfd.readouterr().out
    assert isinstance(names["run"], winnow.Run)


PAGE = Path(__file__).parent.parent / "docs/library.md"


def test_the_loop_on_the_page_learns(capfd: pytest.CaptureFixture[str]):
    _, loop = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(loop.splitlines()) <= 40
    exec(compile(loop, str(PAGE), "exec"), {})
    assert float(capfd.readouterr().out.split()[-1]) > 0.9
