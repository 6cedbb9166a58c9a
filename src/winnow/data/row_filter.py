"""Filter of data rows by an expression on their columns, such as `level >= 3 and "algebra" in tags`.

The expression is Python's, without attributes, assignments and calls other than of `FUNCTIONS`, so that it computes a
value and can do nothing else. A column whose name is no Python name is written `row["my column"]`.
"""

import ast
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import CodeType

from winnow.columns import Columns
from winnow.errors import ConfigError

FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "len": len,
    "abs": abs,
    "min": min,
    "max": max,
    "int": int,
    "float": float,
    "str": str,
    "any": any,
    "all": all,
    "lower": lambda text: text.lower(),
    "startswith": lambda text, start: text.startswith(start),
    "endswith": lambda text, end: text.endswith(end),
    "matches": lambda pattern, text: re.search(pattern, text) is not None,
}
"""Functions of an expression; `matches(pattern, text)` finds a regular expression anywhere in a text."""
ROW = "row"
NODES = (
    ast.Expression,
    ast.BoolOp,
    ast.boolop,
    ast.UnaryOp,
    ast.unaryop,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Compare,
    ast.cmpop,
    ast.IfExp,
    ast.Call,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.Subscript,
    ast.Slice,
    ast.List,
    ast.Tuple,
)
"""Parts that an expression may have. Powers are not among them, because `9**9**9` does not end."""


class RowFilter:
    """The test of an expression on the columns of a row.

    Raises:
        ConfigError: the text is no such expression.
    """

    def __init__(self, text: str, setting: str = "dataset.filter") -> None:
        self.text, self.named = text, f"{setting}={text}"
        self.names, self._code = self._compiled(text)

    def keeps(self, columns: Columns) -> bool:
        """Whether the expression is true of a row; a column that the row lacks is None.

        Raises:
            Exception: whatever computing the expression raises on such values.
        """
        known = {name: columns.get(name) for name in self.names}
        return bool(eval(self._code, {"__builtins__": {}, **FUNCTIONS, ROW: columns, **known}))

    def require_columns(self, present: Mapping[str, object]) -> None:
        """Check that every name of the expression is one of the columns of the data.

        Raises:
            ConfigError: the first that is none.
        """
        for name in self.names:
            if name not in present:
                near = "".join(f"did you mean {found}? " for found in get_close_matches(name, present, n=1))
                raise ConfigError(f"{self.named}: no column {name}; {near}there are {', '.join(present)}")

    def _compiled(self, text: str) -> tuple[list[str], CodeType]:
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise self._refusal(f"not an expression ({why})") from error
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        names: dict[str, None] = {}
        for node in ast.walk(tree):
            if not isinstance(node, NODES):
                raise self._refusal(f"{ast.unparse(node)[:40]!r} is not part of such expressions")
            if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
                raise self._refusal(f"no function {ast.unparse(node.func)[:40]}; there are {', '.join(FUNCTIONS)}")
            if isinstance(node, ast.Name) and node not in called and node.id != ROW:
                names[node.id] = None
        return list(names), compile(tree, "dataset.filter", "eval")

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(
            f"""{self.named}: {why}; type e.g. 'dataset.filter="level >= 3 and subject in ['algebra', 'geometry']"'"""
        )
