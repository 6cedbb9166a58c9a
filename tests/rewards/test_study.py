"""Headline figures of docs/verifiers.md on the shared data: all labelled cases, and every eighth gold of each set."""

import os

import pytest

from benchmarks.answer_near_misses import NEAR_MISSES
from benchmarks.answer_rewrites import REWRITINGS
from benchmarks.verifier_study import FIRM, KINDS, RULES, SETS, UNREADABLE, agreement, rate, reason, rows_of, total
from winnow.rewards.verifier import Verifier

pytestmark = pytest.mark.skipif(
    "WINNOW_DATA" not in os.environ, reason="WINNOW_DATA is not set: no labelled cases and no evaluation sets to judge"
)


def test_agreement_with_labelled_cases() -> None:
    found = agreement()
    rows, agree = (
        sum(count for key, count in found[KINDS[0]][0].items() if key.endswith(end)) for end in (" rows", " agree")
    )
    assert rows == 380
    assert agree >= 379
    assert {row["gold"] for row, _ in found[KINDS[0]][1]} <= set(FIRM)
    assert not [row for row, _ in found[KINDS[0]][1] if not row["equivalent"]]
    for counts, _ in found.values():
        assert counts["timeout"] == counts["crash"] == 0


@pytest.mark.parametrize("name", SETS)
def test_every_gold_can_be_read_or_is_known_not_to_be(name: str) -> None:
    golds = [row["answer"] for row in rows_of(name)]
    with Verifier(rule=RULES[SETS[name]], workers=2) as pool:
        assert {golds[index] for index in pool.check_golds(golds)} <= set(UNREADABLE)


@pytest.mark.parametrize("name", SETS)
def test_golds_rewritten_and_missed_by_little(name: str) -> None:
    rule = RULES[SETS[name]]
    golds = [row["answer"] for row in rows_of(name)][::8]
    with Verifier(rule=rule, workers=2) as pool:
        same = total(rate(pool, golds, rewrite, True) for rewrite in REWRITINGS)
        other = total(rate(pool, golds, rewrite, False) for rewrite in NEAR_MISSES)
    assert same.rows > 5 * len(golds)
    assert other.rows > 5 * len(golds)
    assert same.accepted / same.rows >= 0.99
    assert [pair for *pair, _ in same.others + other.others if reason(rule, *pair) is None] == []
