"""Samples that are drawn ahead: those of iteration i + k with the policy as it is before the updates of iteration i.

A sampler with devices of its own then draws while the updates of iteration i run (`rollout.staleness=k`); one that
computes with the trainer's model draws the same samples before them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch

from winnow import distributed
from winnow.engines.base import Engine, draws_beside
from winnow.errors import Stopped
from winnow.types import Completion, Finish, Prompt, Sampling

CompletionGroups = Sequence[Sequence[Completion]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The completions of an iteration's P prompts, the version of the policy that drew them, and figures of the
    sampler's distance from that policy."""

    completions: CompletionGroups
    version: int
    figures: Mapping[str, float]


PROBES, PROBE_TOKENS = 8, 16
"""Samples of a prompt, and tokens of each, on which a separate sampler is compared with the policy it draws with."""

Request = tuple[Sequence[Prompt], Sequence[Sequence[int]]]
"""The prompts of an iteration and the seeds of their samples."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Samples that are being drawn: of an iteration, with a version of the policy, on this rank."""

    iteration: int
    version: int
    prompts: Sequence[Prompt]
    figures: Mapping[str, float]
    finish: Callable[[], list[list[Completion]]]


@dataclass(eq=False)
class Ahead:
    """Drawing of samples `staleness` iterations ahead of their training.

    `request` gives the prompts and seeds of an iteration. `check` is called with the prompts and the first completions
    that a policy has drawn, while the policy is still the one that drew them, and gives figures of their distance.
    """

    engine: Engine
    staleness: int
    sampling: Sampling
    request: Callable[[int], Request]
    check: Callable[[Sequence[Prompt], CompletionGroups, int], Mapping[str, float]]
    _drawn: dict[int, Drawn] = field(default_factory=dict, init=False)
    _under_way: "_UnderWay | None" = field(default=None, init=False)

    def take(self, iteration: int) -> Drawn:
        """The samples to train on in `iteration`, after those of later iterations have been drawn, or begun.

        The engine has the policy before the updates of `iteration`. Ranks share the drawing, and all get all samples.
        """
        self.wait()
        # Those of `iteration` stay until the next one begins: a signal may make the run leave it, and resume it.
        self._drawn = {i: drawn for i, drawn in self._drawn.items() if i >= iteration}
        for later in range(iteration, iteration + self.staleness + 1):
            if later not in self._drawn:
                self._begin(later, iteration)
                if later == iteration:
                    self.wait()
        return self._drawn[iteration]

    def wait(self) -> None:
        """Wait for samples that are being drawn beside the updates, if any are. All ranks call this together."""
        if self._under_way is not None:
            job, self._under_way = self._under_way, None
            completions = distributed.gather_strided(job.finish(), len(job.prompts))
            self._drawn[job.iteration] = Drawn(completions, job.version, job.figures)

    def _begin(self, iteration: int, version: int) -> None:
        self.wait()
        prompts, seeds = self.request(iteration)
        if not draws_beside(self.engine):
            completions = self._draw(prompts, seeds, self.sampling)
            self._drawn[iteration] = Drawn(completions, version, self.check(prompts, completions, version))
            return
        # When these samples are there, the policy is another already: a few short ones are checked beforehand.
        few, few_seeds = prompts[: distributed.world_size()], [group[:PROBES] for group in seeds]
        short = replace(self.sampling, max_tokens=min(PROBE_TOKENS, self.sampling.max_tokens))
        figures = self.check(few, self._draw(few, few_seeds[: len(few)], short), version)
        own = distributed.strided_shard(prompts), distributed.strided_shard(seeds)
        self._under_way = _UnderWay(iteration, version, prompts, figures, self.engine.begin(*own, self.sampling))

    def _draw(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: Sampling) -> CompletionGroups:
        """Samples of all ranks, which share the drawing."""
        own = distributed.strided_shard(prompts), distributed.strided_shard(seeds)
        return distributed.gather_strided(self.engine.generate(*own, sampling), len(prompts))

    def state(self, iteration: int) -> dict[str, object]:
        """The samples that `iteration` and later ones train on, as a checkpoint before that iteration holds them.

        Samples that a signal has kept from being drawn beside an update are not among them: a resume draws them anew,
        with the policy that it begins with. All ranks call this together.
        """
        if self._under_way is not None:
            with suppress(Stopped):
                distributed.leave_together(self.wait)
        return {str(i): _as_plain(drawn) for i, drawn in self._drawn.items() if i >= iteration}

    def restore(self, state: Mapping[str, dict]) -> None:
        self._drawn = {int(iteration): _from_plain(drawn) for iteration, drawn in state.items()}


def _as_plain(drawn: Drawn) -> dict[str, object]:
    every = [completion for group in drawn.completions for completion in group]
    return {
        "version": drawn.version,
        "figures": dict(drawn.figures),
        "groups": [len(group) for group in drawn.completions],
        "lengths": [len(completion.token_ids) for completion in every],
        "token_ids": torch.tensor([i for completion in every for i in completion.token_ids]),
        "logprobs": torch.cat([completion.logprobs for completion in every]),
        "entropies": torch.cat([completion.entropies for completion in every]),
        "finish": [completion.finish.value for completion in every],
    }


def _from_plain(state: Mapping) -> Drawn:
    parts = [state[name].split(state["lengths"]) for name in ("token_ids", "logprobs", "entropies")]
    every = iter(
        Completion(tuple(ids.tolist()), logprobs.clone(), entropies.clone(), Finish(finish))
        for ids, logprobs, entropies, finish in zip(*parts, state["finish"], strict=True)
    )
    groups = tuple(tuple(next(every) for _ in range(size)) for size in state["groups"])
    return Drawn(groups, state["version"], state["figures"])
