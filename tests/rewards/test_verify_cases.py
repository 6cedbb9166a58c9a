"""`winnow verify`: rows, the table of agreement, and errors that name the line."""

import io
import json
from pathlib import Path

import pytest

from winnow import cli
from winnow.errors import ConfigError
from winnow.rewards.verifier import Verifier
from winnow.rewards.verify_cases import verify_cases

ROWS = [
    {"gold": "1/2", "pred": r"so \boxed{0.5}", "equivalent": True, "category": "fraction"},
    {"gold": "1/2", "pred": r"\boxed{0.5} or \boxed{0.6}", "equivalent": False, "category": "fraction"},
    {"gold": "5", "pred": r"$\sqrt{25}$", "equivalent": True},  # no box: judged whole
    {"gold": "5", "pred": "2+3", "equivalent": True},  # refused by a guard: a disagreement
    {"gold": "5", "pred": " "},
]


def test_rows_then_table(tmp_path: Path, verifier: Verifier) -> None:
    path, out = tmp_path / "cases.jsonl", io.StringIO()
    path.write_text("\n\n".join(json.dumps(row) for row in ROWS))
    verify_cases(path, out, verifier)
    lines = out.getvalue().splitlines()
    rows = [json.loads(line) for line in lines[:5]]
    assert [row["verdict"] for row in rows] == ["correct", "wrong", "correct", "wrong", "no_answer"]
    assert [row["answer"] for row in rows] == ["0.5", "0.6", r"$\sqrt{25}$", "2+3", None]
    assert [row.get("equivalent") for row in rows] == [True, False, True, True, None]
    assert lines[5] == "verifier: name=math_verify"
    assert lines[6] == "verdicts: correct 2, wrong 2, no_answer 1"
    assert lines[7].split() == ["agreement", "rows", "agree", "wrongly", "correct", "wrongly", "rejected"]
    assert lines[8].split() == ["fraction", "2", "2", "(100.0%)", "0", "0"]
    assert lines[9].split() == ["all", "4", "3", "(75.0%)", "0", "1"]
    assert len(lines) == 10


def test_rows_without_labels_have_no_agreement(tmp_path: Path, verifier: Verifier) -> None:
    path, out = tmp_path / "cases.jsonl", io.StringIO()
    path.write_text('{"gold": "5", "pred": "5"}\n')
    verify_cases(path, out, verifier)
    assert "unknown" in out.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", r'cases.jsonl, line 1: "gold" and "pred"'),
        ('{"gold": "5", "pred": "5"}\n[5', "cases.jsonl:2: not a JSON object"),
        ('{"gold": 5, "pred": "5"}', "cases.jsonl, line 1: .*strings"),
        ('{"gold": "5", "pred": "5", "equivalent": "yes"}', "cases.jsonl, line 1: .*'yes'"),
        ('{"gold": "5", "pred": "5", "n": ' + "9" * 5000 + "}", "cases.jsonl:1: a number of 5,000 digits"),
        ("[" * 100_000, "cases.jsonl:1: lists or objects too deep"),
        ('{"gold": "5", "gold": "6", "pred": "5"}', "cases.jsonl:1: the field 'gold' occurs twice"),
        ("\xff", "not UTF-8"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, verifier: Verifier, text: str, complaint: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=complaint) as caught:
        verify_cases(path, io.StringIO(), verifier)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, verifier: Verifier) -> None:
    with pytest.raises(ConfigError, match=r"absent\.jsonl: no such file"):
        verify_cases(tmp_path / "absent.jsonl", io.StringIO(), verifier)


def test_text_that_a_terminal_would_obey_is_written_as_codes(tmp_path: Path, verifier: Verifier):
    path, out = tmp_path / "cases.jsonl", io.StringIO()
    rows = [
        {"gold": "1", "pred": "\ud800", "category": "a\u009bb", "equivalent": False},
        {"gold": "\udc00", "pred": "1\u0085\u202e", "category": "c\u202e", "equivalent": False},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verify_cases(path, out, verifier)
    text = out.getvalue()
    text.encode()
    assert [row["answer"] for row in map(json.loads, text.splitlines()[:2])] == ["\ud800", "1\u0085\u202e"]
    assert not [c for c in text if c in "\u009b\u0085\u202e" or "\ud800" <= c <= "\udfff"]


def test_the_name_of_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.exit_code(["verify", str(tmp_path / ("a" * 5000))]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 1000
