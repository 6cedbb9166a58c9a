"""Rates and lengths from recorded runs, and plans for a CPU, against numbers computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf, open_dict

from winnow.assemble.planning import Options, plan_of, plan_with
from winnow.cli import exit_code
from winnow.config.compose import composed
from winnow.errors import ConfigError
from winnow.models.shape import DecoderShape
from winnow.plan.assumptions import assumptions
from winnow.plan.calibration import _fitted
from winnow.plan.cpu_work import decoding_units, forward_units, update_units
from winnow.plan.lengths import assumed_lengths, recorded_lengths
from winnow.plan.machine import Costs, Machine, Units, read_machine, write_machine
from winnow.plan.measured import measured_phases, measured_rates
from winnow.plan.report import text
from winnow.plan.work import Tokens

MACHINE = Machine(
    measured="by hand",
    flops=2e10,
    bandwidth=1e10,
    update=Costs(flop=1e-10),
    decoding=Costs(flop=2e-10, step=1e-3),
    adam=28e6,
    row=1e-3,
    iteration=0.5,
)
"""A CPU of 10 GFLOP/s in updates and 5 in decoding."""
SHAPE = DecoderShape("", 2, 8, 16, 2, 1, 4, 10, 64, tied=True, biases=False).sizes()


def sample(iteration: int, prompt: str, length: int, verdict: str) -> str:
    row = {"iteration": iteration, "prompt_key": prompt, "sample": 0, "prompt": "", "response": "", "answer": "",
           "extracted": None, "verdict": verdict, "reward": 1.0, "advantage": 0.0, "kept": True, "length": length,
           "finish": "eos"}  # fmt: skip
    return json.dumps(row) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three iterations of two prompts × two samples: 40 tokens, sampled in 2 s, trained in 4 s and scored in 1 s."""
    rows = [
        {"iteration": i, "rollout/length/mean": 10.0, "train/samples/tokens_trained": 20.0, "time/generate": 2.0,
         "time/update": 4.0, "time/score": 1.0}
        for i in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "samples").mkdir()
    told = [
        sample(3, "a", 8, "correct"),
        sample(3, "a", 12, "wrong"),
        sample(3, "b", 9, "wrong"),
        sample(3, "b", 11, "wrong"),
    ]
    (tmp_path / "samples" / "iteration_000003.jsonl").write_text("".join(told))
    return tmp_path


def test_rates_of_a_run_are_medians_of_its_own_timings(run: Path):
    rates = measured_rates(run, devices=2, rows=4, passes=0.5)
    assert rates.sampled == 40 / 2 / 2  # tokens a second and device
    assert rates.trained == 20 / 4 / 2
    assert rates.scored == 1.0 * 2 / (4 * 0.5)  # device-seconds of a forward of a row
    setup = plan_of(["model=qwen", "algo=grpo"], Options(assume=("kept=0.5",))).setup
    phases = {
        phase.name: phase.seconds for phase in measured_phases(setup, rates, recorded_lengths(run, assumptions()))
    }
    assert phases["sampling"] == 4096 * 10 / 10
    assert phases["update"] == 4096 * 10 * 0.5 / 2.5


def test_a_plan_by_the_rates_of_a_run_of_the_same_model(run: Path):
    """40 response tokens in 2 s; of the plan's 4,096 rows of 10 tokens that is 2,048 s. An older run has no nodes."""
    cfg = composed("train", ["model=qwen", "rollout.prompts=2", "rollout.samples=2"], ())
    with open_dict(cfg):
        del cfg.hardware.nodes
    (run / ".hydra").mkdir()
    OmegaConf.save(cfg, run / ".hydra" / "config.yaml")
    OmegaConf.save({"hydra": {"runtime": {"choices": {"model": "qwen"}}}}, run / ".hydra" / "hydra.yaml")
    OmegaConf.save([], run / ".hydra" / "overrides.yaml")
    plan = plan_of(["model=qwen", "rollout.samples=4"], Options(rates=run, lengths=run))
    assert plan.timeline.phases[0].seconds == 2048
    assert "tokens/s, measured" in text(plan)
    with pytest.raises(ConfigError, match="a run of model=qwen, and this plan is of llama"):
        plan_of(["model=llama"], Options(rates=run))


