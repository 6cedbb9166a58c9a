"""Whole runs on vLLM's CPU build, and runs whose engine was tampered with; `make test-vllm` makes their environment."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from wide_heads import typed

from running import composed, metrics
from winnow.assemble.training import train
from winnow.config import checks
from winnow.engines import vllm_engine
from winnow.engines.vllm_engine import VllmEngine
from winnow.errors import CONFIG, Diverged

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: type make test-vllm")

ENGINE = ("engine=vllm", "engine.enforce_eager=true", "engine.gpu_memory_utilization=0.01", "hardware=cpu")
SUMS = ("dataset=arithmetic", "dataset.levels=[1]", "dataset.train_size=64", "dataset.heldout_size=8")
TASK = (
    *SUMS,
    "logger=none",
    "rollout={prompts: 16, samples: 8, max_tokens: 24, max_prompt_tokens: 16}",
    "iterations=3",
    "eval={every: 0, prompts: 8, samples: 1, max_tokens: 24}",
    "optim.lr=1e-4",
)


def model(warm: Path) -> tuple[str, ...]:
    return ("model=custom", f"model.path={warm}", "model/template=plain")


def words(warm: Path) -> tuple[str, ...]:
    return (*ENGINE, *model(warm), *TASK)


def trained(directory: Path, *overrides: str) -> list[dict[str, float]]:
    """Rows of the iterations of `python train.py …`."""
    done = typed("train", f"hydra.run.dir={directory}", *overrides)
    assert done.returncode == 0, done.stderr
    return metrics(directory)[1:]


def test_three_iterations_of_grpo(warm: Path, tmp_path: Path):
    rows = trained(tmp_path / "run", "algo=grpo", *words(warm))
    assert len(rows) == 3
    for row in rows:
        assert 0 <= row["rollout/mismatch_kl"] < 1e-8
        assert row["rollout/logp_diff/max"] < 1e-5
        assert 0 < row["train/groups/frac_zero_std"] < 1  # some groups had something to teach
        assert row["train/grad_norm"] > 0
    assert rows[0]["train/kl_ref"] < 1e-8 < 1e-6 < rows[2]["train/kl_ref"]


def test_in_bfloat16_there_is_something_to_correct(warm: Path, tmp_path: Path):
    """Log-probabilities agree to two digits; with a cap of 1 about every second token is truncated, by little."""
    more = ("hardware.precision=bf16-mixed", "algo/correction=truncated", "algo.correction.cap=1")
    rows = trained(tmp_path / "run", "algo=grpo", *words(warm), *more)
    for row in rows:
        assert 1e-8 < row["rollout/mismatch_kl"] < 1e-2
        assert 0.99 < row["train/correction/mean"] < 1
        assert 0.1 < row["train/correction/changed_frac"] < 0.9


def test_two_processes_draw_what_one_does(warm: Path, tmp_path: Path):
    one, two = (
        trained(tmp_path / devices, "algo=grpo", *words(warm), "iterations=1", f"hardware.devices={devices}")
        for devices in ("1", "2")
    )
    for name in ("rollout/acc", "rollout/length/mean", "train/reward/mean", "train/groups/frac_zero_std"):
        assert one[0][name] == two[0][name]


def test_two_processes_may_hold_one_model_between_them(tmp_path: Path):
    """Four heads of 32 with random weights; seven prompts, so that the shares differ."""
    rows = trained(
        tmp_path / "run",
        *ENGINE,
        *TASK,
        "model=tiny_fresh",
        "model.width=128",
        "rollout.prompts=7",
        "algo.entropy=0.1",
        "iterations=2",
        "hardware.devices=2",
        "engine.tensor_parallel_size=2",
    )
    assert [row["rollout/mismatch_kl"] < 1e-8 for row in rows] == [True, True]


def test_what_the_cpu_build_cannot_do_is_said_in_one_line(tmp_path: Path):
    done = typed("train", *ENGINE, "model=tiny", "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == CONFIG
    assert "error: engine=vllm: on a CPU vLLM has attention for heads of 32" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_evaluation_by_vllm(warm: Path, tmp_path: Path):
    run = tmp_path / "run"
    lengths = ("eval.samples=4", "eval.max_tokens=24")
    done = typed("evaluate", f"hydra.run.dir={run}", *ENGINE, *model(warm), *SUMS, *lengths)
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "results.json").read_text())["sets"]["arithmetic"]
    assert (found["prompts"], found["samples"], found["truncated"]["estimate"]) == (8, 4, 0)


def stopped(directory: Path, warm: Path, *more: str) -> str:
    """The message with which the mismatch ends a run in this process."""
    directory.mkdir()
    cfg = composed(*words(warm), *more)
    checks.check_config(cfg)
    with pytest.raises(Diverged) as found:
        train(cfg, directory)
    assert json.loads((directory / "summary.json").read_text())["status"] == "diverged"
    return str(found.value)


def test_weights_that_never_arrive_are_noticed(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(VllmEngine, "_push", lambda self, llm, model: None)
    assert stopped(tmp_path / "run", warm).startswith("iteration 1: samples are ")


def test_weights_that_arrive_only_once_are_noticed(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second iteration samples from the first one's policy, four updates of 1e-4 ago."""
    push = VllmEngine._push
    monkeypatch.setattr(VllmEngine, "_push", lambda self, llm, model: self.version < 0 and push(self, llm, model))
    assert stopped(tmp_path / "run", warm).startswith("iteration 2: samples are ")


def test_a_stale_tied_head_is_noticed(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_engine, "repack_output", lambda model: None)
    assert stopped(tmp_path / "run", warm).startswith("iteration 1: samples are ")


def test_another_temperature_is_noticed(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sampling = VllmEngine._sampling

    def hotter(self, how, seed):
        params = sampling(self, how, seed)
        params.temperature = 1.2
        return params

    monkeypatch.setattr(VllmEngine, "_sampling", hotter)
    assert stopped(tmp_path / "run", warm).startswith("iteration 1: samples are ")
