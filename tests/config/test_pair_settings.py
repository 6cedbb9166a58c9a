"""Claims of the linter about preference pairs, each computed."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from winnow.algorithm import Preference
from winnow.config import notices, pair_settings
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.config.linting import Kind
from winnow.config.pair_settings import PairSetup
from winnow.objectives import Sync
from winnow.ops import preference, select

RULES = [preference.sigmoid, preference.robust, preference.hinge, preference.ipo, preference.exo, preference.sppo]
DIVERGENCES = [
    preference.reverse_kl,
    preference.forward_kl,
    preference.jensen_shannon,
    partial(preference.alpha, order=0.5),
    partial(preference.alpha, order=2.0),
]
PROVEN: set[str] = set()


def proves(*names: str) -> Callable:
    """Marks the test that proves the claims of these names."""
    PROVEN.update(names)
    return lambda test: test


def pairs(rule=preference.sigmoid, divergence=preference.reverse_kl, updates: int = 4, **changed) -> PairSetup:
    settings = {"beta": 0.1, "smoothing": 0.0, "reference": "initial"} | changed
    return PairSetup(Preference(select.extremes, rule, divergence, **settings), updates)


def slopes(about: PairSetup, chosen: float, rejected: float, lengths: tuple[int, int] = (1, 1)) -> tuple[float, float]:
    """The derivatives of a pair's loss with respect to the log-ratios of its responses."""
    ratios = [torch.tensor([of], dtype=torch.float64, requires_grad=True) for of in (chosen, rejected)]
    of_lengths = {f"{side}_lengths": torch.tensor([n]) for side, n in zip(("chosen", "rejected"), lengths, strict=True)}
    loss = about.algorithm.objective.losses(ratios[0], ratios[1], **of_lengths)
    first, second = torch.autograd.grad(loss.sum(), ratios)
    return float(first), float(second)


@proves("targets_are_out_of_reach")
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("beta", [0.1, 0.4, 0.6, 0.8, 2.0])
def test_sppo_has_no_end_where_a_score_cannot_reach_its_target(divergence, beta: float):
    """With an end, the derivative is 0 or has turned far out; without one it still has the sign of the beginning."""
    about = pairs(preference.sppo, divergence, beta=beta)
    still_up = slopes(about, 19.0, 0.0)[0] < 0
    still_down = slopes(about, 0.0, -19.0)[1] > 0
    said = pair_settings.targets_are_out_of_reach(about)
    assert (said is not None) == (still_up or still_down)
    if said is not None:
        assert ("chosen" in said) == still_up
    assert pair_settings.targets_are_out_of_reach(pairs(preference.ipo, divergence, beta=beta)) is None


def test_the_default_of_sppo_with_jensen_shannon_aims_at_five_and_reaches_log_2():
    said = pair_settings.targets_are_out_of_reach(pairs(preference.sppo, preference.jensen_shannon))
    assert said is not None
    assert "to 5" in said
    assert f"{math.log(2):.4g}" in said


def smoothing_of(rule) -> float:
    return 0.2 if rule in (preference.robust, preference.exo) else 0.0


