"""Winnow: post-training language models with verifiable rewards, one axis at a time."""

__version__ = "0.1.0"
