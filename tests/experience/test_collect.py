"""Collection of rollouts: seeds of samples, the policy version, and judging by each prompt's own answer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
import torch
from transformers import PreTrainedModel

from running import SMALL, composed
from winnow.assemble.rewards import run_rewards
from winnow.assemble.training import build_run
from winnow.data.order import Passes
from winnow.data.prompts import PromptOrder
from winnow.engines.base import OnCompletion, ignore_completion
from winnow.experience.collect import Collector, Judge
from winnow.experience.drawing import distinct_names, rollouts_of
from winnow.experience.metrics import Clock
from winnow.rewards.reward_scale import RewardScale
from winnow.rewards.verifier import Verifier
from winnow.types import Completion, Finish, Prompt, Sampling
from winnow.verdict import Verdict

A = Prompt("a", (11, 12, 13), "a?", "7")
B = Prompt("b", (14,), "b?", "3")


class Given(PromptOrder):
    """An order that gives the same prompts in every iteration."""

    def __init__(self, prompts: list[Prompt]) -> None:
        self.given, self.order = prompts, Passes([], 0)

    def prompts_of(self, iteration: int, count: int, first: int = 0, end: int | None = None) -> list[Prompt]:
        return self.given[:count]


class RecordingEngine:
    """An engine whose samples are two tokens that depend on the seed, and that records the seeds it gets."""

    exact = True

    def __init__(self, behind: int = 0) -> None:
        self.version = -1
        self.behind = behind
        self.seeds: list[list[int]] = []

    def sync(self, model: PreTrainedModel, version: int) -> None:
        self.version = version - self.behind

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        on_completion: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        self.seeds += [list(group) for group in seeds]
        return [[self._drawn(seed) for seed in group] for group in seeds]

    def _drawn(self, seed: int) -> Completion:
        return Completion((seed % 10, 2), torch.tensor([-0.1, -0.2]), torch.ones(2), Finish.EOS)


@pytest.fixture
def pool() -> Iterator[Verifier]:
    with Verifier() as found:
        yield found


def boxed(token_ids: tuple[int, ...]) -> str:
    return f"\\boxed{{{token_ids[0]}}}" if token_ids[0] else "no idea"


def collector(small, pool: Verifier, engine: RecordingEngine, prompts: list[Prompt], seed: int = 0) -> Collector:
    judge = Judge(pool, RewardScale(1.0, -1.0, -2.0), boxed)
    return Collector(small.model, engine, Given(prompts), judge, Sampling(1.0, 8), len(prompts), 3, seed)


def seeds(small, pool: Verifier, prompts: list[Prompt], seed: int, iteration: int) -> list[list[int]]:
    engine = RecordingEngine()
    collector(small, pool, engine, prompts, seed).collect(iteration, Clock())
    return engine.seeds


def test_seeds_are_a_function_of_seed_iteration_prompt_and_sample(small, pool):
    first = seeds(small, pool, [A, B], seed=0, iteration=0)
    assert [len(group) for group in first] == [3, 3]
    assert seeds(small, pool, [A, B], seed=0, iteration=0) == first
    # The other prompts and their order do not matter.
    assert seeds(small, pool, [B, A], seed=0, iteration=0) == first[::-1]
    others = [seeds(small, pool, [A, B], seed, iteration) for seed, iteration in ((0, 1), (0, 2), (1, 0))]
    drawn = [one for groups in (first, *others) for group in groups for one in group]
    assert len(set(drawn)) == 4 * 6


def test_a_prompt_that_occurs_twice_gets_new_samples(small, pool):
    once = seeds(small, pool, [A, B], seed=0, iteration=0)
    twice = seeds(small, pool, [A, B, A], seed=0, iteration=0)
    assert twice[:2] == once
    assert len({one for group in twice for one in group}) == 9


def test_names_of_repeated_prompts():
    assert distinct_names(["a", "b", "a", "a", "b"]) == ["a", "b", "a again 1", "a again 2", "b again 1"]


def test_samples_of_another_policy_are_refused(small, pool):
    late = collector(small, pool, RecordingEngine(behind=1), [A])
    with pytest.raises(RuntimeError, match="sampled from policy 4, not 5"):
        late.collect(5, Clock())
    assert collector(small, pool, RecordingEngine(), [A]).collect(5, Clock()).policy_version == 5


def test_each_response_is_judged_by_its_own_prompts_answer(small, pool):
    """Token 7 is the answer to prompt a, token 3 to prompt b, and token 0 is no answer."""
    drawn = [[7, 3, 0], [7, 3, 3]]
    completions = [[Completion((t, 2), torch.zeros(2), torch.zeros(2), Finish.EOS) for t in group] for group in drawn]
    judge = Judge(pool, RewardScale(1.0, -1.0, -2.0), boxed)
    with judge.start_judging([A, B]) as judging:
        judging.on_completion(1, 2, completions[1][2])
        judging.on_completion(0, 0, completions[0][0])
        groups = judging.groups(completions)
        found = rollouts_of([A, B], groups, judge.reward.rewards_of([A, B], groups, 3), version=3)
    assert found.rewards.tolist() == [[1, -1, -2], [-1, 1, 1]]
    assert found.correct.tolist() == [[True, False, False], [False, True, True]]
    assert found.judgements[0][2].verdict is Verdict.no_answer
    assert found.texts[1] == ("\\boxed{7}", "\\boxed{3}", "\\boxed{3}")
    assert (found.prompts, found.policy_version) == ((A, B), 3)


def test_algorithms_of_one_seed_draw_the_same_first_samples(pool, tmp_path):
    def drawn(algo: str, seed: int) -> list[tuple[str, int, str]]:
        cfg = composed(*SMALL, f"algo={algo}", f"seed={seed}")
        with run_rewards(cfg) as rewards, ExitStack() as ends:
            run = build_run(cfg, tmp_path, pool, [], rewards, ends)
        records = run.data.loader.source(0, Clock()).records
        return [(record.prompt_key, record.sample, record.response) for record in records]

    grpo = drawn("grpo", 0)
    assert len(grpo) == 6 * 4
    assert drawn("raft", 0) == grpo
    assert drawn("raft", 1) != grpo
