"""The chunked output layer against a plain log-softmax over all logits."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from winnow.models import logprobs
from winnow.models.logprobs import head_scores, logit_scores

# Two rows over a vocabulary of two.
LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
TARGETS = torch.tensor([1, 0])


def test_the_targets_log_probability():
    found, entropies = logit_scores(LOGITS, TARGETS, 1.0)
    assert found.tolist() == pytest.approx([math.log(0.75), math.log(0.8)])
    assert entropies is None


def test_temperature_divides_the_logits():
    # At T = 0.5 the odds square: 9 to 1 and 16 to 1.
    found, _ = logit_scores(LOGITS, TARGETS, 0.5)
    assert found.tolist() == pytest.approx([math.log(0.9), math.log(16 / 17)])


def test_entropy_of_a_fair_coin_is_log_two():
    _, entropies = logit_scores(torch.zeros(2, 2), TARGETS, 1.0, entropies=True)
    assert entropies is not None
    assert entropies.tolist() == pytest.approx([math.log(2)] * 2)


R, H, V = 23, 6, 37
CHUNK = 5
"""Rows of logits per chunk: five chunks, the last of three rows."""


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", CHUNK * V + V - 1)


def made(dtype: torch.dtype, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Hidden states, weight and bias, which require gradients, and targets."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight, shift = (torch.randn(shape, generator=draw, dtype=dtype) for shape in ((R, H), (V, H), (V,)))
    targets = torch.randint(V, (R,), generator=draw)
    leaves = [tensor.requires_grad_() for tensor in (hidden, weight, shift)]
    return leaves[0], leaves[1], leaves[2] if bias else None, targets


def full(hidden: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor | None]:
    return logit_scores(linear(hidden, weight, bias), *rest)


def outcome(
    scores: Callable[..., tuple[Tensor, Tensor | None]],
    dtype: torch.dtype,
    temperature: float,
    bias: bool,
    entropies: bool,
    autocast: bool = False,
) -> list[Tensor]:
    """Log-probabilities, entropies if requested, and the gradients of a weighted sum of both."""
    *leaves, targets = made(dtype, bias)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, entropy = scores(*leaves, targets, temperature, entropies)
    assert (entropy is not None) == entropies
    weights = torch.linspace(-1, 2, R, dtype=found.dtype)
    total = (weights * found).sum() + (0 if entropy is None else (weights.flip(0) * entropy).sum())
    gradients = torch.autograd.grad(total, [leaf for leaf in leaves if leaf is not None])
    return [found, *([] if entropy is None else [entropy]), *gradients]


@pytest.mark.parametrize("entropies", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.usefixtures("chunked")
def test_chunks_agree_with_all_logits_at_once(temperature: float, bias: bool, entropies: bool):
    settings = (torch.float64, temperature, bias, entropies)
    found, expected = outcome(head_scores, *settings), outcome(full, *settings)
    assert len(found) == len(expected) == 3 + bias + entropies
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("chunked")
def test_only_what_is_trained_gets_a_gradient():
    """With LoRA only the hidden states need one."""
    hidden, weight, _, targets = made(torch.float64, bias=False)
    frozen = weight.detach()
    found, _ = head_scores(hidden, frozen, None, targets, 1.0)
    expected, _ = full(hidden, frozen, None, targets, 1.0)
    [one], [other] = (torch.autograd.grad(scores.sum(), [hidden]) for scores in (found, expected))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    found, _ = head_scores(hidden.detach(), frozen, None, targets, 1.0)
    assert not found.requires_grad


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.usefixtures("chunked")
def test_under_autocast_products_are_bfloat16_and_what_follows_is_float32(temperature: float):
    """Values agree with autocast up to float32 rounding, gradients up to bfloat16 rounding, 2⁻⁸ of the largest."""
    settings = (torch.float32, temperature, True, True)
    found, expected = outcome(head_scores, *settings, autocast=True), outcome(full, *settings, autocast=True)
    plain = outcome(full, *settings)
    assert {tensor.dtype for tensor in found} == {torch.float32}
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert (found[0] - plain[0]).abs().max() > 1e-3
    for one, other in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=float(other.abs().max()) / 128)


def test_the_gradient_of_a_bfloat16_weight_is_rounded_once(monkeypatch: pytest.MonkeyPatch):
    """Summed over 64 chunks in bfloat16 it would be off by 0.9 % of its norm; rounded once it is off by 0.25 %."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1024, 32, generator=generator).bfloat16()
    weight = (torch.randn(128, 32, generator=generator) / 6).bfloat16().requires_grad_()
    targets = torch.randint(0, 128, (1024,), generator=generator)
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", 16 * 128)
    scores, _ = head_scores(hidden, weight, None, targets, 1.0)
    [found] = torch.autograd.grad(scores.sum(), [weight])
    exact = weight.detach().double().requires_grad_()
    scores, _ = full(hidden.double(), exact, None, targets, 1.0)
    [expected] = torch.autograd.grad(scores.sum(), [exact])
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).norm() < 4e-3 * expected.norm()


class Largest(TorchDispatchMode):
    """The largest number of elements in any tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return given


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("entropies", [False, True])
@pytest.mark.usefixtures("chunked")
def test_all_logits_never_exist(entropies: bool, autocast: bool):
    """In forward and backward the largest tensor is one chunk of logits, or the weight or its gradient."""
    settings = (torch.float32, 0.7, True, entropies, autocast)
    with Largest() as chunks:
        outcome(head_scores, *settings)
    with Largest() as whole:
        outcome(full, *settings)
    assert whole.elements == R * V
    assert chunks.elements == max(CHUNK, H) * V
