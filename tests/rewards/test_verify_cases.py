"""`winnow verify`: rows, the table of agreement, and errors that name the line."""

import io
import json
from pathlib import Path

import pytest

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
        ("{}", r'cases.jsonl:1: "gold" and "pred"'),
        ('{"gold": "5", "pred": "5"}\n[5', "cases.jsonl:2: not JSON"),
        ('{"gold": 5, "pred": "5"}', "cases.jsonl:1: .*strings"),
        ('{"gold": "5", "pred": "5", "equivalent": "yes"}', "cases.jsonl:1: .*'yes'"),
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
    with pytest.raises(ConfigError, match=r"absent\.jsonl: No such file"):
        verify_cases(tmp_path / "absent.jsonl", io.StringIO(), verifier)
