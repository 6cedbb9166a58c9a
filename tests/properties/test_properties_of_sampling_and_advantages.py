"""Drawing tokens and estimating advantages, for any logits and any rewards."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from winnow.engines.torch_engine import draw_tokens
from winnow.ops import advantage

UNIFORM = st.floats(0, 1, exclude_max=True)
LOGITS = st.lists(st.floats(-30, 30) | st.just(-torch.inf), min_size=2, max_size=200)


@given(logits=LOGITS, uniform=UNIFORM, sure=st.integers(0, 199))
def test_a_drawn_token_is_possible_and_its_log_probability_is_its_own(logits: list[float], uniform: float, sure: int):
    logits[sure % len(logits)] = 0.0  # at least one token is possible
    row = torch.tensor([logits], dtype=torch.float64)
    token, logprob, entropy = draw_tokens(row, torch.tensor([uniform], dtype=torch.float64))
    expected = row.log_softmax(-1)[0, token[0]]
    assert logits[int(token)] > -torch.inf
    assert torch.equal(logprob[0], expected)
    assert 0 <= float(entropy) + 1e-12 <= torch.tensor(float(len(logits))).log() + 1e-9


@given(weights=st.lists(st.integers(0, 5), min_size=2, max_size=130), uniform=UNIFORM)
def test_draws_invert_the_cumulative_distribution(weights: list[int], uniform: float):
    """Token k is drawn where the cumulative probability first exceeds the uniform number."""
    weights[0] += 1
    probabilities = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    token, _, _ = draw_tokens(probabilities.log()[None], torch.tensor([uniform], dtype=torch.float64))
    below = float(probabilities[: int(token)].sum())
    assert below - 1e-12 <= uniform <= below + float(probabilities[int(token)]) + 1e-12


@st.composite
def rewards(draw: st.DrawFn) -> Tensor:
    """(P, G) with G ≥ 2, of multiples of 1/8, which floating point adds and subtracts exactly."""
    prompts, samples = draw(st.integers(1, 5)), draw(st.integers(2, 8))
    size = prompts * samples
    eighths = draw(st.lists(st.integers(-16, 16), min_size=size, max_size=size))
    return torch.tensor(eighths, dtype=torch.float64).view(prompts, samples) / 8


@given(rewards=rewards(), shift=st.integers(-8, 8), order=st.randoms(use_true_random=False))
def test_group_advantages_ignore_the_level_of_rewards_and_follow_the_samples(rewards: Tensor, shift: int, order):
    found = advantage.group(rewards)
    assert torch.allclose(found, advantage.group(rewards + shift), atol=1e-9)
    places = list(range(rewards.shape[1]))
    order.shuffle(places)
    assert torch.allclose(found[:, places], advantage.group(rewards[:, places]), atol=1e-9)
    assert torch.allclose(found.sum(1), torch.zeros(len(rewards), dtype=torch.float64), atol=1e-6)


@given(rewards=rewards(), factor=st.integers(1, 64))
def test_dividing_by_the_standard_deviation_removes_the_scale_of_rewards(rewards: Tensor, factor: int):
    scaled = advantage.group(rewards * factor, eps=1e-12)
    assert torch.allclose(advantage.group(rewards, eps=1e-12), scaled, atol=1e-6)


@given(rewards=rewards())
def test_leave_one_out_is_the_mean_baseline_up_to_its_factor(rewards: Tensor):
    samples = rewards.shape[1]
    mean = advantage.group(rewards, centre="mean", scale="none")
    out = advantage.group(rewards, centre="leave_one_out", scale="none")
    assert torch.allclose(out, mean * samples / (samples - 1), atol=1e-9)


@given(level=st.floats(-3, 3), samples=st.integers(2, 9))
def test_a_prompt_whose_samples_tie_has_exactly_no_advantage(level: float, samples: int):
    assert not advantage.group(torch.full((1, samples), level)).any()
    assert not advantage.whitened(torch.full((2, samples), level)).any()
