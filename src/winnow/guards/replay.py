"""Replay of a dump: the numbers of a fault are computed again, to the first that is not finite."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from winnow.experience.batching import collate, collate_pairs
from winnow.experience.left_out import SITE_OF_FIELD, Site
from winnow.finite import nonfinite_names
from winnow.guards.fault_file import Dump, Fault, FaultRow
from winnow.packed import Packed, pack
from winnow.types import MicroBatch, Pair, PairBatch, Row

GIVEN = {
    "sampler_logprobs": Site.SAMPLED,
    "sampler_entropies": Site.SAMPLED_ENTROPY,
    "reward": Site.REWARD,
    **SITE_OF_FIELD,
}
"""The numbers that rows bring to an update, in the order in which an iteration computes them."""
COMPUTED = {
    "logprobs": Site.LOGPROB,
    "entropies": Site.ENTROPY,
    "new_values": Site.VALUE,
    "loss": Site.LOSS,
}
"""The numbers that an update computes of its rows, in their order."""


@dataclass(frozen=True, slots=True)
class Replayable:
    """A model with the weights of a dump, as the functions that its run trains it with.

    `forward` computes all that the algorithm's models make of packed rows; `loss` is that of a micro-batch, summed.
    """

    module: nn.Module
    forward: Callable[[Packed], Sequence[Tensor]]
    loss: Callable[[MicroBatch | PairBatch], Tensor]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the computation with the first number in it that is not finite, None if all are.

    Stages that are not `recomputed` were only read from the dump.
    """

    name: str
    found: str | None
    recomputed: bool


def replay(dump: Dump, model: Replayable) -> list[Stage]:
    """The stages of the fault in the order in which a run computes them, up to the gradient."""
    fault = dump.fault
    return [
        Stage("weights", _in_tensors(dict(model.module.named_parameters())), recomputed=True),
        Stage("rows", _in_rows(fault.rows, GIVEN), recomputed=True),
        Stage("forward", _in_forward(fault.rows, model), recomputed=True),
        Stage("loss and gradient", _in_loss(fault, model), recomputed=True),
        Stage("recorded numbers", _recorded(fault), recomputed=False),
    ]


def _in_tensors(tensors: Mapping[str, Tensor]) -> str | None:
    names = nonfinite_names(tensors.items())
    return f"{names[0]}: {_count(tensors[names[0]])}" if names else None


def _count(tensor: Tensor) -> str:
    bad = ~torch.isfinite(tensor.detach())
    first = tensor.detach()[bad][0] if tensor.dim() else tensor.detach()
    return f"{int(bad.sum())} of {tensor.numel()} numbers, the first {float(first)}"


def _in_rows(rows: Sequence[FaultRow], names: Mapping[str, Site]) -> str | None:
    """The first number, in the order of `names`, that is not finite in a row."""
    for name, site in names.items():
        for i, row in enumerate(rows):
            if name in row.numbers and not bool(torch.isfinite(row.numbers[name]).all()):
                return f"{site} of row {i}{_at_token(row.numbers[name], row)}"
    return None


def _at_token(numbers: Tensor, row: FaultRow) -> str:
    if not numbers.dim():
        return f": {float(numbers)}"
    place = int((~torch.isfinite(numbers)).nonzero()[0])
    return f", token {place} (id {row.token_ids[place]}): {float(numbers[place])}"


def _in_forward(rows: Sequence[FaultRow], model: Replayable) -> str | None:
    """The first layer whose output is not finite, over the rows one by one."""
    for i, row in enumerate(rows):
        found: list[str] = []
        with torch.no_grad(), _watched(model.module, found):
            outputs = model.forward(pack([_row_of(row)]))
        if not found and not all(bool(torch.isfinite(output).all()) for output in outputs):
            found.append("the log-probabilities of finite hidden states")
        if found:
            return f"row {i}: {found[0]}"
    return None


@contextmanager
def _watched(module: nn.Module, found: list[str]) -> Iterator[None]:
    """Note in `found` the layers whose outputs are not finite, in the order in which they are computed."""

    def hook_of(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(layer: nn.Module, given: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                damaged = _in_tensors(dict(layer.named_parameters()))
                found.append(f"output of {name}: {_count(tensor)}" + (f" (its {damaged})" if damaged else ""))

        return note

    layers = [(name, layer) for name, layer in module.named_modules() if name and not [*layer.children()]]
    handles = [layer.register_forward_hook(hook_of(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_loss(fault: Fault, model: Replayable) -> str | None:
    """The loss or the gradient of the rows of an update; rows that had not reached one have none."""
    if fault.denominator is None or not fault.rows:
        return None
    model.module.zero_grad()
    for name, batch in _batches(fault):
        value = model.loss(batch)
        if not bool(torch.isfinite(value)):
            return f"loss of {name}: {value.item()}"
        value.backward()
    gradients = {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}
    if (found := _in_tensors(gradients)) is not None:
        return f"gradient of {found}"
    norm = nn.utils.get_total_norm([*gradients.values()])
    return None if bool(torch.isfinite(norm)) else f"norm of finite gradients: {norm.item()}"


def _batches(fault: Fault) -> Iterator[tuple[str, MicroBatch | PairBatch]]:
    """Each row or pair of an update as a micro-batch of its own."""
    assert fault.denominator is not None
    step = 2 if fault.paired else 1
    for i in range(0, len(fault.rows), step):
        weight = fault.rows[i].numbers.get("weight", torch.tensor(1.0)).reshape(1)
        rows = [_row_of(row) for row in fault.rows[i : i + step]]
        if fault.paired:
            yield f"pair {i // 2}", collate_pairs([Pair(rows[0], rows[1])], weight, fault.denominator, 1)
        else:
            yield f"row {i}", collate(rows, weight, fault.denominator, 1)


def _row_of(row: FaultRow) -> Row:
    known = {f.name for f in fields(Row)} & row.numbers.keys()
    return Row(row.token_ids, row.prompt_length, **{name: row.numbers[name] for name in known})


def _recorded(fault: Fault) -> str | None:
    """The first number that is not finite among those that the run computed, as the dump holds them."""
    found = _in_rows(fault.rows, COMPUTED)
    return found if found is not None else _in_tensors(fault.tensors)
