"""What ranks send each other is what arrives, and little more than its own bytes."""

import pickle

import pytest
import torch

from winnow import distributed
from winnow.types import Completion, Finish

TENSORS = {
    "matrix": torch.arange(12.0).view(3, 4),
    "transposed": torch.arange(6).view(2, 3).t(),
    "number": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.zeros(2, 0),
    "mask": torch.tensor([True, False]),
    "bfloat16": torch.arange(5).bfloat16(),
    "not finite": torch.tensor([float("inf"), float("-inf")]),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_arrive_as_they_are(name: str):
    sent = TENSORS[name]
    (arrived, again) = pickle.loads(distributed.packed((sent, {"again": [sent]})))
    for found in (arrived, again["again"][0]):
        assert found.dtype == sent.dtype
        assert found.shape == sent.shape
        assert torch.equal(found, sent)


def test_a_view_is_sent_without_what_it_is_a_view_of():
    everything = torch.zeros(100_000)
    assert len(distributed.packed(everything[:10])) < 200


def test_a_sampled_token_takes_a_dozen_bytes():
    """Its id, its log-probability and its entropy in float32, and a few hundred bytes for the response."""
    count = 1000
    completion = Completion(tuple(range(60_000, 60_000 + count)), torch.zeros(count), torch.zeros(count), Finish.EOS)
    assert len(distributed.packed(completion)) < 11 * count + 400


def test_other_tensors_are_sent_as_torch_does():
    parameter = torch.nn.Parameter(torch.ones(3))
    arrived = pickle.loads(distributed.packed(parameter))
    assert isinstance(arrived, torch.nn.Parameter)
    assert torch.equal(arrived, parameter)
