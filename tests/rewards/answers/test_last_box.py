"""Extraction of the last closed box."""

import pytest

from winnow.rewards.answers.text import last_boxed


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{4} no, \boxed{5}", "5"),  # the last alone
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),  # an escaped brace opens nothing
        (r"\boxed{\begin{matrix} a \\ b\\\end{matrix}}", r"\begin{matrix} a \\ b\\\end{matrix}"),
        (r"\boxed {5}", "5"),
        ("\\boxed{\n 5 \n}", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),  # nested: the one that opens last
        (r"\boxed{5} and then \boxed{6", "5"),  # the last that closes
        (r"} { \boxed{5}", "5"),
        (r"\text{the answer is \boxed{5}", "5"),
        ("the answer is 5", None),
        (r"\boxed{5", None),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed 5", None),
        (r"\fbox{5}", None),
        (r"\unboxed{5}", None),
        ("", None),
    ],
)
def test_the_last_closed_box(response: str, answer: str | None) -> None:
    assert last_boxed(response) == answer


def test_a_response_of_nothing_but_open_boxes_costs_its_length() -> None:
    assert last_boxed(r"\boxed{" * 20_000) is None
    assert last_boxed(r"\boxed{" * 20_000 + "5}") == "5"
