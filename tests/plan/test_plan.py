"""Plans, against bytes, seconds and shares computed by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from winnow.assemble import plan_tables
from winnow.assemble.plan_advice import advised
from winnow.assemble.planning import Options, equally_likely, kept_share, plan_of
from winnow.cli import exit_code
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.errors import ConfigError
from winnow.models.memory import USABLE
from winnow.plan.decoding import decoded, ranks_of
from winnow.plan.gpu import gpu_of, gpu_reported, gpus
from winnow.plan.gpu_phases import communication, decoding_seconds, weight_bytes
from winnow.plan.lengths import Lengths
from winnow.plan.plan import Plan
from winnow.plan.report import as_json, text
from winnow.plan.simulation import Work, colocated, separate
from winnow.plan.timeline import timeline_of
from winnow.plan.work import forward_flops, multiplied, prompts_of, tokens_of, update_flops

P = 1_543_714_304
"""Parameters of Qwen2.5-Math-1.5B, whose embedding is its output layer."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(["model=qwen", "experiment=paper/grpo", "model=qwen"], Options(price=2.0))


def test_every_gpu_has_a_source_and_is_found_by_the_name_that_cuda_reports():
    assert all(gpu.source and gpu.memory > 1e10 and gpu.flops > 1e13 for gpu in gpus().values())
    assert gpu_reported("NVIDIA H100 80GB HBM3") == gpu_of("h100") == gpus()["H100"]
    assert gpu_reported("Some other GPU") is None


def test_memory_is_the_estimate_of_the_start(plan: Plan):
    """4 bytes of weight and gradient, 8 of moments, 4 of the reference policy, 2 of autocast's copy: 22 a parameter."""
    held = {part.name: part.size for part in plan.fit.held}
    assert held == {"weights": 4 * P, "gradients": 4 * P, "AdamW": 8 * P, "reference": 4 * P, "products": 2 * P}
    assert plan.fit.total == plan.fit.estimate.total
    assert plan.fit.fits
    assert plan.fit.usable == USABLE * 80e9


def test_work_is_counted_by_hand(plan: Plan):
    """Two rows of 10 tokens after one prompt of 4: 4 + 20 tokens, 4²/2 + 2 · (10 · 4 + 10²/2) positions."""
    lengths = Lengths(np.array([10]), 4.0, "")
    work = tokens_of(1, 2, lengths)
    assert (work.prompt, work.response, work.context) == (4, 20, 8 + 2 * 90)
    shape = plan.setup.shape
    table = 151936 * 1536
    blocks = P - table
    flops = 2 * blocks * 24 + 2 * table * 20 + 4 * 28 * 1536 * 188
    assert multiplied(shape) == P
    assert forward_flops(shape, work) == pytest.approx(flops)
    head = 2 * table * 20  # computed twice in any case
    assert update_flops(shape, work, recompute=False, critic=False) == pytest.approx(3 * flops + head)
    assert update_flops(shape, work, recompute=True, critic=False) == pytest.approx(4 * flops)
    assert update_flops(shape, work, recompute=False, critic=True) == pytest.approx(6 * (flops - head) + 4 * head)


def test_prompts_that_are_computed():
    """Four rows of a prompt in one batch need it once; in two batches, 2 · (1 − 1/16) times."""
    assert prompts_of(4, 4, 1) == 1
    assert prompts_of(4, 4, 2) == pytest.approx(2 * 15 / 16)


def test_decoding_takes_as_many_steps_as_the_longest_row_or_fills_slots():
    lengths = np.array([3, 1, 2, 4])
    assert decoded(lengths, 4, 10.0).steps == 4
    assert decoded(lengths, 1, 10.0).steps == 10
    assert decoded(lengths, 2, 10.0).steps == 7  # slots: 3 and 1, then 1 + 2, then 3 + 4
    assert decoded(lengths, 2, 10.0).positions == 10 * 10 + (9 + 1 + 4 + 16) / 2
    assert ranks_of(5, 4, 3) == [8, 8, 4]


def test_a_step_reads_the_weights_and_the_cache(plan: Plan):
    """One row of 100 tokens after 200: 100 · 2 bytes · 1.54e9 ÷ (3.35 TB/s · 0.6), and 28,672 bytes a position."""
    lengths = Lengths(np.array([100]), 200.0, "")
    parts = decoding_seconds(plan.setup, plan.rates, decoded(np.array([100]), 1, 200.0), 1, lengths)
    bandwidth = 3.35e12 * 0.6
    assert parts.weights == pytest.approx(100 * 2 * P / bandwidth)
    assert parts.cache == pytest.approx((100 * 200 + 5000) * 28_672 / bandwidth)
    assert parts.arithmetic == pytest.approx(2 * P * 100 / (989.4e12 * 0.45))
    assert parts.launches == pytest.approx(100 * 28 * 0.0007)


