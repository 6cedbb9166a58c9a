"""Columns of a data row: its fields as plain JSON values, which filters and reward functions read by name."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import date, time
from decimal import Decimal

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Columns(Mapping[str, Json]):
    """Immutable mapping of names to plain JSON values; it can be pickled. Lists and objects are read as copies.

    Example: `Columns({"level": 3, "tags": ["algebra"]})["level"]` is 3.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Json] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Json:
        value = self._values[name]
        return deepcopy(value) if isinstance(value, list | dict) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values))  # of the names alone, because lists and objects have no hash

    def __repr__(self) -> str:
        return f"Columns({self._values!r})"

    def __reduce__(self) -> tuple[type["Columns"], tuple[dict[str, Json]]]:
        return Columns, (self._values,)


NO_COLUMNS = Columns()


def columns_of(fields: Mapping[str, object]) -> Columns:
    """The fields of a row as columns. Dates become text as ISO 8601 writes them, decimals numbers; bytes are left out.

    Such values come from Parquet files; bytes are mostly pictures.
    """
    return Columns({name: _plain(value) for name, value in fields.items() if not isinstance(value, bytes)})


def _plain(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items() if not isinstance(part, bytes)}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value if not isinstance(part, bytes)]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)
