"""Fields of a data row as problem, answer and demonstration: which values have a meaning, and their text."""

import re
from collections.abc import Sequence
from math import isfinite
from typing import NoReturn

from winnow.jsonl import BadRow, SourceRow
from winnow.models.conversation import Message

Field = str | list[str]
"""A field's name, or several names of which the first that a row has counts: hubs and local copies rarely agree."""
ROLES = ("system", "user", "assistant")
UNREADABLE = re.compile("[\x00\ud800-\udfff\ufdd0-\ufdef]")
"""Characters that no text may hold: NUL, halves of a surrogate pair, and Unicode's noncharacters, which
`winnow.models.special_tokens` uses."""


def required(row: SourceRow, field: Field, setting: str, where: str) -> object:
    """The value of the first of the names of `field` that the row has, or None where it is null.

    Raises:
        BadRow: the row has none of them; the message names `where` it stands and the `setting` to change.
    """
    names = [field] if isinstance(field, str) else field
    if not any(name in row.fields for name in names):
        wanted, found = " or ".join(map(repr, names)), ", ".join(map(repr, row.fields))
        raise BadRow(where, f"no field {wanted} (found: {found})", f"type {setting}=NAME")
    return optional(row, names)


def optional(row: SourceRow, field: Field) -> object:
    """The value of the first of the names of `field` that is there and not null, else None."""
    names = [field] if isinstance(field, str) else field
    return next((row.fields[name] for name in names if row.fields.get(name) is not None), None)


def problem_text(value: object, where: str) -> tuple[str, tuple[Message, ...]]:
    """The problem as a text, and as the turns of a chat if it is one. Of a chat, the text is what the user says.

    Raises:
        BadRow: neither a text nor a list of chat messages, or blank.
    """
    if isinstance(value, list):
        turns = _turns(value, where)
        return "\n\n".join(turn.content for turn in turns if turn.role == "user"), turns
    text = "" if value is None else value
    if not isinstance(text, str):
        _refuse("problem", value, where, "a text or a list of chat messages")
    if not text.strip():
        raise BadRow(where, "the problem is blank")
    return _readable(text, "problem", where), ()


def answer_text(value: object, where: str) -> str:
    """The answer as text, empty where it is null.

    A list holds several answers, all of which count; 27.0 is how a table of numbers writes 27.

    Raises:
        BadRow: neither a text, a finite number nor a list of these.
    """
    if isinstance(value, list):
        parts = [_one_answer(part, where) for part in value]
        if len(parts) > 1 and not all(part.strip() for part in parts):
            raise BadRow(where, "an answer of the list is blank")
        return ", ".join(parts)
    return "" if value is None else _one_answer(value, where)


def _one_answer(value: object, where: str) -> str:
    if isinstance(value, str):
        return _readable(value, "answer", where)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not isfinite(value)):
        _refuse("answer", value, where, "a text, a number or a list of these")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def solution_text(value: object, where: str) -> str | None:
    """The solution, which is a text.

    Raises:
        BadRow: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        _refuse("solution", value, where, "a text")
    return _readable(value, "solution", where)


def row_id(value: object, where: str) -> str | None:
    """The row's own name, a text or a whole number.

    Raises:
        BadRow: it is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        _refuse("id", value, where, "a text or a whole number")
    return _readable(str(value), "id", where)


def _turns(messages: Sequence[object], where: str) -> tuple[Message, ...]:
    turns = tuple(_turn(message, f"{where}, message {n}") for n, message in enumerate(messages, start=1))
    if not turns:
        raise BadRow(where, "the problem is an empty list")
    if turns[-1].role != "user":
        raise BadRow(where, f"the chat ends with a message of the {turns[-1].role}, and the model answers the user")
    if any(turn.role == "system" for turn in turns[1:]):
        raise BadRow(where, "a system message is the first of a chat")
    return turns


def _turn(message: object, where: str) -> Message:
    if not isinstance(message, dict):
        _refuse("problem", message, where, 'a text, or of chat messages {"role": …, "content": …}')
    extra = [str(key) for key, value in message.items() if key not in Message._fields and value is not None]
    role, content = message.get("role"), message.get("content")
    if role not in ROLES or extra:
        said = f"has {', '.join(map(repr, extra))}" if extra else f"has the role {role!r}"
        raise BadRow(where, f'{said}; a chat message is {{"role": "system", "user" or "assistant", "content": a text}}')
    if not isinstance(content, str):
        _refuse("content", content, where, "a text")
    if not content.strip():
        raise BadRow(where, "the message is blank")
    return Message(str(role), _readable(content, "message", where))


KINDS = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}


def _refuse(name: str, value: object, where: str, wanted: str) -> NoReturn:
    shown = " ".join(repr(value)[:60].split())
    kind = KINDS.get(type(value), type(value).__name__)
    raise BadRow(where, f"the {name} is {kind} ({shown}), and has to be {wanted}")


def _readable(text: str, name: str, where: str) -> str:
    found = UNREADABLE.search(text)
    if found is None:
        return text
    kind = "half of a surrogate pair" if "\ud800" <= found[0] <= "\udfff" else "not a character of any text"
    raise BadRow(where, f"the {name} holds \\u{ord(found[0]):04x}, {kind}, as character {found.start() + 1}")
