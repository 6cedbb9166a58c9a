"""Small models and a quiet, single-threaded torch for every test."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from winnow.data.templates import Plain
from winnow.models.language_model import FreshTiny, LanguageModel

torch.set_num_threads(1)


@pytest.fixture
def small() -> LanguageModel:
    """Two layers of width 16 with random weights, in float64, over the embedded tokenizer."""
    source = FreshTiny("small", Plain(), 0, layers=2, width=16, heads=2, kv_heads=1, intermediate=32, positions=128)
    language_model = source.load()
    language_model.model.double()
    return language_model
