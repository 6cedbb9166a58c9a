"""Names of settings in TRL, verl, the lightning-hydra-template and Lightning, and what to type instead.

The table is `other_names.yaml` beside this file; `docs/migrating.md` shows the same one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

import yaml

FILE = "other_names.yaml"
PLACEHOLDER = "VALUE"
LIGHTNING_TRAINER, LIGHTNING_CALLBACKS = "Lightning's Trainer", "Lightning's callbacks"
ALGORITHMS = "papers, for algorithms"
NOT_SETTINGS = (LIGHTNING_CALLBACKS, ALGORITHMS)


@dataclass(frozen=True)
class OtherName:
    """A setting of another tool.

    `type` is what to type here, with VALUE for the value as it was typed; `value` is an example of one. `values` has
    what to type for certain values in place of it. Without `type` there is no counterpart, and `note` says why.
    """

    tool: str
    name: str
    value: object = None
    type: str = ""
    note: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    def words(self, value: str) -> str:
        """The overrides to type in place of the setting with this value, given as text; "" if there are none."""
        return self.values.get(value.strip("\"'").lower(), self.type).replace(PLACEHOLDER, value)

    def answer(self, value: str) -> str:
        """The end of a message: where the name comes from, and what to type instead."""
        said = [f"type {self.words(value)}"] if self.type else []
        return "; ".join([f"a name of {self.tool}", *said, *([self.note] if self.note else [])])


@cache
def other_names() -> tuple[OtherName, ...]:
    """All names, in the order of the file."""
    table = yaml.safe_load((files("winnow.config") / FILE).read_text(encoding="utf-8"))
    return tuple(OtherName(tool, **entry) for tool, entries in table.items() for entry in entries)


def named_exactly(key: str) -> OtherName | None:
    """The setting of another tool that is called `key`, or whose name ends in it; the first in the table, or None.

    `trainer.max_epochs` is the argument of Lightning's Trainer.
    """
    argument = key.removeprefix("trainer.")
    return (
        _first(_settings(), lambda other: other.name == key)
        or _first(_settings(), lambda other: other.tool == LIGHTNING_TRAINER and other.name == argument != key)
        or _first(_settings(), lambda other: "." in key and other.name.endswith(f".{key}"))
    )


def named_like_its_end(key: str) -> OtherName | None:
    """The setting of another tool whose name is the last part of `key`; None if none is."""
    leaf = key.rpartition(".")[2]
    return _first(_settings(), lambda other: other.name == leaf)


def spelt_like(key: str) -> OtherName | None:
    """The setting of another tool that is spelt almost like the last part of `key`; None if none is."""
    near = get_close_matches(key.rpartition(".")[2], [other.name for other in _settings()], n=1, cutoff=0.85)
    return _first(_settings(), lambda other: other.name in near)


def callback_meant_by(name: str) -> OtherName | None:
    """The entry of a callback of Lightning's that Winnow does without, by the name of its class."""
    return _first(other_names(), lambda other: other.tool == LIGHTNING_CALLBACKS and other.name == name)


def algorithm_meant_by(choice: str) -> OtherName | None:
    """The entry of an algorithm that papers and other tools call `choice`; None if none is called so."""
    spelt = re.sub(r"[^a-z0-9+]", "", choice.lower())
    return _first(
        other_names(), lambda other: other.tool == ALGORITHMS and re.sub(r"[^a-z0-9+]", "", other.name) == spelt
    )


def _settings() -> list[OtherName]:
    return [other for other in other_names() if other.tool not in NOT_SETTINGS]


def _first(names: Sequence[OtherName], holds: Callable[[OtherName], bool]) -> OtherName | None:
    return next((other for other in names if holds(other)), None)
