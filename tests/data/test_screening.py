"""Screening of training problems: too long, repeated, or in an evaluation set."""

import os
from pathlib import Path

import pytest

from running import composed
from winnow.config.nodes import build_node
from winnow.data.problems import Problem, normalized_text, screen_problems
from winnow.errors import ConfigError

EVALUATED = {"bench": [Problem("b", r"Find $\dfrac{1}{2} + x$.", "1")], "other": [Problem("o", "nothing", "0")]}
TRAIN = [
    Problem("a", "a long one", "1"),
    Problem("b", r"find \(\frac{1}{2}+x\)", "2"),
    Problem("c", "2 + 3", "5"),
    Problem("d", "2 - 3", "-1"),
    Problem("e", "2+3", "5"),
]


def test_typography_does_not_tell_problems_apart_and_signs_do():
    assert normalized_text(TRAIN[1].text) == normalized_text(EVALUATED["bench"][0].text)
    assert normalized_text("2+3") != normalized_text("2-3")


def test_counts_and_what_remains():
    found = screen_problems(TRAIN, EVALUATED, "drop", lambda some: [p.key == "a" for p in some])
    assert [p.key for p in found.problems] == ["c", "d", "e"]
    assert (found.total, found.too_long, found.repeats, found.overlaps) == (5, 1, 1, {"bench": 1, "other": 0})
    assert found.line(9) == (
        "5 training problems "
        "(1 dropped: longer than 9 tokens; 1 kept: repeated; 1 dropped: also in evaluation set bench)"
    )


def test_overlap_can_be_kept_and_is_still_reported():
    found = screen_problems(TRAIN, EVALUATED, "keep", lambda some: [False] * len(some))
    assert len(found.problems) == 5
    assert found.line(None).endswith("1 kept: also in evaluation set bench)")


def test_nothing_left_is_an_error():
    with pytest.raises(ConfigError, match="none of 5 training problems remains: 5 too long"):
        screen_problems(TRAIN, EVALUATED, "drop", lambda some: [True] * len(some))


@pytest.mark.skipif("WINNOW_DATA" not in os.environ, reason="WINNOW_DATA is not set: the training files are not here")
def test_the_cleaned_pool_has_no_copy_of_a_benchmark_and_math_has_its_repeats():
    folder = Path(os.environ["WINNOW_DATA"])
    cfg = composed(f"eval.folder={folder}/eval")
    evaluated = {
        name: build_node(cfg.benchmarks[name]).load() for name in ("math500", "olympiadbench", "aime24", "amc23")
    }

    def screened(name: str, file: str):
        path = f"dataset.path={folder}/train/{file}.jsonl"
        source = build_node(composed(f"dataset={name}", path, "dataset.bad_rows=drop").dataset)
        return screen_problems(
            source.load(lambda golds: [], False).train, evaluated, "drop", lambda some: [False] * len(some)
        )

    assert not any(screened("numina_math", "competition_clean").overlaps.values())
    math = screened("math", "math_train")
    assert math.repeats == 5  # by letters and digits alone it would be 10: k < 0 for k > 0, sin(-60°) for sin 60°
    assert math.overlaps["math500"] == 0
