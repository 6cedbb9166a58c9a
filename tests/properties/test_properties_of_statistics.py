"""Holm's adjustment and the placement of labels, for any p-values and any heights."""

from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from winnow.study.report.panels import spread_labels
from winnow.study.statistics import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p=P_VALUES)
def test_holm_keeps_the_order_and_multiplies_the_smallest_by_their_number(p: list[float]):
    adjusted = holm(p)
    assert all(raw <= found <= 1 for raw, found in zip(p, adjusted, strict=True))
    by_p = [found for _, found in sorted(zip(p, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    assert min(adjusted) == min(1, len(p) * min(p))


@given(p=P_VALUES, alpha=st.floats(0.001, 0.5))
def test_holm_rejects_step_by_step_until_the_first_that_stays(p: list[float], alpha: float):
    """The textbook procedure: the k-th smallest p-value is compared with alpha / (m − k)."""
    m, rejected = len(p), set()
    for k, i in enumerate(sorted(range(m), key=p.__getitem__)):
        if (m - k) * p[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, found in enumerate(holm(p)) if found <= alpha} == rejected


HEIGHTS = st.lists(st.floats(-50, 150), min_size=1, max_size=9)


@given(wanted=HEIGHTS, gap=st.floats(1, 12))
def test_labels_keep_their_order_their_distance_and_their_panel(wanted: list[float], gap: float):
    assume(gap * (len(wanted) - 1) <= 100)
    placed = spread_labels(wanted, gap, 0.0, 100.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = [placed[i] for i in order]
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(heights))
    assert all(-1e-9 <= height <= 100 + 1e-9 for height in placed)


@given(start=st.floats(10, 20), gap=st.floats(1, 8), count=st.integers(1, 9))
def test_labels_that_have_room_stay_where_they_want_to_be(start: float, gap: float, count: int):
    wanted = [start + 1.01 * gap * i for i in range(count)]
    assert all(abs(a - b) < 1e-9 for a, b in zip(spread_labels(wanted, gap, 0.0, 100.0), wanted, strict=True))
