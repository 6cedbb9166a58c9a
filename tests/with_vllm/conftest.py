"""A model that has something to learn, and engines that live as long as the process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedModel
from wide_heads import typed

from winnow.engines.vllm_engine import VllmEngine


@pytest.fixture(scope="session", autouse=True)
def engines_stay() -> Iterator[None]:
    """With the first of its engines that is collected, vLLM ends the process groups of all others."""
    start, kept = VllmEngine._start, []

    def starting(self: VllmEngine, model: PreTrainedModel) -> object:
        kept.append(start(self, model))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VllmEngine, "_start", starting)
        yield


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that solves nine in ten samples of 64 sums, so that groups have both outcomes."""
    run = tmp_path_factory.mktemp("warm") / "run"
    done = typed(
        "train",
        "experiment=tiny_base",
        "model.heads=3",
        "model.kv_heads=1",
        "dataset.levels=[1]",
        "dataset.train_size=64",
        "dataset.flawless=64",
        "dataset.heldout_size=8",
        "rollout={prompts: 640, max_tokens: 24}",
        "update.minibatches=20",
        "iterations=10",
        "optim.warmup=1",
        "eval={every: 0, prompts: 8, samples: 1}",
        f"hydra.run.dir={run}",
    )
    assert done.returncode == 0, done.stderr
    return run / "export"
