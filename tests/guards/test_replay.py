"""Replay of a dump by hand-made models: the first number that is not finite is found, and where."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from learning import float64_policy, made_up_rows
from winnow.experience.left_out import Site, row_numbers
from winnow.guards.fault_file import Dump, Fault, FaultRow
from winnow.guards.replay import Replayable, Stage, replay
from winnow.models.policy import Policy
from winnow.objectives import PolicyObjective
from winnow.ops import clip, ratio
from winnow.types import MicroBatch, PairBatch

OBJECTIVE = PolicyObjective(ratio.token, clip.unclipped, None, 0.0)  # pyright: ignore[reportArgumentType]


def replayable(policy: Policy) -> Replayable:
    def loss(batch: MicroBatch | PairBatch) -> Tensor:
        assert isinstance(batch, MicroBatch)
        scores = policy(batch.rows)
        return OBJECTIVE(scores.logprobs, scores.entropies, batch.terms).value

    return Replayable(policy, lambda rows: [policy(rows).logprobs], loss)


def fault(tensors: Mapping[str, Tensor] | None = None, **numbers: Tensor) -> Fault:
    """Two rows of which the second has `numbers`."""
    rows = [FaultRow(row.token_ids, row.prompt_length, row_numbers(row)) for row in made_up_rows([1.0, -1.0])]
    rows[1] = FaultRow(rows[1].token_ids, rows[1].prompt_length, {**rows[1].numbers, **numbers})
    return Fault(Site.LOSS, 1, rows, denominator=2.0, tensors=tensors or {})


def first(found: Fault, policy: Policy | None = None) -> Stage | None:
    stages = replay(Dump(found, {}, {}, None), replayable(policy or float64_policy(packed=True)))
    return next((stage for stage in stages if stage.found), None)


def test_finite_numbers_reproduce_nothing():
    assert first(fault()) is None


def test_a_number_that_a_row_brings_is_found_at_its_token():
    row = made_up_rows([1.0, -1.0])[1]
    assert row.old_logprobs is not None
    spoilt = row.old_logprobs.clone()
    spoilt[-1] = math.nan
    stage = first(fault(old_logprobs=spoilt))
    assert stage is not None
    assert stage.name == "rows"
    assert stage.found is not None
    assert f"row 1, token {len(row.token_ids) - 1} (id {row.token_ids[-1]})" in stage.found


def test_a_weight_is_found_before_what_it_spoils():
    policy = float64_policy(packed=True)
    with torch.no_grad():
        policy.model.transformer.h[1].mlp.c_fc.weight[0, 0] = math.inf  # pyright: ignore
    stages = {stage.name: stage.found for stage in replay(Dump(fault(), {}, {}, None), replayable(policy))}
    assert "h.1.mlp.c_fc.weight: 1 of" in str(stages["weights"])
    assert "row 0: output of model.transformer.h.1.mlp.c_fc" in str(stages["forward"])


def test_an_overflow_in_a_layer_is_found_there():
    """Hidden states of about 1e307 are finite, and their variance in the next normalisation is not."""
    policy = float64_policy(packed=True)
    with torch.no_grad():
        policy.model.transformer.h[0].mlp.c_proj.weight.fill_(1e308)  # pyright: ignore
    stage = first(fault(), policy)
    assert stage is not None
    assert stage.name == "forward"
    assert "output of model.transformer.h.1.ln_1" in str(stage.found)


def test_a_gradient_that_overflows_is_found_where_its_loss_is_finite():
    row = made_up_rows([1.0, -1.0])[1]
    assert row.advantage is not None
    stage = first(fault(advantage=row.advantage * 1e200))
    assert stage is not None
    assert stage.name == "loss and gradient"


def test_what_was_only_recorded_is_told_apart():
    row = made_up_rows([1.0, -1.0])[1]
    numbers = torch.zeros(len(row.token_ids))
    numbers[-1] = math.nan
    stage = first(fault(logprobs=numbers))
    assert stage is not None
    assert not stage.recomputed
    stage = first(fault(tensors={"w": torch.tensor([math.nan])}))
    assert stage is not None
    assert not stage.recomputed
