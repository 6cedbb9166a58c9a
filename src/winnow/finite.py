"""Numbers that are not finite, found with one question to the device for many tensors."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def finite_rows(*matrices: Float[Tensor, "b ..."] | None) -> Bool[Tensor, " b"]:
    """Whether all numbers of each row are finite in all `matrices`; None stands for one that there is not."""
    found = [torch.isfinite(m).reshape(len(m), -1).all(1) for m in matrices if m is not None]
    return torch.stack(found).all(0)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number of all `tensors` is finite. The device is waited for once."""
    filled = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not filled:
        return True
    norms = torch._foreach_norm(filled)  # pyright: ignore[reportPrivateImportUsage]
    if bool(torch.isfinite(torch.stack([norm.to(filled[0].device).double() for norm in norms])).all()):
        return True
    # The squares of finite numbers may have overflowed.
    return all(bool(torch.isfinite(tensor).all()) for tensor in filled)


def nonfinite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the tensors with a NaN or an infinity."""
    return [name for name, tensor in tensors if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]
