"""Guard against numbers that are not finite: it leaves out their rows, skips their updates, counts and dumps them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from winnow import distributed
from winnow.errors import Diverged
from winnow.experience.left_out import LeftOut, Site, row_numbers, site_in
from winnow.experience.loader import ExperienceLoader, Outcome
from winnow.finite import all_finite, nonfinite_names
from winnow.guards.fault_file import Fault, FaultFiles, FaultRow
from winnow.guards.settings import NonFiniteSettings
from winnow.rewards.reward import kind_of_loss
from winnow.types import Mean, MicroBatch, PairBatch, Row

ONE_EVENT = Mean(1, 0)
"""One event of a metric that is a count: it is summed and never divided."""
ROWS, SKIPPED = "train/nonfinite/rows", "train/updates_skipped_nonfinite"
Outputs = Mapping[str, Tensor]
"""Numbers of a forward and its loss by name: (B, S) matrices, or (B,) vectors; of pairs first all chosen rows."""


class NonFiniteGuard(pl.Callback):
    """Guard that a module of training asks before each step, and callback that looks at each iteration's experience.

    All ranks decide alike: what one of them finds is summed over all before a step. `in_a_row` counts the updates up to
    now with a number that is not finite; rows that are left out before any update count as one update, or as all of
    the iteration's if no row is left. Without `files`, nothing is dumped.
    """

    def __init__(
        self,
        settings: NonFiniteSettings,
        files: FaultFiles | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.files, self.say = settings, files, say
        self.in_a_row = 0
        self.iteration = 0
        self._means: dict[str, Mean] = {}
        self._said: set[Site | str] = set()
        self._outcome: Outcome | None = None
        self._faulty_experience = False
        self._batches: list[MicroBatch | PairBatch] = []
        self._rows, self._removed = 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self._look_at_experience(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the experience of an iteration without updates, and at the weights before they are used or saved."""
        self._look_at_experience(trainer, pl_module)
        optimizer = trainer.optimizers[0]
        self._end_if_state_is_bad(
            pl_module, optimizer, distributed.summed([not self._is_finite_state(pl_module, optimizer)])
        )

    def _look_at_experience(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """Report the rows that the present iteration's experience leaves out, once."""
        loader = trainer.train_dataloader
        if not isinstance(loader, ExperienceLoader) or loader.outcome is None or loader.outcome is self._outcome:
            return
        self._outcome, self.iteration = loader.outcome, loader.iteration + 1
        experience = loader.outcome.experience
        found = [each for each in experience.left_out if each.site is not Site.LOST]
        lost = [each.reason for each in experience.left_out if each.site is Site.LOST]
        for reason in dict.fromkeys(lost) if distributed.rank() == 0 else ():
            self._say_lost(reason, lost.count(reason))
        # Lost rewards are no divergence, as long as there are other rows to learn from.
        self._faulty_experience = bool(found) or (bool(lost) and not experience.items)
        if not self._faulty_experience:
            return
        if found and distributed.rank() == 0:  # all ranks hold the same experience
            self._note(ROWS, Mean(len(found), 0))
            self._report(found[0].site, len(found), _fault_of_experience(self.iteration, found), module)
        why = "had numbers that are not finite" if found else f"had no row with a reward ({lost[0]})"
        self._count(1 if experience.items else max(loader.outcome.skipped, 1), why)

    def _say_lost(self, reason: str, rows: int) -> None:
        """Name a reward function that lost rows, once for each kind of its errors."""
        kind = kind_of_loss(reason)
        if kind not in self._said:
            self._said.add(kind)
            self.say(
                f"iteration {self.iteration}: {rows} row{'s' if rows > 1 else ''} without a reward left out: {reason}"
            )

    def begin(self, batch: MicroBatch | PairBatch) -> None:
        """Remember a micro-batch of the present optimiser batch, which a dump of its gradient would hold."""
        self._batches.append(batch)

    def leave_out(
        self, batch: MicroBatch | PairBatch, healthy: Bool[Tensor, " b"], outputs: Outputs, module: nn.Module
    ) -> None:
        """Report the items of `batch` that are not `healthy`, and take their part out of the update's denominator."""
        terms = batch.terms
        bad = (~healthy).nonzero().flatten().tolist()
        counted = [i for i in bad if terms.row_weight[i] > 0]  # the others only fill a micro-batch
        parts = torch.ones_like(terms.row_weight) if terms.counts is None else terms.counts
        self._removed += float(parts[bad].sum())
        if not counted:
            return
        self._rows += len(counted)
        self._note(ROWS, Mean(len(counted), 0))
        fault = _fault_of_update(self.iteration, batch, counted, outputs, module)
        self._report(fault.site, len(counted), fault, module)

    def before_step(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Let the gradients be those of an update without the rows that were left out, and check weights and moments.

        Raises:
            Diverged: a weight or a moment is not finite, so that no update can follow.
        """
        bad_state = not self._is_finite_state(module, optimizer)
        self._removed, rows, bad = distributed.summed([self._removed, self._rows, bad_state])
        self._rows = int(rows)
        self._end_if_state_is_bad(module, optimizer, [bad])
        whole = self._batches[0].terms.denominator if self._batches else 0.0
        if 0 < self._removed < whole:
            for gradient in [p.grad for p in _parameters(optimizer) if p.grad is not None]:
                gradient.mul_(whole / (whole - self._removed))

    def end_step(self, module: nn.Module, norms: Sequence[Tensor], finite: bool) -> None:
        """Count the update whose gradient norms, one for each parameter group, are `norms`.

        Raises:
            Diverged: it is the last of too many in a row with a number that is not finite.
        """
        faulty = self._rows > 0 or not finite
        if not finite:
            self._report(Site.GRADIENT, 0, _fault_of_gradient(self.iteration, self._batches, module), module)
        if faulty and not (finite and any(bool(norm != 0) for norm in norms)) and distributed.rank() == 0:
            self._note(SKIPPED, ONE_EVENT)
        self._batches, self._rows, self._removed = [], 0, 0.0
        if faulty:
            self._count(1)
        elif not self._faulty_experience:
            self.in_a_row = 0

    def take(self) -> dict[str, Mean]:
        """The counts since the last call, of this rank."""
        taken, self._means = self._means, {}
        return taken

    def _count(self, updates: int, why: str = "had numbers that are not finite") -> None:
        self.in_a_row += updates
        if self.in_a_row >= self.settings.max_consecutive:
            training = (
                ""
                if "reward" in why
                else (". If they come from training, lower optim.lr or turn clipping on (algo/clip=ppo)")
            )
            raise Diverged(f"{self.in_a_row} updates in a row {why}; {self._where()}{training}")

    def _is_finite_state(self, module: nn.Module, optimizer: Optimizer) -> bool:
        return all_finite([tensor for _, tensor in _state(module, optimizer)])

    def _end_if_state_is_bad(self, module: nn.Module, optimizer: Optimizer, flags: Sequence[float]) -> None:
        if not any(flags):
            return
        names = nonfinite_names(_state(module, optimizer))
        first = names[0] if names else "a number of another rank"
        site = Site.MOMENT if names and names[0].startswith("moment ") else Site.WEIGHT
        tensors = {name: tensor for name, tensor in _state(module, optimizer) if name in names}
        rows = _fault_of_gradient(self.iteration, self._batches, module).rows
        self._report(site, 0, Fault(site, self.iteration, rows, tensors=tensors), module)
        raise Diverged(f"{first} is not finite, so that no update can follow; {self._where()}")

    def _report(self, site: Site, rows: int, fault: Fault, module: nn.Module) -> None:
        path = self.files.write(fault, module) if self.files else None
        if site in self._said:
            return
        self._said.add(site)
        kind = "pair" if fault.paired else "row"
        what = f"{rows} {kind}{'s' if rows > 1 else ''} left out" if rows else "no update"
        kept = f"; to look into it, type winnow replay {path}" if path else ""
        self.say(f"iteration {self.iteration}: {site} not finite, {what}{kept}")

    def _where(self) -> str:
        """Where to go on from: `the last checkpoint is checkpoints/iteration_000010`."""
        folder = self.files.last_checkpoint() if self.files else None
        return "no checkpoint was written before" if folder is None else f"the last checkpoint is {folder}"

    def _note(self, name: str, mean: Mean) -> None:
        self._means[name] = self._means.get(name, Mean(0, 0)) + mean


def _parameters(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    return chain.from_iterable(group["params"] for group in optimizer.param_groups)


def _state(module: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The trained weights and the optimiser's moments of them, by name; of sharded ones this rank's part."""
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    yield from ((f"weight {name}", distributed.local(p)) for name, p in trained)
    for name, p in trained:
        for key, value in optimizer.state.get(p, {}).items():
            if key != "step":  # a count, which is on the CPU
                yield f"moment {key} of {name}", distributed.local(value)


def _fault_of_experience(iteration: int, found: Sequence[LeftOut]) -> Fault:
    rows = [FaultRow.of(each.row, each.numbers) for each in found]
    return Fault(min((each.site for each in found), key=list(Site).index), iteration, rows)


def _fault_of_update(
    iteration: int, batch: MicroBatch | PairBatch, items: Sequence[int], outputs: Outputs, module: nn.Module
) -> Fault:
    rows = [(row, _numbers_of(batch, i, side, outputs)) for i in items for side, row in enumerate(batch.items[i].rows)]
    site = _site_of(rows, module)
    dumped = [FaultRow.of(row, {**row_numbers(row), **numbers}) for row, numbers in rows]
    return Fault(site, iteration, dumped, isinstance(batch, PairBatch), batch.terms.denominator)


def _site_of(rows: Sequence[tuple[Row, Mapping[str, Tensor]]], module: nn.Module) -> Site:
    """The first kind of number that is not finite: a weight, what the rows came with, what was computed of them."""
    if not all_finite([distributed.local(p) for p in module.parameters()]):
        return Site.WEIGHT
    given = [site for row, _ in rows if (site := site_in(row)) is not None]
    if given:
        return min(given, key=list(Site).index)
    for name, site in {"logprobs": Site.LOGPROB, "entropies": Site.ENTROPY, "new_values": Site.VALUE}.items():
        if not all_finite([numbers[name] for _, numbers in rows if name in numbers]):
            return site
    return Site.LOSS


def _fault_of_gradient(iteration: int, batches: Sequence[MicroBatch | PairBatch], module: nn.Module) -> Fault:
    """The rows of an optimiser batch, and its gradients that are not finite."""
    rows = [
        FaultRow.of(row, {**row_numbers(row), **_numbers_of(batch, i, side, {})})
        for batch in batches
        for i, item in enumerate(batch.items)
        for side, row in enumerate(item.rows)
    ]
    gradients = [(name, distributed.local(p.grad)) for name, p in module.named_parameters() if p.grad is not None]
    names = nonfinite_names(gradients)
    return Fault(
        Site.GRADIENT,
        iteration,
        rows,
        any(isinstance(batch, PairBatch) for batch in batches),
        batches[0].terms.denominator if batches else None,
        {name: gradient for name, gradient in gradients if name in names},
    )


def _numbers_of(batch: MicroBatch | PairBatch, item: int, side: int, outputs: Outputs) -> dict[str, Tensor]:
    """The weight of an item and what was computed of it, cut to the length of its row."""
    terms, row = batch.terms, batch.items[item].rows[side]
    pairs = len(batch.items)

    def cut(values: Float[Tensor, "b ..."]) -> Tensor:
        found = values[item + side * pairs if len(values) > pairs else item]
        return found[: len(row.token_ids)] if found.dim() else found

    return {"weight": terms.row_weight[item], **{name: cut(values) for name, values in outputs.items()}}
