"""The tables of docs/plan.md are what `winnow plan` prints: their rows are planned again from the words in them."""

from pathlib import Path

import pytest

from winnow.assemble.plan_tables import COUNTS, MODELS, Row, devices_words, markdown
from winnow.assemble.planning import Options, plan_of

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
TABLES = ("", " engine=vllm")
"""The words that a table is planned with besides its own."""


def block(words: str) -> str:
    return PAGE.read_text().partition(f"<!-- devices{words} -->\n")[2].partition("<!-- end -->")[0]


def rows(words: str) -> list[list[str]]:
    lines = [line for line in block(words).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def planned(cells: list[str], words: str) -> Row:
    model, devices = cells[0], devices_words(int(cells[1].split()[0]))
    added = tuple(word for word in cells[2].replace("`", "").split() if "=" in word)
    typed = ["experiment=paper/grpo", f"model={model}", *devices, *words.split(), *added]
    return Row(model, plan_of([*{word.partition("=")[0]: word for word in typed}.values()], Options()), added)


@pytest.mark.parametrize("words", TABLES)
def test_a_table_has_both_models_on_each_number_of_gpus(words: str):
    assert [(row[0], row[1].split()[0]) for row in rows(words)] == [
        (model, str(count)) for model in MODELS for count in COUNTS
    ]


@pytest.mark.parametrize(
    ("words", "cells"),
    [(words, cells) for words in TABLES for cells in rows(words)],
    ids=lambda x: x.strip() if isinstance(x, str) else " ".join(x[:2]),
)
def test_a_row_of_the_page_is_what_the_command_prints(words: str, cells: list[str]):
    assert planned(cells, words).cells() == cells


@pytest.mark.parametrize("words", TABLES)
def test_the_page_states_the_assumptions_of_a_table(words: str):
    last = markdown([planned(rows(words)[-1], words)]).partition("\n\nassumptions\n")[2]
    assert last.strip() == block(words).partition("assumptions\n")[2].strip("` \n")
