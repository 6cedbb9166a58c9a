"""Responses are judged while others are still being sampled."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from winnow import distributed
from winnow.data.prompts import PromptOrder
from winnow.engines.base import Engine
from winnow.experience.metrics import Clock
from winnow.rewards.verifier import RewardScale, Verifier
from winnow.rng import seed_of
from winnow.types import Completion, Prompt, Rollouts, Sampling
from winnow.verdict import Judgement, Verdict


class JudgedGroup(NamedTuple):
    """One prompt's samples, in order."""

    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    judgements: tuple[Judgement, ...]


class AsyncJudging:
    """Judges in a thread beside: whatever has come in since it last looked goes to the verifier together.

    The verifier's own processes do the work; the thread waits for them.
    """

    def __init__(self, pool: Verifier, decode: Callable[[tuple[int, ...]], str], prompts: Sequence[Prompt]) -> None:
        self._pool, self._decode, self._prompts = pool, decode, prompts
        self._texts: dict[tuple[int, int], str] = {}
        self._judgements: dict[tuple[int, int], Judgement] = {}
        self._waiting: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._rounds: deque[Future[None]] = deque()

    def done(self, prompt: int, sample: int, completion: Completion) -> None:
        """For `Engine.generate`."""
        while self._rounds and self._rounds[0].done():
            self._rounds.popleft().result()  # a verifier that fails is not sampled for to the end
        self._texts[prompt, sample] = self._decode(completion.token_ids)
        self._waiting.put((prompt, sample))
        self._rounds.append(self._thread.submit(self._judge))

    def groups(self, completions: Sequence[Sequence[Completion]]) -> list[JudgedGroup]:
        """Everything, once it is judged; what no one has told of is judged now."""
        for p, group in enumerate(completions):
            for g, completion in enumerate(group):
                if (p, g) not in self._texts:
                    self.done(p, g, completion)
        for judged in self._rounds:
            judged.result()
        return [
            JudgedGroup(
                tuple(group),
                tuple(self._texts[p, g] for g in range(len(group))),
                tuple(self._judgements[p, g] for g in range(len(group))),
            )
            for p, group in enumerate(completions)
        ]

    def _judge(self) -> None:
        names = _drain(self._waiting)
        if not names:  # an earlier look has taken them
            return
        golds = [self._prompts[p].answer for p, _ in names]
        found = self._pool.judge(golds, [self._texts[name] for name in names])
        self._judgements |= dict(zip(names, found, strict=True))

    def __enter__(self) -> "AsyncJudging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)


def _drain(queue: SimpleQueue[tuple[int, int]]) -> list[tuple[int, int]]:
    taken = []
    while True:
        try:
            taken.append(queue.get_nowait())
        except Empty:
            return taken


@dataclass(frozen=True, slots=True)
class Judge:
    """Verdicts on responses, and what each verdict is worth."""

    pool: Verifier
    scale: RewardScale
    decode: Callable[[tuple[int, ...]], str]

    def start_judging(self, prompts: Sequence[Prompt]) -> AsyncJudging:
        return AsyncJudging(self.pool, self.decode, prompts)

    def rollouts(self, prompts: Sequence[Prompt], heard: Sequence[JudgedGroup], version: int) -> Rollouts:
        """Rewards for P × G judged completions."""
        return Rollouts(
            tuple(prompts),
            tuple(group.completions for group in heard),
            tuple(group.texts for group in heard),
            tuple(group.judgements for group in heard),
            torch.tensor([[self.scale(j.verdict) for j in group.judgements] for group in heard]),
            torch.tensor([[j.verdict is Verdict.correct for j in group.judgements] for group in heard]),
            version,
        )


def sample_and_judge(
    engine: Engine,
    judge: Judge,
    prompts: Sequence[Prompt],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    clock: Clock,
) -> Rollouts:
    """Draw and judge; ranks share the work.

    A response is judged on the rank that drew it and nowhere else: a time limit is a matter of the moment, and ranks must agree.
    """
    mine = distributed.strided_shard(prompts)
    with judge.start_judging(mine) as judging:
        with clock.of("generate"):
            completions = engine.generate(mine, distributed.strided_shard(seeds), sampling, judging.done)
        with clock.of("reward"):
            heard = judging.groups(completions)
    return judge.rollouts(prompts, distributed.gather_strided(heard, len(prompts)), engine.version)


class Collector:
    """Draws G samples for each of an iteration's P prompts from the policy, and judges them."""

    def __init__(
        self,
        model: PreTrainedModel,
        engine: Engine,
        order: PromptOrder,
        judge: Judge,
        sampling: Sampling,
        prompts: int,
        samples: int,
        seed: int,
    ) -> None:
        self.model, self.engine, self.order, self.judge, self.sampling = model, engine, order, judge, sampling
        self.prompts, self.samples, self.seed = prompts, samples, seed

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        """The rollouts of `iteration`, drawn with the weights as they are now; the same on every rank."""
        prompts = self.order.prompts_of(iteration, self.prompts)
        distributed.require_equal([prompt.key for prompt in prompts], f"the prompts of iteration {iteration + 1}")
        names = distinct_names([prompt.key for prompt in prompts])
        seeds = [[seed_of(self.seed, "sample", iteration, name, g) for g in range(self.samples)] for name in names]
        with clock.of("sync"):
            self.engine.sync(self.model, iteration)
        rollouts = sample_and_judge(self.engine, self.judge, prompts, seeds, self.sampling, clock)
        if rollouts.policy_version != iteration:
            raise RuntimeError(f"the engine sampled from policy {rollouts.policy_version}, not {iteration}")
        return rollouts


def distinct_names(keys: Sequence[str]) -> list[str]:
    """`["a", "b", "a"]` as `["a", "b", "a again 1"]`: a prompt that comes twice in an iteration is sampled anew."""
    seen: Counter[str] = Counter()
    names = []
    for key in keys:
        names.append(f"{key} again {seen[key]}" if seen[key] else key)
        seen[key] += 1
    return names
