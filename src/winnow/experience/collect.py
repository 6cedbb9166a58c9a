"""Rollout collection: sample G responses to each of P prompts, and judge each while others are still being sampled."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from queue import SimpleQueue
from types import TracebackType

from transformers import PreTrainedModel

from winnow import distributed, signals
from winnow.data.prompts import PromptOrder
from winnow.engines.base import Engine, rest
from winnow.experience.ahead import Ahead, Drawn
from winnow.experience.collectors import CollectorRule, Fixed
from winnow.experience.drawing import Drawing, GradientNorms, Judged, Weights, distinct_names
from winnow.experience.metrics import Clock
from winnow.rewards.reward import JudgedGroup, Reward, Rewards
from winnow.rewards.verifier import Verifier
from winnow.rng import seed_of
from winnow.types import Completion, Prompt, Rollouts, Sampling
from winnow.verdict import Judgement

LOOK_SECONDS = 0.1
"""Time between two looks for a signal while the verifier is waited for."""


class AsyncJudging:
    """Judging of responses beside their sampling: completions are queued, and one thread hands them to the verifier.

    All completions that were queued during one call of the verifier go to it together in the next. The verifier's own
    processes do the work; the thread only waits for them. (p, g) is sample g of prompt p.
    """

    def __init__(self, pool: Verifier, decode: Callable[[tuple[int, ...]], str], prompts: Sequence[Prompt]) -> None:
        self._pool, self._decode, self._prompts = pool, decode, prompts
        self._texts: dict[tuple[int, int], str] = {}
        self._judgements: dict[tuple[int, int], Judgement] = {}
        self._queue: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._calls: deque[Future[None]] = deque()

    def on_completion(self, prompt: int, sample: int, completion: Completion) -> None:
        """Queue one completion; the callback that `Engine.generate` takes."""
        while self._calls and self._calls[0].done():
            self._calls.popleft().result()  # raises the verifier's error now, not after all sampling is done
        self._texts[prompt, sample] = self._decode(completion.token_ids)
        self._queue.put((prompt, sample))
        self._calls.append(self._thread.submit(self._judge_queued))

    def groups(self, completions: Sequence[Sequence[Completion]]) -> list[JudgedGroup]:
        """Wait for the judgements of all `completions`. Those that the engine did not report are judged now."""
        for p, group in enumerate(completions):
            for g, completion in enumerate(group):
                if (p, g) not in self._texts:
                    self.on_completion(p, g, completion)
        for call in self._calls:
            while not wait([call], LOOK_SECONDS).done:  # a handler that only notes a signal does not end a wait
                signals.check()
            call.result()
        return [
            JudgedGroup(
                tuple(group),
                tuple(self._texts[p, g] for g in range(len(group))),
                tuple(self._judgements[p, g] for g in range(len(group))),
            )
            for p, group in enumerate(completions)
        ]

    def _judge_queued(self) -> None:
        # This thread alone takes from the queue, so that at least as many are there as its size says.
        samples = [self._queue.get() for _ in range(self._queue.qsize())]
        if not samples:  # an earlier call has judged them
            return
        golds = [self._prompts[p].answer for p, _ in samples]
        judgements = self._pool.judge(golds, [self._texts[sample] for sample in samples])
        self._judgements |= dict(zip(samples, judgements, strict=True))

    def __enter__(self) -> "AsyncJudging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Judge:
    """A verifier for responses, and the reward of each judged response."""

    pool: Verifier
    reward: Reward
    decode: Callable[[tuple[int, ...]], str]

    @property
    def settings(self) -> Mapping[str, str | float | bool]:
        """The rule by which a response is a success: the verifier's name and settings, or those of the reward."""
        return self.reward.success or self.pool.settings

    def start_judging(self, prompts: Sequence[Prompt]) -> AsyncJudging:
        """Judging of samples of `prompts`, as a context whose end also ends its thread."""
        return AsyncJudging(self.pool, self.decode, prompts)


def sample_and_judge(
    engine: Engine,
    judge: Judge,
    prompts: Sequence[Prompt],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    clock: Clock,
) -> Judged:
    """Draw, judge and reward samples of `prompts`, `seeds[p][g]` deciding sample g of prompt p. Ranks share the work.

    Each response is judged only on the rank that drew it. Judging it on several ranks could give different verdicts,
    because a check may run into its time limit on one of them, and all ranks have to agree.
    """
    mine = distributed.strided_shard(prompts)
    with judge.start_judging(mine) as judging:
        with clock.of("generate"):
            completions = engine.generate(mine, distributed.strided_shard(seeds), sampling, judging.on_completion)
        with clock.of("reward"):
            return _rewarded(judge, judging, prompts, completions, seeds, engine.version)


