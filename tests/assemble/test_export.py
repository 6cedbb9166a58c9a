"""`winnow export`: a chosen or the best checkpoint, and its upload to a hub, which a small server stands for here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from fake_hub import FakeHub, running_hub
from running import SMALL, metrics, program
from winnow import cli

WORDS = (*SMALL, "algo=grpo", "iterations=6", "eval.every=1", "eval.prompts=16", "optim.lr=3e-3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps its last checkpoint and its best."""
    directory = tmp_path_factory.mktemp("exported") / "run"
    words = [*WORDS, "checkpoint.keep=1", "checkpoint.every=3", "checkpoint.best=true"]
    assert program("train").exit_code([*words, f"hydra.run.dir={directory}"]) == 0
    return directory


@pytest.fixture
def exported(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Function that runs `winnow export WORDS`: exit code and what it printed."""

    def exported(*words: object) -> tuple[int, str]:
        capfd.readouterr()
        code = cli.exit_code(["export", *map(str, words)])
        captured = capfd.readouterr()
        return code, captured.out + captured.err

    return exported


def best_of(run: Path) -> int:
    """The first iteration of training with the highest held-out accuracy, read from the metrics."""
    accuracy = {int(row["iteration"]): row["eval/arithmetic/acc"] for row in metrics(run) if row["iteration"] > 0}
    return min(k for k, value in accuracy.items() if value == max(accuracy.values()))


def test_the_best_checkpoint_is_kept_beside_the_newest(run: Path):
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert kept == {f"iteration_{best_of(run):06}", "iteration_000006"}


def test_the_best_is_exported_as_a_run_that_ended_there_exports_it(
    run: Path, tmp_path: Path, exported: Callable[..., tuple[int, str]]
):
    best = best_of(run)
    assert exported(run, tmp_path / "best", "--iteration", "best")[0] == 0
    assert exported(run, tmp_path / "numbered", "--iteration", best)[0] == 0
    shorter = [*WORDS, f"hydra.run.dir={tmp_path / 'shorter'}", f"iterations={best}"]
    assert program("train").exit_code(shorter) == 0
    weights = [p / "model.safetensors" for p in (tmp_path / "best", tmp_path / "numbered", tmp_path / "shorter/export")]
    assert len({path.read_bytes() for path in weights}) == 1
    assert f": {best} iterations," in (tmp_path / "best" / "README.md").read_text()


@pytest.mark.parametrize("iteration", ["0", "7", "-1", "x", "1e3", "²"])
def test_an_iteration_that_is_not_kept_is_refused(
    run: Path, tmp_path: Path, exported: Callable[..., tuple[int, str]], iteration: str
):
    code, printed = exported(run, tmp_path / "out", f"--iteration={iteration}")
    assert (code, len(printed.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(tmp_path / "home", monkeypatch) as found:
        yield found


def test_a_repository_gets_the_files_of_an_export(
    run: Path, tmp_path: Path, hub: FakeHub, exported: Callable[..., tuple[int, str]]
):
    assert exported(run, tmp_path / "out")[0] == 0
    folder = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for number in (1, 2):  # the second upload is to a repository that exists
        code, printed = exported(run, "hub:owner/model")
        assert code == 0, printed
        assert hub.newest("owner/model") == folder
        assert len(hub.messages) == number
    assert hub.made["owner/model"]["visibility"] == "private"
    assert f"{hub.address}/owner/model" in printed


def test_a_public_repository_is_asked_for_by_a_word(run: Path, hub: FakeHub, exported: Callable[..., tuple[int, str]]):
    assert exported(run, "hub:owner/open", "--public")[0] == 0
    assert hub.made["owner/open"]["visibility"] == "public"


def test_a_dry_run_asks_nobody(run: Path, hub: FakeHub, exported: Callable[..., tuple[int, str]]):
    code, printed = exported(run, "hub:owner/model", "--dry-run")
    assert (code, hub.asked) == (0, [])
    size = (run / "export" / "model.safetensors").stat().st_size
    assert f"{size:,} bytes  model.safetensors" in printed
    assert "README.md" in printed


@pytest.mark.parametrize(
    "refusal", [401, 403, 503, "no token", "no server", "offline", "a/b/c", "noowner", "a b/c", "owner/"]
)
def test_a_hub_that_refuses_is_one_line(
    run: Path,
    hub: FakeHub,
    exported: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    refusal: int | str,
):
    name = "owner/model"
    if isinstance(refusal, int):
        hub.refuse = refusal
    elif refusal == "no token":
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    elif refusal == "no server":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif refusal == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        name = refusal
    code, printed = exported(run, f"hub:{name}")
    assert (code, len(printed.splitlines())) == (2, 1), printed
    assert hub.made == {}


def test_words_about_repositories_are_refused_for_a_folder(
    run: Path, tmp_path: Path, exported: Callable[..., tuple[int, str]]
):
    assert exported(run, tmp_path / "out", "--public")[0] == 2
    assert not (tmp_path / "out").exists()
