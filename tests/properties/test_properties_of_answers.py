"""Reading the last box and plain numbers, and matching lists of answers, for any text."""

from fractions import Fraction
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from winnow.rewards.answers.lists import match_answers
from winnow.rewards.answers.text import last_boxed, normalize, read_number

BALANCED = st.recursive(st.text("ab12+ ", min_size=1, max_size=4), lambda inner: inner.map(lambda text: f"{{{text}}}"))
ANYTHING = st.lists(st.sampled_from(["a", "{", "}", "\\", r"\boxed{", r"\{", " "]), max_size=20).map("".join)


@given(before=ANYTHING, answer=BALANCED.filter(str.strip), after=st.text("ab{ ", max_size=6))
def test_the_last_closed_box_is_read_whatever_stands_around_it(before: str, answer: str, after: str):
    assert last_boxed(f"{before} \\boxed{{{answer}}}{after}") == answer.strip()


@given(text=ANYTHING)
def test_a_box_that_is_read_stands_in_the_text_and_is_not_blank(text: str):
    found = last_boxed(text)
    assert found is None or (found in text and found.strip() == found != "")


@given(value=st.integers(-(10**30), 10**30))
def test_an_integer_reads_as_itself_with_and_without_thousands(value: int):
    for text in (str(value), f"{value:,}"):
        number = read_number(normalize(text))
        assert number is not None
        assert (number.value, number.decimal, number.percent) == (value, False, False)


@given(top=st.integers(-999, 999), bottom=st.integers(1, 999))
def test_a_fraction_reads_as_its_quotient_in_every_spelling(top: int, bottom: int):
    sign = "-" if top < 0 else ""
    for text in (f"{top}/{bottom}", rf"{sign}\frac{{{abs(top)}}}{{{bottom}}}", rf"\dfrac{{{top}}}{{{bottom}}}"):
        number = read_number(normalize(text))
        assert number is not None
        assert number.value == Fraction(top, bottom)


@given(whole=st.integers(0, 10**9), digits=st.text("0123456789", min_size=1, max_size=12), percent=st.booleans())
def test_a_decimal_reads_digit_by_digit(whole: int, digits: str, percent: bool):
    number = read_number(normalize(f"{whole}.{digits}" + (r"\%" if percent else "")))
    assert number is not None
    assert number.value == whole + Fraction(int(digits), 10 ** len(digits))
    assert (number.decimal, number.percent) == (True, percent)


@given(
    golds=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    answers=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    equal=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
)
def test_lists_match_exactly_where_some_pairing_matches(golds: list[int], answers: list[int], equal: set):
    """Checked against every pairing."""
    expected = len(golds) == len(answers) and any(
        all((gold, answer) in equal for gold, answer in zip(golds, order, strict=True))
        for order in permutations(answers)
    )
    found = match_answers(
        [str(gold) for gold in golds], [str(answer) for answer in answers], lambda g, a: (int(g), int(a)) in equal
    )
    assert found is expected
