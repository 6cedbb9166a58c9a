"""Filter of data rows by an expression on their columns, such as `level >= 3 and "algebra" in tags`.

The expression is Python's, without attributes, assignments and calls other than of `FUNCTIONS`, so that it computes a
value and can do nothing else. A column whose name is no Python name is written `row["my column"]`.
"""

import ast
import operator
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


LONGEST_SECONDS = 2.0
"""Processor time for one row; a pattern such as `(a+)+$` takes twice as long for every further character."""


class TooSlow(Exception):
    """The end of an expression that took longer than `LONGEST_SECONDS`."""


def _of_numbers(compute: Callable[[float, float], float], verb: str) -> Callable[[object, object], float]:
    def computed(left: object, right: object) -> float:
        # A text times 2,000,000,000, or formatted to as many characters, would fill the memory.
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError(f"only numbers are {verb}")
        return compute(left, right)

    return computed


OPERATORS: Mapping[type[ast.operator], tuple[str, Callable[[object, object], float]]] = {
    ast.Mult: ("*", _of_numbers(operator.mul, "multiplied")),
    ast.Mod: ("%", _of_numbers(operator.mod, "divided")),
}
"""Operators that Python has for texts as well, and that here are functions of numbers, under names nobody can type."""


class _NumbersAlone(ast.NodeTransformer):
    """The expression with calls in place of `OPERATORS`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) not in OPERATORS:
            return node
        name = ast.Name(OPERATORS[type(node.op)][0], ast.Load())
        return ast.copy_location(ast.Call(name, [node.left, node.right], []), node)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Context that raises `TooSlow` in the main thread, the only one in which Python answers signals.

    Python's regular expressions look for signals while they search.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


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
            ConfigError: it takes longer than `LONGEST_SECONDS`.
            Exception: whatever computing the expression raises on such values.
        """
        known = {name: columns.get(name) for name in self.names}
        scope = {"__builtins__": {}, **FUNCTIONS, ROW: columns, **known, **dict(OPERATORS.values())}
        try:
            with _deadline(LONGEST_SECONDS), warnings.catch_warnings(action="ignore"):
                return bool(eval(self._code, scope))
        except TooSlow as error:
            raise ConfigError(
                f"{self.named}: takes more than {LONGEST_SECONDS:g} seconds for one row; "
                "type a pattern without a repetition inside a repetition"
            ) from error

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
            with warnings.catch_warnings(action="ignore"):  # of the \d in matches("\d+", problem)
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
            if isinstance(node, ast.Compare):
                self._refuse_identity(node)
            if isinstance(node, ast.Name) and node not in called and node.id != ROW:
                names[node.id] = None
        as_calls = ast.fix_missing_locations(_NumbersAlone().visit(tree))
        with warnings.catch_warnings(action="ignore"):
            return list(names), compile(as_calls, "dataset.filter", "eval")

    def _refuse_identity(self, node: ast.Compare) -> None:
        for operation, right in zip(node.ops, node.comparators, strict=True):
            is_single = isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
            if isinstance(operation, ast.Is | ast.IsNot) and not is_single:
                raise self._refusal("`is` asks for None, True or False alone; write == or != instead")

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(
            f"""{self.named}: {why}; type e.g. 'dataset.filter="level >= 3 and subject in ['algebra', 'geometry']"'"""
        )
