"""Preference pairs from rollouts: which samples are paired, and what is scored for them."""

from typing import Literal

import pytest
import torch

from fakes import ALL_WRONG, ASKED, RESPONSES, SEQUENCES, HandMade, initial_of, policy_of, sampler, spied
from winnow.algorithm import Preference
from winnow.experience.batching import Experience
from winnow.experience.metrics import Clock
from winnow.experience.preference import PreferenceExperience
from winnow.experience.scoring import Scorer
from winnow.ops import preference, select
from winnow.types import Pair


def experience(
    reference: Literal["initial", "previous"] = "initial", scorer: Scorer | None = None, asked=ASKED
) -> Experience:
    algorithm = Preference(select.extremes, preference.sigmoid, preference.reverse_kl, 0.1, 0.0, reference)
    return PreferenceExperience(HandMade(asked), scorer or spied().scorer, algorithm)(0, Clock())


def pairs_of(experience: Experience) -> list[Pair]:
    return [item for item in experience.items if isinstance(item, Pair)]


def test_chosen_is_the_better_and_rejected_the_worse_of_a_prompt():
    """In prompt 0 the better sample is the first, in prompt 2 the second; prompt 1 is a tie and makes no pair."""
    found = experience()
    places = [(SEQUENCES.index(p.chosen.token_ids), SEQUENCES.index(p.rejected.token_ids)) for p in pairs_of(found)]
    assert places == [(0, 1), (5, 4)]
    assert [p.rejected.token_ids[p.rejected.prompt_length :] for p in pairs_of(found)] == [RESPONSES[1], RESPONSES[4]]
    assert found.zero_gradient == [False, False]
    assert found.metrics["train/dpo/pairs"] == 2
    assert [record.kept for record in found.records] == [True, True, False, False, True, True]
    assert found.metrics["train/samples/kept_frac"] == pytest.approx(4 / 6)
    assert found.metrics["train/gradient_mass/effective_rows"] == 2
    assert found.metrics["train/gradient_mass/tokens_frac"] == pytest.approx((2 + 3 + 1 + 2) / 11)


@pytest.mark.parametrize(
    ("reference", "exact", "expected"),
    [
        ("initial", True, initial_of),
        ("initial", False, initial_of),
        ("previous", True, sampler),
        ("previous", False, policy_of),
    ],
)
def test_the_reference_is_the_initial_policy_or_the_one_that_sampled(reference, exact: bool, expected):
    found = experience(reference, spied(exact).scorer)
    for member in [side for p in pairs_of(found) for side in (p.chosen, p.rejected)]:
        torch.testing.assert_close(member.ref_logprobs, expected(SEQUENCES.index(member.token_ids)))
        assert member.advantage is None
        assert member.old_logprobs is None


def test_only_members_of_pairs_are_scored():
    kit = spied()
    experience("initial", kit.scorer)
    assert (kit.policy.rows, kit.initial.rows) == ([], [0, 1, 4, 5])
    kit = spied(exact=False)
    experience("previous", kit.scorer)
    assert (kit.policy.rows, kit.initial.rows) == ([0, 1, 4, 5], [])


def test_prompts_whose_samples_all_tie_make_no_pair():
    kit = spied()
    found = experience("initial", kit.scorer, asked=[ALL_WRONG])
    assert (found.items, found.zero_gradient) == ([], [])
    assert found.metrics["train/dpo/pairs"] == 0
    assert kit.initial.seen == []
