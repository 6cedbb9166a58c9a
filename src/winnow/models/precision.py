"""Precision of a run's arithmetic: its types of numbers, and the modules of a model that leave float64."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from winnow.models.backbone import logits
from winnow.models.probe import probe_rows
from winnow.packed import pack

Precision = Literal["32-true", "64-true", "bf16-mixed"]
"""The precisions of `hardware.precision`, in Lightning's words."""
WEIGHTS: dict[Precision, torch.dtype] = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-mixed": torch.float32,
}
"""Type of weights, gradients and AdamW's moments, and of log-probabilities and advantages."""
PRODUCTS: dict[Precision, torch.dtype] = {**WEIGHTS, "bf16-mixed": torch.bfloat16}
"""Type of matrix products, activations and the key-value cache."""


def arithmetic(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager]:
    """The context of a forward outside of training: autocast in bfloat16, float64 for new tensors under `64-true`."""
    if precision == "bf16-mixed":
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext if precision == "32-true" else new_tensors_in_float64


@contextmanager
def new_tensors_in_float64() -> Iterator[None]:
    """Context in which torch makes tensors of floating-point numbers in float64 unless it is told otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def modules_below_float64(model: PreTrainedModel) -> list[str]:
    """The classes of modules of a float64 `model` some of whose operations give less than float64, in order of name.

    It runs the forward of the updates over `probe.probe_rows` and watches each operation, because such a module often
    converts its result back: transformers' RMSNorm takes float64 and returns it, and computes in float32 in between.
    """
    watch = _Narrowing(model)
    with new_tensors_in_float64(), torch.no_grad(), watch:
        logits(model, pack(probe_rows(model)).to(model.device))
    watch.end()
    return sorted(watch.found)


class _Narrowing(TorchDispatchMode):
    """Context that notes the class of the innermost module whenever an operation gives floats of less than 64 bits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._running: list[nn.Module] = []
        self._hooks = [
            hook
            for module in model.modules()
            for hook in (
                module.register_forward_pre_hook(lambda module, _given: self._running.append(module)),
                module.register_forward_hook(lambda _module, _given, _output: self._left()),
            )
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if any(_is_narrow(leaf) for leaf in tree_leaves(output)) and self._running:
            self.found.add(type(self._running[-1]).__name__)
        return output

    def end(self) -> None:
        """Take the hooks off the model's modules."""
        for hook in self._hooks:
            hook.remove()

    def _left(self) -> None:
        self._running.pop()


def _is_narrow(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype.itemsize < torch.float64.itemsize
