"""KL estimators against exact sums over a toy policy of three actions."""

import math

import pytest
import torch

from winnow.ops import kl

LOGITS = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def expectation_and_gradient(estimator) -> tuple[float, torch.Tensor]:
    """E_π[estimate], and E_π[∇ estimate] with the samples held fixed, which is the gradient of a loss term."""
    logits = LOGITS.clone().requires_grad_()
    logs = logits.log_softmax(0)
    probabilities = logs.exp().detach()
    estimate = estimator(logs - REFERENCE.log())
    (gradient,) = torch.autograd.grad((probabilities * estimate).sum(), logits)
    return float((probabilities * estimate.detach()).sum()), gradient


def true_gradient(forward: bool) -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    logs = logits.log_softmax(0)
    value = (REFERENCE * (REFERENCE.log() - logs)).sum() if forward else (logs.exp() * (logs - REFERENCE.log())).sum()
    return torch.autograd.grad(value, logits)[0]


def true_kl() -> float:
    logs = LOGITS.log_softmax(0)
    return float((logs.exp() * (logs - REFERENCE.log())).sum())


def test_k1_and_k3_are_unbiased():
    assert expectation_and_gradient(kl.k1)[0] == pytest.approx(true_kl(), abs=1e-12)
    assert expectation_and_gradient(kl.k3)[0] == pytest.approx(true_kl(), abs=1e-12)


def test_k2_is_half_the_mean_square():
    logs = LOGITS.log_softmax(0)
    expected = float((logs.exp() * (logs - REFERENCE.log()) ** 2 / 2).sum())
    assert expectation_and_gradient(kl.k2)[0] == pytest.approx(expected, abs=1e-12)


def test_as_a_loss_k1_has_no_gradient_k2_the_reverse_and_k3_the_forward_one():
    assert expectation_and_gradient(kl.k1)[1].abs().max() < 1e-12
    assert torch.allclose(expectation_and_gradient(kl.k2)[1], true_gradient(forward=False), atol=1e-12)
    assert torch.allclose(expectation_and_gradient(kl.k3)[1], true_gradient(forward=True), atol=1e-12)


def test_k3_is_never_negative():
    assert kl.k3(torch.linspace(-5, 5, 101)).min() >= 0


def test_k3_of_a_token_that_has_become_very_unlikely_pulls_it_back():
    """At log π/π_ref = −100 exp(100) overflows; the slope is that at −20, and the value goes on along it."""
    delta = torch.tensor([-100.0, -20.0, -1.0, 30.0], requires_grad=True)
    value = kl.k3(delta)
    (slope,) = torch.autograd.grad(value.sum(), delta)
    at_bound = math.exp(20) - 21
    assert value.tolist() == pytest.approx([at_bound + 80 * (math.exp(20) - 1), at_bound, math.e - 2, 29.0])
    assert slope.tolist() == pytest.approx([1 - math.exp(20), 1 - math.exp(20), 1 - math.e, 1.0])
    assert kl.k3(torch.tensor(math.nan)).isnan()
    assert not kl.k3(torch.tensor(-math.inf)).isfinite()
