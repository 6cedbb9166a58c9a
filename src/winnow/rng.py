"""Random numbers keyed by names: each draw is a function of seed, purpose, iteration, prompt and sample.

There is no global stream. The same key gives the same numbers in any order and on any machine, so that a checkpoint
needs no generator state, and two algorithms of one seed see the same prompts and, while their policies agree, the same
samples.
"""

import hashlib
import random

import numpy as np


def seed_of(*names: str | int) -> int:
    """A 63-bit seed for `names`, e.g. `seed_of(cfg.seed, "sample", iteration, prompt.key, sample)`.

    It is a blake2b hash, because Python's own `hash()` of strings is salted anew in every process.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` float64 draws in [0, 1) from the counter-based Philox generator with key `seed`."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def permutation(seed: int, count: int) -> list[int]:
    """`range(count)` in a random order that `seed` determines."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
