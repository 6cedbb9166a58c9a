"""Filters of rows: what an expression may be, what it keeps, and one line for everything else."""

import json
from pathlib import Path

import pytest

from running import composed
from winnow.columns import Columns
from winnow.config.nodes import build_node
from winnow.data import row_filter
from winnow.data.row_filter import RowFilter
from winnow.errors import ConfigError

ROW = Columns({"level": 3, "subject": "algebra", "tags": ["a", "b"], "my share": 0.5, "note": None})


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("level >= 3", True),
        ("level > 3 or subject == 'algebra'", True),
        ("2 < level <= 3 and not subject in ['geometry']", True),
        ("'a' in tags and len(tags) == 2", True),
        ("tags[0] == 'b'", False),
        ("row['my share'] * 2 == 1", True),
        ("note is None", True),
        ("matches('^alg', subject)", True),
        ("startswith(lower(subject), 'geo')", False),
        ("level % 2 == 0 if subject == 'algebra' else True", False),
        ("True", True),
        ("level is not True", True),
        (r"matches('\w+\d*', subject)", True),
        ("tags and subject", True),
    ],
)
def test_what_an_expression_keeps(text: str, kept: bool):
    assert RowFilter(text).keeps(ROW) is kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level >=", "not an expression"),
        ("level = 3", "not an expression"),
        ("", "not an expression"),
        ("(" * 300, "not an expression"),
        ("a\nb", "not an expression"),
        ("().__class__", "is not part of such expressions"),
        ("subject.lower() == 'a'", "no function subject.lower"),
        ("__import__('os').system('true')", "no function"),
        ("open('x')", "no function open; there are len, abs"),
        ("9 ** 9 ** 9", "is not part of such expressions"),
        ("[x for x in tags]", "is not part of such expressions"),
        ("(lambda: 1)()", "no function"),
        ("f'{level}'", "is not part of such expressions"),
        ("(x := 1)", "is not part of such expressions"),
        ("level is 3", "write == or != instead"),
        ("subject is not 'algebra'", "write == or != instead"),
    ],
)
def test_what_is_no_expression(text: str, message: str):
    with pytest.raises(ConfigError, match=r"dataset\.filter=") as error:
        RowFilter(text)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["'a' * 2000000000 * level == 1", "[0] * level", "'%2000000000d' % level == ''"])
def test_texts_and_lists_are_not_multiplied(text: str):
    with pytest.raises(TypeError, match="only numbers are"):
        RowFilter(text).keeps(ROW)


def test_a_pattern_that_does_not_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(row_filter, "LONGEST_SECONDS", 0.1)
    with pytest.raises(ConfigError, match=r"takes more than 0\.1 seconds for one row; type a pattern without"):
        RowFilter("matches('(a+)+$', subject)").keeps(Columns({"subject": "a" * 60 + "b"}))


def load(tmp_path: Path, *words: str) -> list[str]:
    path = tmp_path / "rows.jsonl"
    levels = [1, 2, 3, None, 5]
    rows = [{"problem": f"p{i}", "answer": "1", "level": level} for i, level in enumerate(levels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = composed("dataset=file", f"dataset.path={path}", *words)
    return [problem.text for problem in build_node(cfg.dataset).load(lambda golds: [], False).train]


def test_rows_of_which_it_is_true_are_kept(tmp_path: Path):
    assert load(tmp_path, "dataset.filter='level is not None and level >= 3'") == ["p2", "p4"]
    assert load(tmp_path, "dataset.filter=level", "dataset.bad_rows=drop") == ["p0", "p1", "p2", "p4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'levle >= 3'", r"no column levle; did you mean level\? there are problem, answer, level"),
        ("'level >= 3'", r"line 4: the filter cannot be computed \('>=' not supported .*; level is None\)"),
        ("'level is not None and level > 9'", "true of none of 5 rows"),
    ],
)
def test_a_filter_that_does_not_fit_the_rows(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, f"dataset.filter={text}")
    assert "\n" not in str(error.value)


def test_a_row_on_which_it_cannot_be_computed_is_a_bad_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert load(tmp_path, "dataset.filter='level >= 3'", "dataset.bad_rows=drop") == ["p2", "p4"]
    assert "1 of 5 rows cannot be read, and are dropped" in capsys.readouterr().out
