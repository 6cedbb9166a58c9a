"""Randomness as a function of names: the same names give the same numbers, in any order, on any machine."""

import hashlib
import random

import numpy as np


def seed_of(*names: str | int) -> int:
    """A 63-bit seed for `names`, e.g. `seed_of(cfg.seed, "sample", iteration, prompt.key, sample)`.

    blake2b rather than `hash()`: Python salts the hashes of strings in every process.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` float64 draws in [0, 1) from the counter-based Philox stream named `seed`."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def permutation(seed: int, count: int) -> list[int]:
    """A shuffled `range(count)`."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