@proves("divergence_has_no_effect_yet", "first_update_is_that_of_dpo")
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lengths", [(1, 1), (3, 7)])
def test_at_the_reference_every_loss_is_that_of_dpo_but_for_a_factor(rule, divergence, lengths: tuple[int, int]):
    own = {"reference": "previous", "smoothing": smoothing_of(rule), "beta": 0.3}
    about = pairs(rule, divergence, updates=1, **own)
    steep = 0.5 if divergence is preference.jensen_shannon else 1.0  # d/dx log(2eˣ/(eˣ + 1)) at 0
    divided = (1 / lengths[0], 1 / lengths[1]) if rule is preference.ipo else (1.0, 1.0)
    factor = {
        preference.sigmoid: 1.0,
        preference.robust: 1 / (1 - 2 * 0.2),
        preference.hinge: 2.0,
        preference.ipo: 2 / 0.3**2,
        preference.exo: math.log(0.8 / 0.2) / 2,
        preference.sppo: 2 / 0.3**2,
    }[rule] * steep
    dpo = slopes(pairs(beta=0.3), 0.0, 0.0)
    assert dpo == (-0.15, 0.15)
    found = slopes(about, 0.0, 0.0, lengths)
    assert found == pytest.approx([factor * of * by for of, by in zip(dpo, divided, strict=True)], abs=1e-12)

    nothing = pair_settings.divergence_has_no_effect_yet(about)
    assert (nothing is not None) == (divergence is not preference.reverse_kl and steep == 1)
    equal = pair_settings.first_update_is_that_of_dpo(about)
    assert (equal is not None) == (factor != 1)
    if equal is not None:
        assert f" {factor:.4g} times" in equal
        assert ("length" in equal) == (rule is preference.ipo)


@pytest.mark.parametrize(
    "changed",
    [
        {"updates": 2, "reference": "previous"},
        {"updates": 1},
        {"updates": 1, "reference": "synced", "sync": Sync(every=2)},
    ],
)
def test_away_from_the_reference_divergences_and_losses_differ(changed):
    about = pairs(preference.hinge, preference.jensen_shannon, **changed)
    assert slopes(about, 0.5, -0.5) != pytest.approx(slopes(pairs(preference.hinge), 0.5, -0.5), abs=1e-3)
    assert pair_settings.divergence_has_no_effect_yet(about) is None
    assert pair_settings.first_update_is_that_of_dpo(about) is None
    for steep in ({"beta": 1000.0}, {"divergence": partial(preference.alpha, order=1e7)}):
        once = pairs(preference.hinge, updates=1, **({"reference": "previous"} | steep))
        assert pair_settings.divergence_has_no_effect_yet(once) is None
        assert pair_settings.first_update_is_that_of_dpo(once) is None
    coarse = PairSetup(pairs(preference.hinge, updates=1, reference="previous").algorithm, 1, rounds_coarsely=True)
    assert pair_settings.first_update_is_that_of_dpo(coarse) is None


def test_a_share_of_wrong_labels_lessens_the_first_gradient_of_dpo():
    about = pairs(updates=1, reference="previous", smoothing=0.1)
    said = pair_settings.first_update_is_that_of_dpo(about)
    assert said is not None
    assert " 0.8 times" in said
    assert "algo.smoothing=0)" in said
    assert slopes(about, 0.0, 0.0)[0] == pytest.approx(0.8 * -0.05, abs=1e-12)


@proves("alpha_of_order_zero")
@pytest.mark.parametrize("order", [0.0, 0.5, 2.0])
def test_the_divergence_of_order_zero_is_the_forward_kl(order: float):
    at = torch.linspace(-30, 30, 121, dtype=torch.float64)
    assert torch.equal(preference.alpha(at, order), preference.forward_kl(at)) == (order == 0)
    about = pairs(divergence=partial(preference.alpha, order=order))
    assert (pair_settings.alpha_of_order_zero(about) is not None) == (order == 0)


def test_beside_a_divergence_of_a_plugin_nothing_is_called_equal():
    def half(log_ratio: Tensor) -> Tensor:
        return log_ratio / 2

    assert pairs().all_rules_are_known
    assert not pairs(divergence=half).all_rules_are_known


def test_a_run_is_told_of_its_pairs():
    cfg = composed("train", ["algo=dpo", "algo/preference=sppo", "algo/divergence=jensen_shannon"], ("algo",))
    [found] = notices.findings_of(cfg, build_algorithm(cfg))
    assert (found.kind, found.quiet) == (Kind.UNSTABLE, False)


def test_every_claim_is_proven():
    assert {rule.rule.__name__ for rule in pair_settings.RULES} == PROVEN
