"""Files that `torch.save` has written, read without running the code that a pickle may hold."""

import pickle
from pathlib import Path

import torch

from winnow.files import regular_file

DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)
"""Errors with which torch refuses a file that is damaged, or holds more than tensors, numbers and texts."""


def read_tensors(path: Path, mmap: bool = False) -> object:
    """The contents of the file on the CPU, with `mmap` mapped from the disk instead of copied.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is damaged, or holds more than tensors, numbers, texts and their containers.
    """
    try:
        return torch.load(regular_file(path), weights_only=True, map_location="cpu", mmap=mmap)
    except DAMAGED as error:
        raise ValueError(f"{path}: no file of tensors") from error