def test_a_run_without_rates_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="two or more iterations"):
        measured_rates(tmp_path, 1, 4, 1.0)


def test_recorded_lengths_and_verdicts(run: Path):
    lengths = recorded_lengths(run, assumptions())
    assert sorted(lengths.tokens) == [8, 9, 11, 12]
    assert (lengths.mean, lengths.mean_square) == (10, (64 + 81 + 121 + 144) / 4)
    assert lengths.correct is not None
    assert lengths.correct.tolist() == [[True, False], [False, False]]
    plan = plan_of(["model=qwen", "algo=grpo", "rollout.samples=2"], Options(lengths=run))
    assert plan.setup.shares.kept == 0.5  # one of two prompts is mixed
    assert "recorded: 4 responses" in text(plan)


def test_assumed_lengths_have_the_mean_that_is_stated():
    lengths = assumed_lengths(100_000, assumptions(("response_share=0.01", "response_spread=0.5")))
    assert lengths.mean == pytest.approx(1000, rel=0.01)
    assert np.median(lengths.tokens) == pytest.approx(1000 * np.exp(-0.125), rel=0.01)
    assert assumed_lengths(50, assumptions(("response_share=1", "response_spread=0"))).tokens.tolist() == [50] * 4096


def test_units_of_work_on_a_cpu():
    """Two layers of width 8 and 4 key widths: a token saves 4 · 2 · (72 + 8 + 64) bytes."""
    tokens = Tokens(4, 6, 0)
    units = update_units(SHAPE, tokens, 3, recompute=False)
    assert units.activation == 10 * 4 * 2 * (9 * 8 + 2 * 4 + 4 * 16)
    assert units.logit == 4 * 6 * 10
    assert units.call == 2 * 3
    assert forward_units(SHAPE, tokens, 3).activation == pytest.approx(units.activation / 3)
    again = update_units(SHAPE, tokens, 3, recompute=True)
    assert again.activation == pytest.approx(units.activation * 4 / 3)
    steps = decoding_units(SHAPE, 5, 20, 100)
    assert (steps.cache, steps.call, steps.step) == (100 * 2 * 4 * 2 * 4, 10, 5)


def test_costs_are_found_again():
    costs = Costs(flop=2e-10, call=3e-4)
    work = [Units(flop=f, call=c) for f, c in ((1e9, 10), (1e7, 100), (5e8, 3))]
    found = _fitted([(units, costs.of(units)) for units in work], ("flop", "activation", "call"))
    assert found.flop == pytest.approx(costs.flop)
    assert found.call == pytest.approx(costs.call)
    assert found.activation == 0


def test_a_plan_for_a_cpu_is_units_times_costs():
    words = ["model=tiny", "hardware=cpu", "rollout.prompts=4", "rollout.samples=2", "rollout.max_tokens=5",
             "algo=reinforce", "metrics.kl_rows=0", "update.minibatches=1"]  # fmt: skip
    given = Options(assume=("response_share=1", "response_spread=0", "prompt_tokens=10", "kept=1"))
    plan = plan_with(MACHINE, words, given)
    phases = {phase.name: phase.seconds for phase in plan.timeline.phases}
    shape = plan.setup.shape
    prompts = 4 * 10 * shape.layers * (2 * shape.block + 4 * shape.query_width * 10 / 2) * 1e-10
    multiplied = shape.layers * shape.block + shape.table
    assert phases["sampling"] == pytest.approx(prompts + 8 * 5 * 2 * multiplied * 2e-10 + 5 * 1e-3)
    assert phases["AdamW"] == pytest.approx(28 * shape.parameters / 28e6)
    assert phases["bookkeeping"] == pytest.approx(8 * 1e-3 + 0.5)
    assert "process-hours" in text(plan)


def test_a_calibration_is_kept_and_its_absence_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path))
    assert exit_code(["plan", "hardware=cpu"]) == 2
    assert "type winnow plan --calibrate" in capsys.readouterr().err
    path = write_machine(MACHINE)
    assert read_machine() == MACHINE
    assert exit_code(["plan", "hardware=cpu"]) == 0
    path.write_text("{")
    assert exit_code(["plan", "hardware=cpu"]) == 2
