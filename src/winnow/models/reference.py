"""The policy as it was at the start, to measure a KL divergence from."""

import copy
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from winnow.models.policy import Policy, Scores
from winnow.packed import Packed

if TYPE_CHECKING:
    from peft import PeftModel


@runtime_checkable
class Reference(Protocol):
    """Scores under weights that never change; without gradients."""

    def __call__(self, rows: Packed) -> Scores: ...
    def to(self, device: torch.device) -> object: ...


class FrozenCopy:
    """A second copy of all weights."""

    def __init__(self, policy: Policy) -> None:
        self._policy = copy.deepcopy(policy).requires_grad_(False).eval()

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad():
            return self._policy(rows)

    def to(self, device: torch.device) -> None:
        """It is nobody's submodule, so nobody else moves it."""
        self._policy.to(device)


class AdaptersOff:
    """The policy itself without its adapters, which are all that training changes: no second copy."""

    def __init__(self, policy: Policy, adapter: "PeftModel") -> None:
        self._policy, self._adapter = policy, adapter

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad(), self._adapter.disable_adapter():
            return self._policy(rows)

    def to(self, device: torch.device) -> None:
        """Where the policy is, it is."""


def reference_of(policy: Policy, adapter: "PeftModel | None") -> Reference:
    """To be made before the first update."""
    return FrozenCopy(policy) if adapter is None else AdaptersOff(policy, adapter)
