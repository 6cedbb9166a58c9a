"""Columns of data rows: plain, immutable, picklable, and part of what a problem is."""

import json
import pickle
from datetime import date, datetime
from decimal import Decimal

import pytest

from winnow.columns import NO_COLUMNS, Columns, columns_of
from winnow.data.problems import Problem, problems_hash


def test_columns_cannot_be_changed():
    columns = Columns({"level": 3, "tags": ["a"], "source": {"page": 1}})
    columns["tags"].append("b")  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    columns["source"]["page"] = 2  # pyright: ignore[reportArgumentType, reportOptionalSubscript, reportIndexIssue, reportCallIssue]
    assert columns == {"level": 3, "tags": ["a"], "source": {"page": 1}}
    with pytest.raises(TypeError):
        columns["level"] = 4  # pyright: ignore[reportIndexIssue]


def test_columns_survive_pickling():
    columns = Columns({"level": 3, "tags": ["a"]})
    assert pickle.loads(pickle.dumps(columns)) == columns
    problem = Problem("k", "1+1?", "2", columns=columns)
    assert pickle.loads(pickle.dumps(problem)) == problem


def test_values_of_parquet_become_plain_json():
    row = {
        "day": date(2024, 7, 26),
        "at": datetime(2024, 7, 26, 12),
        "price": Decimal("1.5"),
        "picture": b"\x89PNG",
        "image": {"bytes": b"\x89PNG", "path": "a.png"},
        "pairs": [("a", 1)],
    }
    found = columns_of(row)
    assert found == {
        "day": "2024-07-26",
        "at": "2024-07-26T12:00:00",
        "price": 1.5,
        "image": {"path": "a.png"},
        "pairs": [["a", 1]],
    }
    assert json.loads(json.dumps(dict(found))) == found


def test_problems_hold_their_columns():
    """Problems that differ in a column are others, by equality and by their hash; the order of columns is nothing."""

    def problem(**columns: int) -> Problem:
        return Problem("k", "1+1?", "2", columns=Columns(columns))

    assert problem(level=3) == problem(level=3) != problem(level=4)
    assert len({problem(level=3), problem(level=3)}) == 1
    assert problems_hash([problem(level=3, page=1)]) == problems_hash([problem(page=1, level=3)])
    assert len({problems_hash([p]) for p in (problem(), problem(level=3), problem(level=4))}) == 3
    assert Problem("k", "1+1?", "2").columns is NO_COLUMNS
