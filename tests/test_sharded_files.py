"""Files of a run on two ranks under FSDP2: damage is noticed, and every other program reads what it left."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from running import CONF, SMALL, program
from winnow import cli
from winnow.errors import DONE, UNDECIDED
from winnow.run_logs.run_files import RunFiles, checkpoint_folders, iteration_in
from winnow.run_logs.run_record import read_record, run_id
from winnow.training.checkpoint import MANIFEST, STATE, newest_valid

pytestmark = pytest.mark.slow
LAST = 4
FILES = (MANIFEST, *(f"{STATE}/{name}" for name in (".metadata", "__0_0.distcp", "__1_0.distcp", "rest.pt")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations, evaluated and saved one by one, of whose checkpoints the newest two and the best are kept."""
    run = tmp_path_factory.mktemp("sharded") / "run"
    words = [*SMALL, f"iterations={LAST}", "eval.every=1", "checkpoint.every=1", "checkpoint.keep=2"]
    words += ["checkpoint.best=true", "hardware.strategy=fsdp", "hardware.devices=auto", f"hydra.run.dir={run}"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, "train.py", *words]
    done = subprocess.run(command, cwd=CONF.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    record = read_record(run)
    assert record is not None
    assert [start.ranks for start in record.starts] == [2]
    return run


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def missing(path: Path) -> None:
    path.unlink()


def beside(path: Path) -> None:
    """One more file beside it; beside the manifest nothing is read."""
    (path.parent / "__2_0.distcp" if path.name != MANIFEST else path.parent / STATE / "more").write_bytes(b"x")


@pytest.mark.parametrize("damage", [flipped, truncated, missing, beside])
def test_damage_to_any_file_is_noticed(made: Path, tmp_path: Path, damage: Callable[[Path], None]):
    newest = made / "checkpoints" / f"iteration_{LAST:06d}"
    found = {str(path.relative_to(newest)) for path in newest.rglob("*") if path.is_file()}
    assert found == {*FILES}
    for name in FILES:
        run = shutil.copytree(made, tmp_path / name.replace("/", "_"))
        damage(run / "checkpoints" / newest.name / name)
        before = run / "checkpoints" / f"iteration_{LAST - 1:06d}" / STATE
        assert newest_valid(run / "checkpoints", run_id(made)) == before, name


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    run = shutil.copytree(made, tmp_path / "run")
    flipped(run / "checkpoints" / f"iteration_{LAST:06d}" / STATE / "__1_0.distcp")
    assert program("train").exit_code([f"resume={run}", "hardware.devices=1", "hardware.strategy=auto"]) == DONE
    printed = capfd.readouterr()
    assert f"iteration_{LAST:06d}: incomplete or damaged" in printed.out
    assert f"resuming after iteration {LAST - 1}" in printed.out
    assert "Warning" not in printed.out + printed.err
    assert apart(run / "export", made / "export") < 1e-3


def test_the_newest_and_the_best_are_kept(made: Path):
    accuracy = {row["iteration"]: row["eval/arithmetic/acc"] for row in RunFiles(made).rows() if row["iteration"]}
    best = max(accuracy, key=lambda iteration: (accuracy[iteration], -iteration))
    assert {iteration_in(path) for path in checkpoint_folders(made / "checkpoints")} == {LAST - 1, LAST, best}


def test_its_checkpoint_is_exported(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["export", str(made), str(tmp_path / "out")]) == DONE
    assert "Warning" not in "".join(capfd.readouterr())
    assert apart(tmp_path / "out", made / "export") == 0


def test_an_audit_says_why_it_computes_nothing_again(made: Path, capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["audit", str(made)]) == UNDECIDED
    printed = capfd.readouterr()
    assert "(it ran on 2 devices, and an audit computes on one)" in printed.out
    assert "configuration, metrics, samples, evaluations, checkpoints: as recorded" in printed.out
    assert "Warning" not in printed.out + printed.err


def test_its_model_is_evaluated(made: Path, tmp_path: Path):
    words = [f"run={made}", "limit=4", "eval.samples=1", f"hydra.run.dir={tmp_path / 'evaluation'}"]
    assert program("evaluate").exit_code(words) == DONE


def apart(one: Path, other: Path) -> float:
    """The largest distance of two exported models' weights, relative to the largest entry of each tensor."""
    first, second = (load_file(each / "model.safetensors") for each in (one, other))
    assert {*first} == {*second}
    return max(float((first[k] - second[k]).abs().max() / first[k].abs().max()) for k in first)


def test_each_rank_holds_half_of_weights_and_moments(made: Path):
    state = made / "checkpoints" / f"iteration_{LAST:06d}" / STATE
    sizes = [path.stat().st_size for path in sorted(state.glob("*.distcp"))]
    assert len(sizes) == 2
    assert max(sizes) <= 1.1 / 2 * sum(sizes)
