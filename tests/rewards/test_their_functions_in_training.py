"""Reward functions of TRL's and verl's users, unchanged, in whole runs on data in the form that these have."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from running import SMALL, composed, metrics
from winnow.assemble.training import train
from winnow.config import checks
from winnow.run_logs.run_files import SampleRecord, read_samples

pytestmark = pytest.mark.usefixtures("their_rewards")
SUMS = [(a, b) for a in range(11, 17) for b in (7, 25)]


def run(directory: Path, *words: str) -> float | None:
    cfg = composed(*(word for word in SMALL if not word.startswith("dataset.")), *words)
    checks.check_config(cfg)
    directory.mkdir()
    return train(cfg, directory)


def words(*functions: str) -> list[str]:
    return ["reward=function", "plugins=[their_rewards]", f"reward.functions=[{','.join(functions)}]"]


def boxes(response: str) -> list[str]:
    return re.findall(r"\\boxed\{(\d+)\}", response)


def digits(response: str) -> int:
    return sum(character.isdigit() for character in response)


def by_hand(sample: SampleRecord, step: int, steps: int) -> Mapping[str, float | None]:
    """The rewards of a sample, written down anew."""
    count = digits(sample.response)
    return {
        "reward_len": -abs(20 - len(sample.response)),
        "reward_ground_truth": float(boxes(sample.response)[:1] == [sample.answer]),
        "reward_async": len(sample.response) % 2,
        "reward_schedule": count * step / steps if count else None,
        "reward_tokens": sample.length,
        "compute_score": 1.0 if sample.answer in sample.response else -1.0,
    }


def test_trls_functions_on_a_dataset_of_trls(tmp_path: Path):
    """A text as prompt, and a column `ground_truth`. One function takes tokens, one is a coroutine, one logs."""
    rows = [{"prompt": f"{a}+{b}-8=", "ground_truth": str(a + b - 8)} for a, b in SUMS]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ["reward_len", "reward_ground_truth", "reward_async", "reward_schedule", "reward_tokens"]
    weights = [0.02, 1, 0.1, 0.05, -0.01, 0.5]
    data = ["dataset=file", f"dataset.path={tmp_path / 'train.jsonl'}", "dataset.answer_field=ground_truth"]
    functions = words(*(f"their_rewards:{name}" for name in names), "verl:their_rewards:compute_score")
    run(tmp_path / "run", *functions, f"reward.weights={weights}", *data, "dataset.heldout_size=4", "iterations=2")
    for row, iteration in zip(metrics(tmp_path / "run")[1:], (1, 2), strict=True):
        samples = read_samples(tmp_path / "run" / "samples" / f"iteration_{iteration:06d}.jsonl")
        for sample in samples:
            expected = by_hand(sample, iteration - 1, 2)
            assert sample.rewards == pytest.approx(expected)
            total = sum(w * (value or 0) for w, value in zip(weights, expected.values(), strict=True))
            assert sample.reward == pytest.approx(total, rel=1e-5, abs=1e-6)
            assert sample.logged is not None
            assert sample.logged["digits"] == digits(sample.response)
            assert sample.logged["source"] == ""
        logged = sum(digits(sample.response) for sample in samples) / len(samples)
        assert row["train/reward_log/digits_mean"] == pytest.approx(logged)
        assert row["train/reward/reward_schedule/none_frac"] == sum(digits(s.response) == 0 for s in samples) / 24
        assert row["train/reward/lost_frac"] == 0


def test_a_chat_in_verls_file_rewarded_by_verls_function_and_a_format_of_trls(tmp_path: Path):
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{a}+{b}-8="}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(a + b - 8)},
            "extra_info": {"split": "train", "index": index},
        }
        for index, (a, b) in enumerate(SUMS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    functions = words("verl:their_rewards:gsm8k_score", "their_rewards:reward_boxed")
    success = ["reward.weights=[1,0.2]", "reward.success={name:gsm8k_score,at_least:1}"]
    data = ["dataset=file", f"dataset.path={tmp_path / 'train.parquet'}", "dataset.answer_field=null"]
    accuracy = run(tmp_path / "run", *functions, *success, *data, "dataset.heldout_size=4", "iterations=1")
    assert accuracy is not None
    for sample in read_samples(tmp_path / "run" / "samples" / "iteration_000001.jsonl"):
        truth = str(eval(sample.prompt.rstrip("=")))
        right = float(boxes(sample.response)[-1:] == [truth])
        in_form = float(re.fullmatch(r"[^;]+;\\boxed\{\d+\}", sample.response) is not None)
        assert sample.rewards == {"gsm8k_score": right, "reward_boxed": in_form}
        assert sample.reward == pytest.approx(right + 0.2 * in_form)
        assert sample.correct == bool(right)
        assert sample.logged is not None
        assert rows[int(str(sample.logged["index"]))]["prompt"] == [{"role": "user", "content": sample.prompt}]
