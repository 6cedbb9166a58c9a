"""Scoring: which rows are forwarded under which policy, and the KL and mismatch metrics."""

from dataclasses import replace
from math import exp

import pytest
import torch

from fakes import RESPONSES, initial_of, policy_of, rollouts, sampler, spied
from winnow.errors import Diverged
from winnow.experience.left_out import Site

TOKENS = [t for response in RESPONSES for t in response]


def test_kl_ref_is_k3_of_the_policy_against_the_initial_one():
    """log π − log π_initial is δ = (t + 1)/10 at token t, and k3 is exp(−δ) − 1 + δ."""
    found = spied(exact=False, kl_rows=6).scorer(rollouts(), 0, (), (), None)
    deltas = [(t + 1) / 10 for t in TOKENS]
    by_hand = sum(exp(-d) - 1 + d for d in deltas) / 11
    the_other_way = sum(exp(d) - 1 - d for d in deltas) / 11
    assert found.metrics["train/kl_ref"] == pytest.approx(by_hand, rel=1e-6)
    assert by_hand != pytest.approx(the_other_way, rel=0.1)


def test_kl_ref_of_the_initial_policy_is_zero():
    scorer = spied(exact=False, kl_rows=6, step=0.2).scorer
    assert scorer(rollouts(), 0, (), (), None).metrics["train/kl_ref"] == 0


@pytest.mark.parametrize("token_budget", [1, 12, 1000])
@pytest.mark.parametrize("exact", [True, False])
def test_old_log_probabilities_are_the_samplers_if_exact_and_else_the_policys(exact: bool, token_budget: int):
    found = spied(exact, token_budget=token_budget).scorer(rollouts(), 0, [3, 0], [4, 1], "initial")
    assert sorted(found.old) == [0, 3]
    assert sorted(found.reference) == [1, 4]
    for i in found.old:
        torch.testing.assert_close(found.old[i], sampler(i) if exact else policy_of(i))
    for i in found.reference:
        torch.testing.assert_close(found.reference[i], initial_of(i))


@pytest.mark.parametrize("exact", [True, False])
def test_previous_is_the_policy_that_sampled(exact: bool):
    found = spied(exact).scorer(rollouts(), 0, (), [5, 2], "previous")
    for i in (2, 5):
        torch.testing.assert_close(found.reference[i], sampler(i) if exact else policy_of(i))


def logged(seed: int, iteration: int, old: tuple[int, ...] = (), kl_rows: int = 3) -> list[int]:
    kit = spied(kl_rows=kl_rows, seed=seed)
    kit.scorer(rollouts(), iteration, old, (), None)
    assert kit.policy.rows == kit.initial.rows
    return kit.policy.rows


def test_rows_for_the_metrics_are_a_function_of_seed_and_iteration():
    names = [(seed, iteration) for seed in (0, 1) for iteration in range(4)]
    drawn = [logged(*name) for name in names]
    assert [logged(*name, old=(0, 1, 2)) for name in names] == drawn
    assert [len(rows) for rows in drawn] == [3] * 8
    assert len({tuple(rows) for rows in drawn[:4]}) > 1
    assert drawn[:4] != drawn[4:]


def test_the_difference_between_sampler_and_policy():
    """The sampler has −t/10 and this policy −(t + 1)/5, which differ by (t + 2)/10: at most 1.0, for token 8."""
    found = spied(kl_rows=6, step=0.2).scorer(rollouts(), 0, (), (), None).metrics
    assert found["rollout/logp_diff/mean"] == pytest.approx(sum((t + 2) / 10 for t in TOKENS) / 11)
    assert found["rollout/logp_diff/max"] == pytest.approx(1.0)


def test_the_difference_is_measured_even_if_the_sampler_is_declared_exact():
    found = [spied(exact, kl_rows=6).scorer(rollouts(), 0, (), (), None).metrics for exact in (True, False)]
    for name in ("rollout/logp_diff/mean", "rollout/logp_diff/max", "rollout/mismatch_kl"):
        assert found[0][name] == found[1][name]
    assert found[0]["rollout/logp_diff/mean"] == pytest.approx(0.1)


def test_the_mismatch_is_k3_of_the_sampler_against_the_policy():
    """log μ − log π is 0.1 at every token."""
    found = spied(exact=False, kl_rows=6).scorer(rollouts(), 0, (), (), None).metrics
    assert found["rollout/mismatch_kl"] == pytest.approx(exp(-0.1) - 1 + 0.1, rel=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_a_sampler_too_far_from_the_policy_ends_the_run(exact: bool):
    """k3 of 0.1 is 0.00484."""
    spied(exact, kl_rows=6, max_mismatch_kl=0.005).scorer(rollouts(), 0, (), (), None)
    scorer = spied(exact, kl_rows=6, max_mismatch_kl=0.004).scorer
    with pytest.raises(
        Diverged, match=r"iteration 3: samples are 0\.0048 nats a token .* rollout\.max_mismatch_kl=0\.004"
    ):
        scorer(rollouts(), 2, (), (), None)


def test_rows_whose_log_probabilities_are_not_finite_are_faults_and_not_compared():
    found = spied(exact=False, kl_rows=6, step=float("nan"), max_mismatch_kl=1.0).scorer(rollouts(), 0, (), (), None)
    assert found.faults == dict.fromkeys(range(6), Site.OLD)
    assert "rollout/mismatch_kl" not in found.metrics


def test_the_samplers_log_probabilities_are_returned_too():
    found = spied(exact=False).scorer(rollouts(), 0, (), (), None)
    for i in range(6):
        torch.testing.assert_close(found.sampled[i], sampler(i))


def test_without_rows_to_score_nothing_is_forwarded_or_logged():
    kit = spied()
    found = kit.scorer(rollouts(), 0, [0, 1], (), None)
    assert found.metrics == {}
    assert (kit.policy.seen, kit.initial.seen) == ([], [])


def test_kl_rows_may_exceed_the_number_of_rows():
    assert logged(0, 0, kl_rows=100) == [0, 1, 2, 3, 4, 5]


def test_a_missing_initial_policy_is_an_error_only_if_it_is_needed():
    scorer = replace(spied().scorer, kept=None)
    assert sorted(scorer(rollouts(), 0, [0], [0], "previous").reference) == [0]
    with pytest.raises(RuntimeError, match="no reference policy was kept"):
        scorer(rollouts(), 0, (), [0], "initial")
