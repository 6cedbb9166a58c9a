"""Arithmetic of each part, on invented measurements small enough for mental arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cuda, matmul, rejection_cost, scaling, startup, trl, verifiers
from benchmarks.__main__ import PARTS
from benchmarks.runs import Cost, Iteration, SampledRow, Timed
from benchmarks.trl import Side
from benchmarks.workload import Work
from winnow.plan.gpu import gpu_reported, gpus


def iteration(step: float, rollout: float, update: float, trained: int, rows: int = 8, tokens: int = 10) -> Iteration:
    """CPU seconds as given, wall seconds twice those; `rows` completions of `tokens` tokens to one prompt of 5."""
    sampled = [SampledRow("p", 5, tokens, i < trained) for i in range(rows)]
    return Iteration(*(Cost(s, 2 * s) for s in (step, rollout, update)), rows=sampled)


# --- against TRL


def test_trl_is_divided_by_ours_within_each_pair():
    theirs = [Side(8.0, 20.0, 32), Side(12.0, 40.0, 32), Side(9.0, 30.0, 32)]
    ours = {
        "grpo": [Side(2.0, 20.0, 32), Side(2.0, 20.0, 32), Side(3.0, 30.0, 32)],
        "raftpp": [Side(1.0, 20.0, 16), Side(1.0, 20.0, 16), Side(1.0, 20.0, 16)],
    }
    figures = trl.compared("ragged", theirs, ours)
    assert figures["trl_over_ours_ragged"] == 4.0  # of 4, 6 and 3
    assert (figures["trl_over_ours_ragged_low"], figures["trl_over_ours_ragged_high"]) == (3.0, 6.0)
    assert figures["trl_over_ours_ragged_raftpp"] == 9.0
    assert figures["trl_over_ours_ragged_per_token"] == pytest.approx(3)  # 0.4 ÷ 0.1, 0.3 ÷ 0.1, 0.3 ÷ 0.1
    assert figures["trl_step_ragged_cpu_s"] == 9.0
    assert figures["ours_live_rows_ragged"] == 32


def test_without_the_script_the_reason_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BENCH_TRL", raising=False)
    assert "BENCH_TRL is not set" in str(trl.skipped())
    monkeypatch.setenv("BENCH_TRL", "/nowhere.py")
    assert trl.skipped() == "BENCH_TRL=/nowhere.py: no such file"


def test_the_script_is_given_the_same_work(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text("import json, sys\nprint('noise')\nprint('RESULT ' + json.dumps({'words': sys.argv[1:]}))\n")
    said = " ".join(
        trl.their_step(str(script), Work(seed=4, iterations=6, forced=True), 2, "--engine", "static")["words"]
    )
    for words in ("--steps 4", "--warmup 2", "--seed 4", "--eos-scale 0 ", "--prompts 4", "--group 8", "--max-new 128"):
        assert words in said
    for words in ("--hidden 256", "--kv-heads 2", "--vocab 4096", "--prompt-len 64", "--engine static"):
        assert words in said
    script.write_text("raise SystemExit('out of memory')")
    with pytest.raises(RuntimeError, match="out of memory"):
        trl.their_step(str(script), Work(), 2)


def test_different_prompts_are_refused():
    result = {"total_tok_per_s": 30.0, "completion_tok_per_s": 20.0, "s_per_step": 2.0, "steps": 2}  # 40 prompt tokens
    trl.require_same_prompts(result, [iteration(1, 1, 1, trained=8)])  # 8 rows of 5
    with pytest.raises(RuntimeError, match="other prompts"):
        trl.require_same_prompts(result, [iteration(1, 1, 1, trained=8)] * 2)


def test_a_side_is_the_mean_of_its_steps():
    found = trl.side_of([iteration(2, 1, 1, trained=8, tokens=10), iteration(4, 1, 1, trained=4, tokens=30)])
    assert found == Side(cpu_s=3.0, completion_tokens=20.0, live_rows=6.0)


# --- the others


@pytest.mark.parametrize("algorithm", rejection_cost.ALGORITHMS, ids=lambda a: a.algo)
def test_patterns_keep_the_share_they_are_listed_under(algorithm: rejection_cost.Rejecting):
    """RAFT++ keeps the correct samples of a prompt; Reinforce-Rej keeps all samples of a mixed prompt."""
    for share, patterns in algorithm.patterns.items():
        if algorithm.algo == "raftpp":
            kept_rows = [pattern.count("1") for pattern in patterns]
        else:
            kept_rows = [8 if len(set(pattern)) > 1 else 0 for pattern in patterns]
        assert sum(kept_rows) == share * 8 * len(patterns)
    assert len(algorithm.round()) == 3 * rejection_cost.PROMPTS


def test_costs_are_compared_within_a_round():
    first = [iteration(9, 1, 4.0, 8), iteration(9, 1, 2.4, 4), iteration(9, 1, 1.2, 2)]
    second = [iteration(9, 1, 2.0, 8), iteration(9, 1, 1.0, 4), iteration(9, 1, 0.4, 2)]
    figures = rejection_cost.costs("_x", [1.0, 0.5, 0.25], first + second)
    assert figures["update_cost_at_quarter_kept_x"] == pytest.approx(0.25)  # of 0.3 and 0.2
    assert figures["update_cost_at_half_kept_x"] == pytest.approx(0.55)
    assert figures["update_all_kept_x_cpu_s"] == 3.0
    with pytest.raises(RuntimeError, match=r"0\.5 of the rows; kept \[8, 4\]"):
        rejection_cost.costs("", [1.0, 0.5, 0.25], [first[0], first[0], first[2], *second])


def test_a_share_of_the_bound():
    observed = {
        "sampling_bound_cpu_s": 1.0,
        "update_bound_cpu_s": 3.0,
        "update_flops": 8e9,
        "update_tokens": 100.0,
        "peak_flops_per_s": 4e9,
    }
    figures = matmul.shares("_y", [Timed(iteration(9, 2, 4, trained=8), observed)])
    assert figures["rollout_share_of_matmul_bound_y"] == 0.5
    assert figures["update_share_of_matmul_bound_y"] == 0.75
    assert figures["update_mfu_y"] == 0.5  # 8 in 4 seconds at 4 a second
    assert figures["rollout_tokens_per_cpu_s_y"] == 40.0
    assert figures["update_tokens_per_cpu_s_y"] == 25.0


def test_growth_of_peak_memory():
    points = {f"{v}x{t}": 1.0 for v in scaling.VOCABULARIES for t in scaling.LENGTHS} | {
        "2048x4096": 64.0,
        "32768x4096": 128.0,
    }
    figures = scaling.memory_growth(points)
    assert figures["update_peak_over_logits"] == 0.25  # 4,096 × 32,768 × 4 bytes are 512 MiB
    assert figures["update_peak_growth_vocabulary"] == 2.0


def test_the_cost_of_a_sample():
    figures = scaling.costs(64, [iteration(4, 1, 1, trained=8)])
    assert figures["cpu_s_per_sample_64"] == 0.5
    assert figures["cpu_ms_per_completion_token_64"] == 50.0


@pytest.mark.parametrize("case", verifiers.CASES, ids=lambda case: case.name)
def test_half_of_the_answers_are_correct(case: verifiers.Case):
    from winnow.config.compose import composed
    from winnow.config.nodes import build_node

    golds, answers = zip(*(case.pair(n) for n in range(6)), strict=True)
    with build_node(composed("train", [f"reward/verifier={case.verifier}"]).reward.verifier) as verifier:
        verdicts = [str(j.verdict) for j in verifier.judge_answers(golds, answers)]
        assert verdicts == ["correct", "wrong"] * 3
        assert (verifier.counts.isolated > 0) is (case.name == "math_verify_algebra")


def test_a_command_is_timed_and_a_failure_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text("import sys\nprint('no such thing') or sys.exit(2) if 'bad' in sys.argv else None")
    monkeypatch.setattr(startup, "SCRIPT", script)
    assert startup.start(["good"], tmp_path / "run").first is None
    with pytest.raises(RuntimeError, match="no such thing"):
        startup.start(["bad"], tmp_path / "run")


# --- on CUDA


def test_peaks_are_found_by_the_name_that_cuda_reports():
    sxm, pcie = gpu_reported("NVIDIA H100 80GB HBM3"), gpu_reported("NVIDIA H100 PCIe")
    assert sxm is not None
    assert pcie is not None
    assert (sxm.bandwidth, pcie.bandwidth) == (3.35e12, 2.0e12)
    assert gpu_reported("NVIDIA GeForce GT 710") is None


def test_figures_on_cuda():
    """2 wall seconds of sampling on a GPU that reads 1 GB/s are half of its peak; 4 of update at 2 FLOP/s a quarter."""
    gpu = replace(gpus()["H100"], flops=2.0, bandwidth=1e9)
    observed = {"sampling_bytes": 1e9, "update_flops": 2.0, "peak_bytes": 2.0**31}
    found = [Timed(iteration(5, 1, 2, trained=8), observed)]
    figures = cuda.ours("s", found, gpu) | cuda.against(
        "s",
        found,
        [
            {"engine": "cb", "s_per_step": 40.0, "peak_gib": 8.0},
            {"engine": "generate", "s_per_step": 30.0, "peak_gib": 4.0},
        ],
    )
    assert figures["cuda_rollout_share_of_bandwidth_s"] == 0.5
    assert figures["cuda_update_mfu_s"] == 0.25
    assert figures["cuda_trl_over_ours_s"] == 3.0  # the faster of 40 and 30, over 10
    assert figures["cuda_trl_memory_share_s"] == 0.5
    assert figures["cuda_trl_engine_s"] == "generate"
    assert "cuda_update_mfu_s" not in cuda.ours("s", found, None)


def test_every_figure_has_one_name():
    keys = [named.key for part in PARTS.values() for named in part.figures]
    assert len(keys) == len(set(keys))
    assert {"trl_over_ours_ragged", "trl_over_ours_forced", "rollout_share_of_matmul_bound"} <= set(keys)
    assert {"update_share_of_matmul_bound", "update_share_of_matmul_bound_smollm"} <= set(keys)
