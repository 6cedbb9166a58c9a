"""Lengths of responses: the distribution that decoding, its stragglers and the imbalance of ranks follow from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from winnow.errors import ConfigError
from winnow.plan.assumptions import Assumptions
from winnow.rng import seed_of
from winnow.run_logs.run_files import RunFiles, SampleRecord, read_samples

QUANTILES = 4096
NEWEST = 10
"""Number of iterations, the newest, whose lengths are read from a run."""


@dataclass(frozen=True)
class Lengths:
    """Equally likely lengths of a response in tokens, the mean length of a prompt, and where they come from.

    `longest_prompt` is None without a record. `correct` are recorded verdicts, (prompts, samples); None without one,
    or if prompts have other numbers of samples.
    """

    tokens: np.ndarray
    prompt: float
    source: str
    longest_prompt: int | None = None
    correct: np.ndarray | None = None

    @property
    def mean(self) -> float:
        return float(self.tokens.mean())

    @property
    def mean_square(self) -> float:
        return float((self.tokens.astype(float) ** 2).mean())

    def cut(self, most: int) -> "Lengths":
        """The same, cut at `most` tokens."""
        return Lengths(np.minimum(self.tokens, most), self.prompt, self.source, self.longest_prompt, self.correct)

    def drawn(self, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
        """Lengths drawn independently of each other."""
        return np.random.default_rng(seed_of("plan", seed)).choice(self.tokens, shape)


def assumed_lengths(max_tokens: int, stated: Assumptions) -> Lengths:
    """Log-normal lengths: exp(μ + σ z) at equally spaced probabilities, cut at `max_tokens`.

    μ = ln(mean) − σ² / 2, so that the mean before the cut is `response_share` · `max_tokens`.
    """
    mean, spread = stated["response_share"] * max_tokens, stated["response_spread"]
    z = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    tokens = np.exp(np.log(mean) - spread**2 / 2 + spread * z)
    return Lengths(
        np.clip(np.round(tokens), 1, max_tokens).astype(int),
        stated["prompt_tokens"],
        f"assumed: log-normal, mean {stated['response_share']:g} × {max_tokens:,}, σ {spread:g}, cut at {max_tokens:,}",
    )


def recorded_lengths(run: Path, stated: Assumptions) -> Lengths:
    """The lengths in the newest `samples/` of a run. Prompts are counted where their token ids are recorded.

    Raises:
        ConfigError: there are none.
    """
    found = RunFiles(run).sample_files() if run.is_dir() else {}
    newest = sorted(found)[-NEWEST:]
    records = [record for iteration in newest for record in read_samples(found[iteration])]
    tokens = [record.length for record in records]
    prompts = [len(record.prompt_ids) for record in records if record.prompt_ids is not None]
    if not tokens:
        raise ConfigError(f"--lengths {run}: no samples/*.jsonl with responses in it; type --lengths RUN_DIR")
    return Lengths(
        np.array(tokens),
        sum(prompts) / len(prompts) if prompts else stated["prompt_tokens"],
        f"recorded: {len(tokens):,} responses of {run}, iterations {newest[0]} to {newest[-1]}",
        max(prompts, default=None),
        _verdicts(records),
    )


def _verdicts(records: Sequence[SampleRecord]) -> np.ndarray | None:
    """(prompts, samples) verdicts; None if prompts have different numbers of samples."""
    groups: dict[tuple[int | None, str], list[bool]] = {}
    for record in records:
        groups.setdefault((record.iteration, record.prompt_key), []).append(record.correct)
    sizes = {len(group) for group in groups.values()}
    return np.array([*groups.values()]) if len(sizes) == 1 else None
