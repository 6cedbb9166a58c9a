"""Norms of gradients of single responses, against plain forwards, and what they leave alone."""

import pytest
import torch

from fakes import ASKED, HandMade
from winnow.errors import ConfigError
from winnow.experience.drawing import Weights
from winnow.experience.gradient_norms import ResponseGradients
from winnow.experience.scoring import sequences_of
from winnow.models.language_model import LanguageModel
from winnow.models.policy import Policy
from winnow.types import Row


def plain_norm(small: LanguageModel, row: Row, weights: Weights) -> float:
    """‖∇ Σ_t log π‖ by one forward of the model and the logarithm of its softmax."""
    logits = small.model(torch.tensor([row.token_ids])).logits[0, row.prompt_length - 1 : -1]
    targets = torch.tensor(row.token_ids[row.prompt_length :])
    total = logits.log_softmax(1)[torch.arange(len(targets)), targets].sum()
    every = list(small.model.parameters())
    chosen = [small.model.get_input_embeddings().weight] if weights == "embeddings" else every
    gradients = torch.autograd.grad(total, chosen)
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


@pytest.mark.parametrize("weights", ["embeddings", "all"])
def test_they_are_those_of_the_summed_log_probability(small: LanguageModel, weights: Weights):
    rollouts, policy = HandMade(ASKED).rollouts, Policy(small.model, 1.0)
    with torch.no_grad():
        found = ResponseGradients(policy)(rollouts, [0, 3, 5], weights)
    rows = [sequences_of(rollouts)[i] for i in (0, 3, 5)]
    assert found == pytest.approx([plain_norm(small, row, weights) for row in rows], rel=1e-4)
    assert all(parameter.grad is None for parameter in small.model.parameters())


def test_weights_without_a_gradient_are_refused(small: LanguageModel):
    small.model.get_input_embeddings().requires_grad_(False)
    try:
        with pytest.raises(ConfigError, match=r"collector.gradient=embeddings: .*; type collector.gradient=all"):
            ResponseGradients(Policy(small.model, 1.0))(HandMade(ASKED).rollouts, [0], "embeddings")
    finally:
        small.model.get_input_embeddings().requires_grad_(True)
