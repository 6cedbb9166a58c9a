"""The arithmetic task: chains, splits, and demonstrations with slips and guesses at the given rates."""

import math
import re

import pytest

from winnow.data import arithmetic
from winnow.data.arithmetic import (
    HELDOUT_IN,
    HIGHEST,
    LEVELS,
    Arithmetic,
    Chain,
    chain_at,
    demonstration,
    split_of,
    worked,
)
from winnow.data.problems import problems_hash
from winnow.data.prompts import most_prompt_bytes, prompt_bytes
from winnow.errors import ConfigError
from winnow.models.language_model import CHARACTERS

CHAIN = Chain(47, (38, -21))
MANY = 2000


def boxed(text: str) -> int:
    found = re.fullmatch(r".*\\boxed\{(\d+)\}", text)
    assert found, text
    return int(found.group(1))


def binomial_bounds(count: int, rate: float) -> tuple[float, float]:
    """Five standard deviations around the mean, which a correct generator exceeds once in a million seeds."""
    spread = 5 * math.sqrt(count * rate * (1 - rate))
    return count * rate - spread, count * rate + spread


def test_text_answer_and_worked_solution_of_a_chain() -> None:
    assert (CHAIN.text, CHAIN.values, CHAIN.answer) == ("47+38-21=", (85, 64), 64)
    assert worked(CHAIN, (0, 0)) == r"47+38=85,85-21=64;\boxed{64}"
    assert worked(CHAIN, (-10, -10)) == r"47+38=75,75-21=54;\boxed{54}"


def test_problems_are_a_function_of_seed_index_and_split() -> None:
    assert chain_at(3, 5, "train") == chain_at(3, 5, "train")
    assert demonstration(CHAIN, 3, 5, 0.5, 0.5) == demonstration(CHAIN, 3, 5, 0.5, 0.5)
    streams = {tuple(chain_at(seed, i, split) for i in range(20)) for seed in (1, 2) for split in ("train", "heldout")}
    assert len(streams) == 4
    assert chain_at(1, 0).text == "98-3-38-27="


def test_splits_are_disjoint_under_every_seed() -> None:
    """With chains so short that the streams do repeat problems."""
    train = {chain_at(seed, i, "train", (1,)).text for seed in range(3) for i in range(MANY)}
    heldout = {chain_at(seed, i, "heldout", (1,)).text for seed in range(3) for i in range(MANY)}
    assert not train & heldout
    assert len(train | heldout) > 0.4 * 99 * 99


def test_one_chain_in_eight_is_held_out() -> None:
    low, high = binomial_bounds(MANY, 1 / HELDOUT_IN)
    chains = [Chain(start, (term,)) for start in range(1, 41) for term in range(1, 51)]
    assert low <= sum(split_of(chain) == "heldout" for chain in chains) <= high


def test_answers_and_running_values() -> None:
    for index in range(MANY):
        chain = chain_at(0, index)
        assert chain.answer == eval(chain.text.rstrip("="))
        assert len(chain.terms) in LEVELS
        assert all(0 <= value <= HIGHEST for value in (chain.start, *chain.values))
        assert all(1 <= abs(term) <= HIGHEST for term in chain.terms)


def test_levels_are_equally_likely_and_only_those_asked_for() -> None:
    counts = [len(chain_at(0, index, "train", (2, 7)).terms) for index in range(MANY)]
    low, high = binomial_bounds(MANY, 0.5)
    assert set(counts) == {2, 7}
    assert low <= counts.count(2) <= high


def test_guessing_is_right_once_in_a_hundred() -> None:
    answers = [chain_at(0, index).answer for index in range(MANY)]
    low, high = binomial_bounds(MANY, 0.01)
    assert high >= max(answers.count(value) for value in range(HIGHEST + 1))
    guesses = [boxed(demonstration(chain_at(0, i), 0, i, direct=1, slip=0)) == answers[i] for i in range(MANY)]
    assert low <= sum(guesses) <= high


def test_without_slips_every_worked_answer_is_right() -> None:
    for index in range(MANY):
        chain = chain_at(0, index)
        assert boxed(demonstration(chain, 0, index, direct=0, slip=0)) == chain.answer


def forgotten(before: int, term: int) -> int:
    """The error of the schoolbook method if the carry or the borrow of its first column is forgotten."""
    if term > 0:
        return -10 if before % 10 + term % 10 > 9 else 0
    return 10 if before % 10 < -term % 10 else 0


def slip_counts(slip: float) -> tuple[int, int]:
    """Steps that slipped and steps that could slip, over many demonstrations.

    Every step is checked against the problem and the result before it.
    """
    slipped = able = 0
    for index in range(MANY):
        chain = chain_at(0, index)
        lines = demonstration(chain, 0, index, direct=0, slip=slip).split(";")[0].split(",")
        value, shift = chain.start, 0
        for step, (term, line) in enumerate(zip(chain.terms, lines, strict=True)):
            left, result = line.split("=")
            assert left == f"{value}{term:+d}"
            assert 0 <= int(result) <= HIGHEST
            error, by = int(result) - eval(left), forgotten(chain.values[step] - term, term)
            assert error in (0, by)
            rest = [value + shift + by for value in chain.values[step:]]
            able += by != 0 and min(rest) >= 0 and max(rest) <= HIGHEST
            slipped, value, shift = slipped + (error != 0), int(result), shift + error
    return slipped, able


def test_a_slip_is_a_forgotten_carry_at_the_given_rate_and_later_steps_continue_from_it() -> None:
    slipped, able = slip_counts(0.3)
    low, high = binomial_bounds(able, 0.3)
    assert low <= slipped <= high
    slipped, able = slip_counts(1.0)
    assert slipped == able


def test_direct_answers_come_at_the_rate_asked_for() -> None:
    texts = [demonstration(chain_at(0, i), 0, i, direct=0.4, slip=0.1) for i in range(MANY)]
    low, high = binomial_bounds(MANY, 0.4)
    assert low <= sum(text.startswith(r"\boxed") for text in texts) <= high


def test_texts_use_the_vocabulary_only() -> None:
    text = "".join(chain_at(0, i).text + demonstration(chain_at(0, i), 0, i, 0.5, 0.5) for i in range(200))
    assert set(text.replace(r"\boxed{", "")) == set(CHARACTERS)


@pytest.mark.parametrize(("split", "levels"), [("test", (3,)), ("train", ()), ("train", (0, 3))])
def test_unknown_split_and_empty_levels_are_config_errors(split: str, levels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="type"):
        chain_at(0, 0, split, levels)


def test_problems_are_not_made_before_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Arithmetic(seed=0, levels=LEVELS, train_size=100_000, heldout_size=10, flawless=0, direct=0.1, slip=0.1)
    problems = source.load(lambda golds: [], hold_out=True).train
    tenth = problems[10]
    with monkeypatch.context() as patch:
        patch.setattr(arithmetic, "chain_at", None)
        whole, few, longest = problems[:None], problems[:64], most_prompt_bytes(problems)
        assert (problems_hash(problems), problems_hash(few)) == (None, None)
        assert (len(whole), len(few)) == (100_000, 64)
    assert whole[10] == few[10] == tenth == problems[10:11][0]
    # `98-87+99-12-34+56-78=` and the like: two digits, six terms of a sign and two digits, and the equals sign.
    assert longest == 21
    assert max(map(prompt_bytes, problems[:MANY])) == longest
