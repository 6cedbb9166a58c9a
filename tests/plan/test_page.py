"""The table of docs/plan.md is what `winnow plan` prints: each of its rows is planned again from the words in it."""

from pathlib import Path

import pytest

from winnow.assemble.plan_tables import COUNTS, MODELS, Row, devices_words, markdown
from winnow.assemble.planning import Options, plan_of

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
BLOCK = PAGE.read_text().partition("<!-- devices -->\n")[2].partition("<!-- end -->")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in BLOCK.splitlines() if line.startswith("| ")]


def planned(cells: list[str]) -> Row:
    model, devices = cells[0], devices_words(int(cells[1].split()[0]))
    added = tuple(word for word in cells[2].replace("`", "").split() if "=" in word)
    words = ["experiment=paper/grpo", f"model={model}", *devices, *added]
    typed = {word.partition("=")[0]: word for word in words}  # an added word replaces one of the row's own
    return Row(model, plan_of([*typed.values()], Options()), added)


def test_the_table_has_both_models_on_each_number_of_gpus():
    assert [row[0] for row in ROWS[1:]] == [model for model in MODELS for _ in COUNTS]


@pytest.mark.parametrize("cells", ROWS[1:], ids=lambda cells: " ".join(cells[:2]))
def test_a_row_of_the_page_is_what_the_command_prints(cells: list[str]):
    assert planned(cells).cells() == cells


def test_the_page_states_the_assumptions_of_its_table():
    last = planned(ROWS[-1])
    assert markdown([last]).partition("\n\nassumptions\n")[2].strip() == BLOCK.partition("assumptions\n")[2].strip(
        "` \n"
    )
