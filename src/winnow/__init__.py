"""Winnow: post-training language models with verifiable rewards, one axis at a time."""

from importlib import import_module
from typing import TYPE_CHECKING

from winnow._version import __version__

if TYPE_CHECKING:
    from winnow.library import Run, train

__all__ = ["Run", "__version__", "train"]


def __getattr__(name: str) -> object:
    """A name of `winnow.library`, which is imported when one is first used, because it brings Hydra and torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("winnow.library"), name)