def judge_drawn(
    judge: Judge, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], drawn: Drawn, clock: Clock
) -> Rollouts:
    """Judge and reward samples that were drawn before. Ranks share the work."""
    mine = distributed.strided_shard(prompts)
    with judge.start_judging(mine) as judging, clock.of("reward"):
        own = distributed.strided_shard(drawn.completions)
        rollouts = _rewarded(judge, judging, prompts, own, seeds, drawn.version).rollouts
    return replace(rollouts, sampler=drawn.figures)


def _rewarded(
    judge: Judge,
    judging: AsyncJudging,
    prompts: Sequence[Prompt],
    mine: Sequence[Sequence[Completion]],
    seeds: Sequence[Sequence[int]],
    version: int,
) -> Judged:
    """The samples of all ranks, of which this one has drawn `mine`, the completions of its prompts."""
    judged = judging.groups(mine)
    # Winnow's seeds have more bits than a function's own random generator may take.
    drawn = [tuple(seed % 2**31 for seed in group) for group in distributed.strided_shard(seeds)]
    groups = [replace(group, seeds=own) for group, own in zip(judged, drawn, strict=True)]
    rewards = judge.reward.rewards_of(distributed.strided_shard(prompts), groups, version)
    gathered = distributed.gather_strided(list(zip(groups, rewards.groups, strict=True)), len(prompts))
    logged = distributed.all_gather(rewards.logged) if judge.reward.names else [rewards.logged]
    every = {name: [value for of in logged for value in of.get(name, ())] for name in {*chain(*logged)}}
    return Judged(
        prompts,
        [group for group, _ in gathered],
        Rewards([rewarded for _, rewarded in gathered], every, rewards.weights),
        version,
    )


def without_norms(rollouts: Rollouts, rows: Sequence[int], weights: Weights) -> list[float]:
    """The norms of gradients where no policy was given that has any."""
    raise RuntimeError("this collector has no policy whose gradients it could take")


@dataclass(eq=False)
class Collector:
    """Collection of an iteration's rollouts: judged responses to prompts, drawn as `rule` says.

    `prompts` (P) and `samples` (G) are the numbers that the rule starts from.
    """

    model: PreTrainedModel
    engine: Engine
    order: PromptOrder
    judge: Judge
    sampling: Sampling
    prompts: int
    samples: int
    seed: int
    ahead: Ahead | None = None
    rule: CollectorRule = field(default_factory=Fixed)
    gradient_norms: GradientNorms = without_norms

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        """The rollouts of `iteration`, drawn with the model's current weights; the same on every rank.

        With `ahead` they were drawn with the weights of an earlier iteration, and later ones are drawn now.
        """
        rollouts = (
            self._drawn_now(iteration, clock) if self.ahead is None else self._ahead(self.ahead, iteration, clock)
        )
        rest(self.engine)
        oldest = iteration if self.ahead is None else max(0, iteration - self.ahead.staleness)
        if not oldest <= rollouts.policy_version <= iteration:
            raise RuntimeError(f"the engine sampled from policy {rollouts.policy_version}, not {oldest}")
        self.order.learn(iteration, rollouts)
        return rollouts

    def _drawn_now(self, iteration: int, clock: Clock) -> Rollouts:
        with clock.of("sync"):
            self.engine.sync(self.model, iteration)
        most = self.rule.most_prompts(self.prompts)
        return self.rule(
            Drawing(
                self.prompts,
                self.samples,
                lambda first, end: self.order.prompts_of(iteration, most, first, end),
                lambda prompts, seeds: sample_and_judge(self.engine, self.judge, prompts, seeds, self.sampling, clock),
                partial(self._norms, iteration, clock),
                self.seed,
                iteration,
            )
        )

    def _norms(
        self, iteration: int, clock: Clock, rollouts: Rollouts, rows: Sequence[int], weights: Weights
    ) -> list[float]:
        """Norms of gradients, for which the engine makes room."""
        rest(self.engine)
        with clock.of("score"):
            norms = self.gradient_norms(rollouts, rows, weights)
        with clock.of("sync"):
            self.engine.sync(self.model, iteration)
        return norms

    def _ahead(self, ahead: Ahead, iteration: int, clock: Clock) -> Rollouts:
        prompts, seeds = self.request(iteration)
        distributed.require_equal([prompt.key for prompt in prompts], f"the prompts of iteration {iteration + 1}")
        with clock.of("generate"):
            ahead.wait()
        with clock.of("sync"):
            self.engine.sync(self.model, iteration)
        with clock.of("generate"):
            drawn = ahead.take(iteration)
        return judge_drawn(self.judge, prompts, seeds, drawn, clock)

    def request(self, iteration: int) -> tuple[Sequence[Prompt], Sequence[Sequence[int]]]:
        """The prompts of an iteration, and the seeds of their samples."""
        prompts = self.order.prompts_of(iteration, self.prompts)
        names = distinct_names([prompt.key for prompt in prompts])
        return prompts, [
            [seed_of(self.seed, "sample", iteration, name, g) for g in range(self.samples)] for name in names
        ]