def test_weights_that_are_not_trained_are_cast_in_every_step(plan: Plan):
    """Read in float32, written and read in bfloat16: 8 bytes where a trained weight has 2."""
    assert weight_bytes(plan.setup) == 2
    assert weight_bytes(plan_of(["model=qwen", "model/lora=adapter"], Options()).setup) == 8
    assert weight_bytes(plan_of(["model=qwen", "model/lora=adapter", "engine=vllm"], Options()).setup) == 2


def test_communication_is_bytes_over_links(plan: Plan):
    """FSDP on 8: (2 + 2 + 4) bytes · p · 7/8 a micro-batch; DDP: 2 · 7/8 · 4 bytes · p a step, half of it hidden."""
    link = 450e9 * 0.7
    eight = replace(plan.setup, devices=8)
    ddp = communication(eight, plan.rates, 2, 5, compute=0.0)
    assert ddp.seconds == pytest.approx(2 * (2 * 7 / 8 * 4 * P) / link / 2)
    fsdp = communication(replace(eight, strategy="fsdp"), plan.rates, 2, 5, compute=0.0)
    assert fsdp.seconds == pytest.approx(2 * 5 * 8 * P * 7 / 8 / link)
    assert communication(replace(eight, strategy="fsdp"), plan.rates, 2, 5, compute=100.0).seconds == 0


@pytest.mark.parametrize(
    ("algo", "kept"),
    [("raft", 1 / 2), ("reinforce", 1), ("grpo", 3 / 5), ("reinforce_rej", 3 / 5), ("ppo", 1), ("dpo", 3 / 5 / 2)],
)
def test_kept_shares_for_four_samples(algo: str, kept: float):
    """0 to 4 correct samples are equally likely: half of all are correct, three of five prompts are mixed."""
    algorithm = build_algorithm(composed("train", [f"algo={algo}"], ("algo",)))
    assert kept_share(algorithm, equally_likely(4)) == pytest.approx(kept)


def test_the_run_adds_up(plan: Plan):
    times = plan.timeline
    seconds = sum(phase.seconds for phase in times.phases)
    assert times.iteration == seconds
    assert times.evaluations == 300 // 20 + 1
    assert times.hours == pytest.approx((300 * seconds + 16 * times.evaluation.seconds) / 3600)
    assert plan.cost == pytest.approx(2.0 * times.hours)


def test_the_report_names_every_assumption_that_was_used(plan: Plan):
    shown, numbers = text(plan), json.loads(as_json(plan))
    assert all(str(one) in shown for one in plan.stated.used())
    assert "lengths of responses: assumed: log-normal" in shown
    assert numbers["memory"]["held"]["AdamW"] == 8 * P
    assert numbers["seconds"]["bottleneck"] == "sampling"
    assert numbers["run"]["usd"] == pytest.approx(plan.cost)
    given = plan_of(["model=qwen"], Options(assume=("decode_bandwidth=0.3",)))
    assert "decode_bandwidth=0.3: given; " in text(given)


def test_advice_fits_when_it_is_planned():
    words = ["experiment=paper/grpo", "model=llama"]
    tight = advised(plan_of(words, Options()), words, Options())
    assert not tight.fit.fits
    assert tight.advice
    for added in tight.advice:
        assert plan_of([*words, *added], Options()).fit.fits
    assert f"does not fit; type {' '.join(tight.advice[0])}" in text(tight)


def test_a_run_beyond_the_models_positions_is_told(plan: Plan):
    """Prompts of 1,024 and responses of 4,096 tokens, where Qwen2.5-Math has 4,096 positions."""
    assert "may reach 5,120 tokens, but the model has 4,096 positions" in text(plan)
    short = replace(plan.setup, max_tokens=3072, evaluations=replace(plan.setup.evaluations, max_tokens=3072))
    assert "the model has" not in text(replace(plan, setup=short))


def test_a_table_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(plan_tables, "MODELS", ("qwen",))
    monkeypatch.setattr(plan_tables, "COUNTS", (1, 16))
    assert exit_code(["plan", "--table", "devices", "--json", "--price", "2"]) == 0
    one, many = json.loads(capsys.readouterr().out)
    assert (one["devices"], many["devices"]) == (1, 16)
    assert one["run"]["usd"] == pytest.approx(2 * one["run"]["device_hours"])


