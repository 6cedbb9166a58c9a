"""Fields of a row: texts, numbers, lists of answers and chats have a meaning; everything else is refused by its row."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from running import composed
from winnow.config.nodes import build_node
from winnow.data.problems import Problem, screen_problems
from winnow.errors import ConfigError
from winnow.models.conversation import Message

CASES = Path(os.environ["WINNOW_DATA"]).parent / "cases" if "WINNOW_DATA" in os.environ else None
needs_cases = pytest.mark.skipif(CASES is None, reason="WINNOW_DATA is not set: the cases are not here")
GOOD = {"problem": "p", "answer": "1"}


def loaded(path: Path) -> Sequence[Problem]:
    return build_node(composed("dataset=jsonl", f"dataset.path={path}").dataset).load(lambda golds: [], False).train


def of_rows(tmp_path: Path, *fields: str) -> Sequence[Problem]:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + "".join(f"{{{row}}}\n" for row in fields))
    return loaded(path)[1:]


def test_an_answer_of_thousands_of_digits(tmp_path: Path):
    assert of_rows(tmp_path, '"problem": "q", "answer": ' + "9" * 4000)[0].answer == "9" * 4000


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('"problem": "q", "answer": {"value": 5}', r"the answer is an object \(\{'value': 5\}\)"),
        ('"problem": "q", "answer": [1, null]', "the answer is null"),
        ('"problem": "q", "answer": [1, [2]]', r"the answer is a list \(\[2\]\)"),
        ('"problem": "q", "answer": ["1", ""]', "an answer of the list is blank"),
        ('"problem": "q", "answer": NaN', r"the answer is float \(nan\)"),
        ('"problem": "q", "answer": -Infinity', r"the answer is float \(-inf\)"),
        ('"problem": "q", "answer": 1e400', r"the answer is float \(inf\)"),
        ('"problem": "q", "answer": [1, NaN]', r"the answer is float \(nan\)"),
        ('"problem": "q", "answer": true', r"the answer is true or false \(True\)"),
        ('"problem": 7, "answer": "1"', r"the problem is int \(7\)"),
        ('"problem": true, "answer": "1"', "the problem is true or false"),
        ('"problem": {"text": "q"}, "answer": "1"', "the problem is an object"),
        ('"problem": null, "answer": "1"', "the problem is blank"),
        ('"problem": " \\t", "answer": "1"', "the problem is blank"),
        ('"problem": "q", "answer": "1", "solution": ["a"]', "the solution is a list"),
        ('"problem": "q", "answer": "1", "solution": 5', r"the solution is int \(5\)"),
        ('"problem": "q", "answer": "1", "id": {"n": 1}', "the id is an object"),
        ('"problem": "\\ud835", "answer": "1"', r"the problem holds \\ud835, half of a surrogate pair, as character 1"),
        ('"problem": "q", "answer": "a\\udc00"', r"the answer holds \\udc00"),
        ('"problem": "q", "answer": "1", "solution": "\\ud835 "', r"the solution holds \\ud835"),
        ('"problem": "q", "answer": "1", "id": "\\ud835"', r"the id holds \\ud835"),
        ('"problem": "q\\u0000", "answer": "1"', r"the problem holds \\u0000, not a character of any text, as char"),
        ('"problem": "q\\ufdd0", "answer": "1"', r"the problem holds \\ufdd0"),
    ],
)
def test_a_value_without_a_meaning_is_refused_by_its_row(tmp_path: Path, row: str, what: str):
    with pytest.raises(ConfigError, match=rf"f\.jsonl, line 2: {what}") as error:
        of_rows(tmp_path, row)
    assert str(error.value).encode()


def test_values_with_a_meaning(tmp_path: Path):
    rows = ("27.0", "-0.5", "10", '["$1$", "2"]', "[1, 2.0]", '"\\ud835\\udfd9"', '"a\\fb"')
    found = of_rows(tmp_path, *(f'"problem": "q", "answer": {answer}, "score": NaN' for answer in rows))
    assert [problem.answer for problem in found] == ["27", "-0.5", "10", "$1$, 2", "1, 2", "𝟙", "a\fb"]


def chat(*messages: object) -> str:
    return f'"problem": {json.dumps(messages)}, "answer": "1"'


SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2"}
SHOT = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]


def test_a_list_of_messages_is_a_chat(tmp_path: Path):
    one, shots, named = of_rows(tmp_path, chat(USER), chat(SYSTEM, *SHOT, USER), chat(USER | {"name": None}))
    assert one.conversation == (Message("user", "2+2"),)
    assert (one.text, named.text, shots.text) == ("2+2", "2+2", "1+1\n\n2+2")
    assert [turn.role for turn in shots.conversation] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (chat(), "the problem is an empty list"),
        (chat(*SHOT), "the chat ends with a message of the assistant"),
        (chat(SYSTEM), "the chat ends with a message of the system"),
        (chat(USER, SYSTEM, USER), "a system message is the first"),
        (chat("2+2"), "message 1: the problem is a text .* a list of|message 1: the problem is a text"),
        (chat(USER, None), "message 2: the problem is null"),
        (chat([USER]), "message 1: the problem is a list"),
        (chat({"from": "human", "value": "2+2"}), "message 1: has 'from', 'value'"),
        (chat({"role": "tool", "content": "4"}), "message 1: has the role 'tool'"),
        (chat({"role": ["user"], "content": "4"}), r"message 1: has the role \['user'\]"),
        (chat({"content": "4"}), "message 1: has the role None"),
        (chat({"role": "user"}), "message 1: the content is null"),
        (chat({"role": "user", "content": [{"type": "text", "text": "4"}]}), "message 1: the content is a list"),
        (chat(USER, USER | {"content": 4}), r"message 2: the content is int \(4\)"),
        (chat(USER, USER | {"content": " "}), "message 2: the message is blank"),
        (chat(USER | {"tool_calls": [1]}), "message 1: has 'tool_calls'"),
        (chat(USER | {"content": "\ud835"}), r"message 1: the message holds \\ud835"),
    ],
)
def test_a_chat_that_cannot_be_prompted_is_refused_by_its_row_and_message(tmp_path: Path, row: str, what: str):
    with pytest.raises(ConfigError, match=rf"f\.jsonl, line 2[:,] ?({what})"):
        of_rows(tmp_path, row)


def test_a_chat_whose_user_asks_an_evaluations_problem_is_found():
    shots = Problem("a", "1+1\n\n2+2", "4", turns=(Message("user", "1+1"), Message("user", "2+2")))
    other = Problem("b", "3+3", "6")
    screened = screen_problems([shots, other], {"test": [Problem("t", "2 + 2", "4")]}, "drop", lambda some: [False] * 2)
    assert (screened.problems, screened.overlaps) == ([other], {"test": 1})


@needs_cases
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d_dict", "d_dict.jsonl, line 13: the answer is an object"),
        ("d_surrogate", "d_surrogate.jsonl, line 13: the problem holds"),
        ("d_bigint", "d_bigint.jsonl:13: a number of 5,000 digits"),
    ],
)
def test_the_cases_that_are_refused(name: str, message: str):
    assert CASES is not None
    with pytest.raises(ConfigError) as error:
        loaded(CASES / f"{name}.jsonl")
    assert message in str(error.value)


@needs_cases
def test_the_cases_that_are_read():
    assert CASES is not None
    chats = loaded(CASES / "d_chatlist.jsonl")
    assert [problem.conversation for problem in chats[:2]] == [
        (Message("user", "What is 0+1?"),),
        (Message("user", "What is 1+1?"),),
    ]
    assert [problem.key for problem in loaded(CASES / "inject.jsonl")] == ["plain", "inject", "eos", "last"]
