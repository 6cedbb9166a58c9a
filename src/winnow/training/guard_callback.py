"""Lightning callback that runs the update check at its three moments of an iteration, and ends a run that fails it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytorch_lightning as pl
from torch import Tensor

from winnow import distributed
from winnow.errors import Diverged
from winnow.experience.left_out import Site
from winnow.experience.loader import Outcome
from winnow.experience.metrics import Clock
from winnow.guards.finding import Finding
from winnow.guards.non_finite import ROWS
from winnow.guards.update_check import UpdateCheck
from winnow.training.modules import IterationModule
from winnow.training.progress import IterationData
from winnow.types import Mean, MicroBatch, PairBatch


@dataclass(eq=False)
class GuardCallback(pl.Callback):
    """Callback around the updates of the iterations that `check` is due in.

    It comes before the bookkeeping, so that its time is not that of the updates. `collecting` is the precision context
    of a training step.
    """

    check: UpdateCheck
    clock: Clock
    collecting: Callable[[], AbstractContextManager]
    _due: bool = False
    _nonfinite: bool = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._due = self.check.is_due()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: MicroBatch | PairBatch, batch_idx: int
    ) -> None:
        if not self._due:
            return
        outcome, iteration = _outcome(trainer)
        # Their numbers are not those that the check would compute. A lost reward counts as a sample that was not drawn.
        if any(each.site is not Site.LOST for each in outcome.experience.left_out):
            return
        update, place = divmod(batch_idx, batch.terms.num_micro_batches // distributed.world_size())
        if place != 0 or update > 1:
            return
        with self.clock.of("check"), self.collecting():
            if update == 0:
                step = self._step_of(pl_module)
                found = self.check.before_first_update(iteration, outcome.experience, outcome.dealt[0], batch, step)
            else:
                found = self.check.before_second_update(outcome.experience, outcome.dealt[1], batch)
        self._end_on(found, iteration, f"update {update + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock.stop("update")  # which the bookkeeping has started
        if not self._due:
            return
        _, iteration = _outcome(trainer)
        with self.clock.of("check"), self.collecting():
            found = self.check.after_last_update(self._step_of(pl_module))
        self._end_on(found, iteration, "the last update")

    def _end_on(self, found: Finding | None, iteration: int, update: str) -> None:
        """End the run on all ranks if a check has failed on any of them.

        A training step with numbers that are not finite proves nothing: the update itself will meet and report them.

        Raises:
            Diverged: the line of the first finding.
        """
        found, self._nonfinite = None if self._nonfinite else found, False
        findings = [finding for finding in distributed.all_gather(found) if finding is not None]
        if findings:
            raise Diverged(
                f"iteration {iteration + 1}, {update}: the update check found an error. {findings[0]}; the run ends, "
                "because its updates would be wrong (docs/guards.md)"
            )

    def _step_of(
        self, pl_module: pl.LightningModule
    ) -> Callable[[MicroBatch | PairBatch], tuple[Tensor, Mapping[str, Mean]]]:
        """The module's training step, whose metrics are returned and not counted."""
        assert isinstance(pl_module, IterationModule)
        module = pl_module

        def step(batch: MicroBatch | PairBatch) -> tuple[Tensor, Mapping[str, Mean]]:
            with module.metrics_aside() as metrics:
                loss = module.training_step(batch, 0)
            assert isinstance(loss, Tensor)
            self._nonfinite = self._nonfinite or ROWS in metrics
            return loss, metrics

        return step


def _outcome(trainer: pl.Trainer) -> tuple[Outcome, int]:
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, IterationData)
    assert data.loader.outcome is not None
    return data.loader.outcome, data.loader.iteration