def test_stragglers_by_hand():
    """Two ranks with rows of 10 or 20 tokens, one second a token, and an update of 5 seconds on any number of GPUs."""
    lengths = Lengths(np.array([10, 20]), 0.0, "")
    work = Work(2, 1, 1, lengths, lambda done, rows: float(done.steps), lambda gpus: 5.0)
    seconds, idle = colocated(work, 2)
    drawn = np.array([lengths.drawn((2,), i) for i in range(16)])
    assert seconds == pytest.approx(drawn.max(1).mean() + 5)
    assert idle == pytest.approx(1 - drawn.mean() / drawn.max(1).mean())
    waits, _ = separate(work, 2, 1, staleness=0)
    assert waits == pytest.approx(drawn[4:].max(1).mean() + 5)  # sampling and update take turns
    assert separate(work, 2, 1, staleness=2)[0] <= separate(work, 2, 1, staleness=1)[0] < waits


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=nosuch"], "no such choice"),
        (["--gpu", "H999"], "--gpu H999: not in the table; type one of H100"),
        (["--assume", "foo=1"], "no such assumption; known: prompt_tokens"),
        (["--assume", "prompt_tokens=x"], "type --assume prompt_tokens=150"),
        (["--price", "-1"], "--price -1: must be a number above 0"),
        (["model=custom", "model.path=foo/bar"], "a plan asks no hub"),
        (["--lengths", "."], "no samples/*.jsonl"),
        (["hardware=cpu", "--gpu", "H100"], "leave one of them out"),
        (["--table", "paper", "--simulate"], "--simulate: is about one run; leave --table out"),
        (["--calibrate", "model=qwen"], "plans nothing; leave model=qwen out"),
        (["--price", "nan"], "--price nan: must be a number above 0"),
        (["--price", "1e308"], "from 0.0001 to 1,000,000 USD"),
        (["--assume", "prompt_tokens=1e308"], "must be from 0.00015 to 1.5e+08; type --assume prompt_tokens=150"),
        (["--assume", "response_spread=1e308"], "must be from 7e-07 to 10; type --assume response_spread=0.7"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert exit_code(["plan", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_folder_is_planned_by_its_config(tmp_path: Path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": True})
    )  # fmt: skip
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = plan_of(["model=custom", f"model.path={tmp_path}"], Options())
    block = 2 * (64 * 64 + 64) + 2 * (64 * 32 + 32) - 64 + 3 * 64 * 128 + 2 * 64  # the output has no bias
    assert found.setup.shape.parameters == 100 * 64 + 2 * block + 64


def test_fsdp_divides_what_is_held_among_the_gpus_of_all_nodes():
    words = ["model=qwen", "hardware=fsdp", "hardware.devices=8", "hardware.nodes=2"]
    found = plan_of(words, Options())
    held = {part.name: part.size for part in found.fit.held}
    assert (found.setup.devices, found.setup.nodes, found.setup.strategy) == (16, 2, "fsdp")
    assert (held["weights"], held["gradients"], held["AdamW"]) == (4 * P / 16, 4 * P / 16, 8 * P / 16)
    assert "50 GB/s × 0.7" in text(found)  # between nodes
    off = plan_of([*words, "hardware.offload=true"], Options())
    assert [part.name for part in off.fit.held] == ["products"]
    assert "offloading" in [phase.name for phase in off.timeline.phases]


def test_a_cpu_is_not_told_to_offload():
    """Its shards are in main memory already, and training refuses the word."""
    words = ["model=qwen", "hardware=cpu", "hardware.devices=2"]
    with pytest.raises(ConfigError, match=r"hardware\.offload=true: on a CPU"):
        plan_of([*words, "hardware.strategy=fsdp", "hardware.offload=true"], Options())
    tight = advised(plan_of(words, Options()), words, Options())
    assert not any("hardware.offload=true" in added for added in tight.advice)


def test_ddp_has_gradients_twice():
    held = {part.name: part.size for part in plan_of(["model=qwen", "hardware=ddp"], Options()).fit.held}
    assert held["gradients"] == 2 * 4 * P


def test_a_server_samples_on_gpus_of_its_own():
    """One engine for all rows, whose GPU counts; the trainer's has no phase of sampling."""
    found = plan_of(["model=qwen", "engine=vllm_server"], Options())
    assert found.setup.samplers == 1
    assert found.timeline.devices == 2
    assert "sampling" not in [part.name for part in found.fit.phases]
    weights, cache = found.fit.server
    assert weights.size == 2 * P
    assert cache.size == pytest.approx(256 * 28_672 * (found.lengths.prompt + found.lengths.mean))
    assert found.timeline.phases[0].seconds == pytest.approx(2 * P / (450e9 * 0.7))
    assert "and 1 for sampling" in text(found)
    ahead = timeline_of(replace(found.setup, staleness=1), found.timeline.phases, found.timeline.evaluation, 600.0)
    sampling = sum(phase.seconds for phase in ahead.phases if phase.name in ("sync", "sampling", "verifying"))
    assert ahead.iteration == max(sampling, found.timeline.iteration - sampling)
