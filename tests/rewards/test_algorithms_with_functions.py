"""Every algorithm on the rewards of functions, in whole runs: kept rows, advantages, returns and pairs by hand."""

from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

import pytest

from running import run
from winnow.experience.batching import Experience
from winnow.experience.loader import ExperienceLoader
from winnow.run_logs.run_files import SampleRecord, read_samples
from winnow.types import Pair, Row

pytestmark = pytest.mark.usefixtures("their_rewards")
QUICK = ("reward.isolated=false", "iterations=1", "eval.prompts=1", "eval.every=0", "rollout.prompts=12")
REWARDS = {
    # One continuous reward in steps of 0.1, so that samples tie; and two weighted ones.
    "continuous": ({"graded": 1.0}, "reward.functions=[their_rewards:graded]"),
    "weighted": (
        {"accuracy": 1.0, "graded": 0.5},
        "reward.functions=[winnow.rewards:accuracy,their_rewards:graded]",
    ),
}
Group = list[SampleRecord]


@pytest.fixture(params=[*REWARDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Experience]:
    """What the run learns from."""
    collected: list[Experience] = []
    collect = ExperienceLoader._collect

    def noted(loader: ExperienceLoader) -> Experience:
        collected.append(collect(loader))
        return collected[-1]

    monkeypatch.setattr(ExperienceLoader, "_collect", noted)
    return collected


def trained(directory: Path, algo: str, kind: str, *words: str) -> list[Group]:
    """The samples of a run by prompt, whose rewards are the weighted sums of the functions'."""
    weights, functions = REWARDS[kind]
    typed = f"reward.weights=[{','.join(map(str, weights.values()))}]"
    run(directory, "reward=function", "plugins=[their_rewards]", functions, typed, f"algo={algo}", *QUICK, *words)
    samples = read_samples(directory / "samples" / "iteration_000001.jsonl")
    for sample in samples:
        graded = -abs(13 - len(sample.response)) / 10
        parts = {"accuracy": float(sample.extracted == sample.answer), "graded": graded}
        assert sample.rewards == pytest.approx({name: parts[name] for name in weights})
        assert sample.reward == pytest.approx(sum(weights[name] * parts[name] for name in weights), abs=1e-6)
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.prompt_key)]


def rewards_of(group: Group) -> list[float]:
    """The rewards, of which equal ones are equal numbers."""
    return [round(sample.reward or 0.0, 5) for sample in group]


def one_response(row: Row, samples: list[SampleRecord]) -> SampleRecord:
    return next(s for s in samples if (*(s.prompt_ids or ()), *(s.response_ids or ())) == row.token_ids)


@pytest.mark.parametrize("algo", ["raft", "raftpp"])
def test_raft_keeps_the_best_of_the_correct_samples_and_all_that_tie(tmp_path: Path, algo: str, kind: str):
    # Verdicts say what is correct, or a threshold on one reward, under which correct samples of one prompt differ.
    success = {"continuous": "reward.success=null", "weighted": "reward.success={name:graded,at_least:-1.6}"}
    groups = trained(tmp_path, algo, kind, success[kind])
    for group in groups:
        rewards = rewards_of(group)
        best = max((r for r, sample in zip(rewards, group, strict=True) if sample.correct), default=None)
        expected = [sample.correct and r == best for r, sample in zip(rewards, group, strict=True)]
        assert [sample.kept for sample in group] == expected
        assert [sample.advantage for sample in group] == [float(kept) for kept in expected]
    kept = [sum(sample.kept for sample in group) for group in groups]
    assert max(kept) > 1  # ties
    if kind == "weighted":
        assert any(0 < k < sum(sample.correct for sample in group) for k, group in zip(kept, groups, strict=True))
    else:  # a wrong sample is not kept, though its reward be higher
        assert any(
            max(rewards_of(group))
            > max((r for r, s in zip(rewards_of(group), group, strict=True) if s.kept), default=9)
            for group in groups
        )


def test_grpo_standardises_within_a_prompt(tmp_path: Path, kind: str):
    for group in trained(tmp_path, "grpo", kind):
        rewards = rewards_of(group)
        spread = stdev(rewards)
        expected = [(r - mean(rewards)) / (spread + 1e-6) if spread else 0.0 for r in rewards]
        assert [sample.advantage for sample in group] == pytest.approx(expected, abs=1e-4)
        assert all(sample.kept for sample in group)


def test_reinforce_takes_the_reward_as_it_is(tmp_path: Path, kind: str):
    for group in trained(tmp_path, "reinforce", kind):
        assert [sample.advantage for sample in group] == [sample.reward for sample in group]


def test_ppo_returns_the_reward_at_every_token(tmp_path: Path, kind: str, seen: list[Experience]):
    """γ = λ = 1: the return of every token is the reward of its response; the advantage, whitened, is that less V."""
    samples = [sample for group in trained(tmp_path, "ppo", kind) for sample in group]
    [experience] = seen
    rows = [item for item in experience.items if isinstance(item, Row)]
    assert len(rows) == len(samples)
    found, raw = [], []
    for row, sample in zip(rows, samples, strict=True):
        assert one_response(row, samples).response == sample.response
        assert row.returns is not None
        assert row.values is not None
        assert row.advantage is not None
        start = row.prompt_length
        assert row.returns[start:].tolist() == pytest.approx([sample.reward] * sample.length, abs=1e-5)
        raw += [sample.reward - value for value in row.values[start:].tolist() if sample.reward is not None]
        found += row.advantage[start:].tolist()
    centre, spread = mean(raw), stdev(raw)
    assert found == pytest.approx([(x - centre) / spread for x in raw], abs=1e-3)


def test_dpo_pairs_the_first_highest_with_the_first_lowest(tmp_path: Path, kind: str, seen: list[Experience]):
    groups = trained(tmp_path, "dpo", kind)
    [experience] = seen
    pairs = [item for item in experience.items if isinstance(item, Pair)]
    expected = []
    for group in groups:
        rewards = rewards_of(group)
        high, low = rewards.index(max(rewards)), rewards.index(min(rewards))
        assert [sample.kept for sample in group] == [
            rewards[high] > rewards[low] and place in (high, low) for place in range(len(group))
        ]
        if rewards[high] > rewards[low]:
            expected.append((group[high], group[low]))
    assert len(pairs) == len(expected)
    for pair, (chosen, rejected) in zip(pairs, expected, strict=True):
        for row, sample in ((pair.chosen, chosen), (pair.rejected, rejected)):
            assert row.token_ids[row.prompt_length :] == tuple(sample.response_ids or ())
