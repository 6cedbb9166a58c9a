"""The tables of docs/oracle.md and docs/mismatch.md: their rows and columns are options, and figures are measured."""

from pathlib import Path

import pytest

from winnow import cli
from winnow.assemble.oracle_tables import TABLES, cells_of

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text() for name in ("oracle.md", "mismatch.md"))
QUICK = ("kl", "correction")


def block(name: str) -> list[list[str]]:
    """The cells of a table, its head first."""
    text = TEXT.partition(f"<!-- oracle {name} -->\n")[2].partition("<!-- end -->")[0]
    lines = [line for line in text.splitlines() if not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_command_offers_every_table():
    assert set(TABLES) == set(cli.ORACLE_TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_every_row_and_column_of_a_table(name: str):
    head, *rows = block(name)
    table = TABLES[name]()
    assert [row[0] for row in rows] == [title for title, _ in table.rows]
    assert head[1:] == [column.title.replace("_", " ") for column in table.columns]


@pytest.mark.parametrize("name", QUICK)
def test_the_first_row_of_a_table_is_measured_again(name: str):
    head, row, *_ = block(name)
    table = TABLES[name]()
    words = dict(table.rows)[row[0]]
    columns = [column for column in table.columns if column.title.replace("_", " ") in head]
    assert list(cells_of(words, columns)) == row[1:]
