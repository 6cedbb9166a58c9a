"""The cause that a mismatch is put down to, for each way in which a sampler can differ from the policy."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engines.models import tiny
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import Diverged
from winnow.experience.batching import TokenBudget
from winnow.experience.mismatch import Mismatch
from winnow.experience.scoring import Scorer
from winnow.models.policy import FrozenCopy, Policy
from winnow.types import Prompt, Rollouts, Sampling

ROWS, TOKENS, WORDS = 8, 20, 16
RANDOM = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(ROWS, TOKENS, WORDS, generator=RANDOM)
DRAWN = LOGITS.argsort(-1)[..., -3]


def responses(logits: Tensor) -> list[Tensor]:
    """The log-probability of each drawn token."""
    return list(logits.log_softmax(-1).gather(-1, DRAWN[..., None]).squeeze(-1))


def mismatch(sampled: list[Tensor], initial: Tensor | None = None, agreed: int | None = None) -> Mismatch:
    return Mismatch(
        sampled=sampled,
        scored=responses(LOGITS),
        starts=[3] * ROWS,
        temperature=1.0,
        at_temperature=lambda temperature: responses(LOGITS / temperature),
        initial=None if initial is None else responses(initial),
        agreed=agreed,
        limit=1e-5,
    )


def noise(size: float) -> Tensor:
    return size * torch.randn(LOGITS.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.3, 0.7, 0.99, 1.5, 8.0])
def test_another_temperature_is_found_by_scoring_at_it(temperature: float):
    said = mismatch(responses(LOGITS / temperature)).cause()
    assert f"the same at temperature {temperature:g}: the engine samples at it, not 1" in said


def test_after_updates_that_the_engine_missed_its_weights_are_old():
    before = LOGITS + noise(0.1)
    assert "the engine has old weights" in mismatch(responses(before), LOGITS + noise(1.0), agreed=4).cause()
    assert "they agreed in iteration 4" in mismatch(responses(before), agreed=4).cause()
    assert "not taken over any update" in mismatch(responses(before), before, agreed=1).cause()


def test_in_the_first_iteration_weights_cannot_be_old():
    assert "old weights" not in mismatch(responses(LOGITS + noise(0.1)), LOGITS, agreed=None).cause()


def test_a_sampler_of_the_likeliest_tokens_alone_finds_every_token_likelier():
    hidden = LOGITS.argsort(-1)[..., :-5]
    assert "top_k, top_p or min_p" in mismatch(responses(LOGITS.scatter(-1, hidden, -torch.inf))).cause()


def test_a_gap_that_grows_with_the_position_is_one_of_positions():
    growing = torch.linspace(0, 1, TOKENS)[:, None] ** 3
    said = mismatch(responses(LOGITS + growing * noise(0.5))).cause()
    assert "grows with the position" in said
    assert "rope_parameters" in said


def test_rows_that_differ_among_others_that_agree_are_counted():
    gap = noise(0.5)
    gap[3:] = 0
    assert "3 of 8 rows differ and the others agree" in mismatch(responses(LOGITS + gap)).cause()


def test_a_gap_everywhere_from_the_start_is_one_of_weights_attention_or_precision():
    said = mismatch(responses(LOGITS + noise(0.02))).cause()
    assert "in all rows and positions from the first iteration on" in said


def test_numbers_that_are_not_finite_are_called_so():
    sampled = responses(LOGITS)
    sampled[2][4] = torch.nan
    assert "not finite" in mismatch(sampled).cause()


def test_a_mismatch_within_rounding_of_another_temperature_is_not_put_down_to_it():
    """At 0.5 nats of noise no temperature explains the gaps, though one fits best."""
    assert "temperature" not in mismatch(responses(LOGITS / 0.9 + noise(0.5))).cause()


PROMPTS = [Prompt(str(n), tuple(range(1, 4 + n)), "", "") for n in range(4)]


def drawn(model: PreTrainedModel, temperature: float) -> Rollouts:
    engine = TorchEngine(eos_ids=(0,))
    engine.sync(model, 0)
    completions = engine.generate(PROMPTS, [[n, n + 10] for n in range(4)], Sampling(temperature, 12))
    zeros, none = torch.zeros(4, 2), ((),) * 4
    return Rollouts(tuple(PROMPTS), tuple(map(tuple, completions)), none, none, zeros, zeros.bool(), 0)


def test_the_scorer_names_the_cause():
    """A sampler at 0.7, one that has never taken over an update, and one whose weights are old but not the first."""
    model = tiny("llama")
    policy = Policy(model, 1.0)
    scorer = Scorer(policy, FrozenCopy(policy), True, TokenBudget(500, True), 8, 0, 1e-5)
    with pytest.raises(Diverged, match=r"iteration 1: .*temperature 0\.7: the engine samples at it, not 1"):
        scorer(drawn(model, 0.7), 0, (), (), None)
    assert policy.temperature == 1.0
    before = drawn(model, 1.0)
    scorer(before, 0, (), (), None)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.05)
    with pytest.raises(Diverged, match=r"iteration 2: .*has not taken over any update of the weights"):
        scorer(before, 1, (), (), None)
    with pytest.raises(Diverged, match=r"iteration 2: .*agreed in iteration 1, .* old weights"):
        replace(scorer, kept=FrozenCopy(policy))(before, 1, (), (), None)
