"""Expressions: formulas as trees, which can be printed and computed, so that what is printed can be proven.

A formula is built with Python's own operators: `minimum(s * A, clip(s, 0.8, 1.2) * A)`. Constants are folded where they
say nothing (1 · x, x + 0), so that a formula with its settings filled in is as short as the settings make it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Union

from torch import Tensor

from winnow.explain.operations import (
    ABSOLUTE,
    ADD,
    AND,
    AT_LEAST,
    AT_MOST,
    DIVIDE,
    LESS,
    MORE,
    MULTIPLY,
    NEGATIVE,
    NOT,
    OR,
    POWER,
    SQUARE,
    SUBTRACT,
    Operation,
)

Number = Union["Expression", float, int]


@dataclass(frozen=True, slots=True)
class Domain:
    """A set of indices to sum or average over: the tokens of a response, the samples of a prompt, …

    `view` maps a tensor and the quantities by name to the tensor with the domain as dimensions of its own, the mask of
    what belongs to it, those dimensions, and whether they stay as 1 for broadcasting.
    """

    unicode: str
    latex: str
    meaning: str
    view: Callable[..., tuple[Tensor, Tensor, tuple[int, ...], bool]]


class Expression:
    """A node of a formula; its operators make larger formulas."""

    __slots__ = ()

    def __add__(self, other: Number) -> "Expression":
        other = expression(other)
        if self == ZERO or other == ZERO:
            return other if self == ZERO else self
        if isinstance(other, Apply) and other.operation is NEGATIVE:
            return self - other.arguments[0]
        return Apply(ADD, (self, other))

    def __radd__(self, other: Number) -> "Expression":
        return expression(other) + self

    def __sub__(self, other: Number) -> "Expression":
        other = expression(other)
        return self if other == ZERO else -other if self == ZERO else Apply(SUBTRACT, (self, other))

    def __rsub__(self, other: Number) -> "Expression":
        return expression(other) - self

    def __mul__(self, other: Number) -> "Expression":
        other = expression(other)
        if ZERO in (self, other):
            return ZERO
        if ONE in (self, other):
            return other if self == ONE else self
        if isinstance(self, Constant) and isinstance(other, Constant):
            return Constant(self.value * other.value)
        if isinstance(self, Constant) and self.value < 0:
            return -(Constant(-self.value) * other)
        return Apply(MULTIPLY, (self, other))

    def __rmul__(self, other: Number) -> "Expression":
        return expression(other) * self

    def __truediv__(self, other: Number) -> "Expression":
        other = expression(other)
        return self if other == ONE else Apply(DIVIDE, (self, other))

    def __rtruediv__(self, other: Number) -> "Expression":
        return expression(other) / self

    def __neg__(self) -> "Expression":
        if isinstance(self, Constant):
            return Constant(-self.value)
        return self.arguments[0] if isinstance(self, Apply) and self.operation is NEGATIVE else Apply(NEGATIVE, (self,))

    def __pow__(self, power: Number) -> "Expression":
        if power in (1, 2):
            return self if power == 1 else Apply(SQUARE, (self,))
        return Apply(POWER, (self, expression(power)))

    def __rpow__(self, base: Number) -> "Expression":
        return Apply(POWER, (expression(base), self))

    def __pos__(self) -> "Expression":
        return self

    def __abs__(self) -> "Expression":
        return Apply(ABSOLUTE, (self,))

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula is neither true nor false; write either(condition, a, b) for `if`, &, | and ~ for `and`, `or` "
            "and `not`, minimum and maximum for min and max"
        )

    def __lt__(self, other: Number) -> "Expression":
        return Apply(LESS, (self, expression(other)))

    def __le__(self, other: Number) -> "Expression":
        return Apply(AT_MOST, (self, expression(other)))

    def __gt__(self, other: Number) -> "Expression":
        return Apply(MORE, (self, expression(other)))

    def __ge__(self, other: Number) -> "Expression":
        return Apply(AT_LEAST, (self, expression(other)))

    def __and__(self, other: "Expression") -> "Expression":
        return other if self == TRUE else self if other == TRUE else Apply(AND, (self, other))

    def __or__(self, other: "Expression") -> "Expression":
        return Apply(OR, (self, other))

    def __invert__(self) -> "Expression":
        return Apply(NOT, (self,))


@dataclass(frozen=True, slots=True)
class Constant(Expression):
    """A number, or a truth value."""

    value: float | bool


@dataclass(frozen=True, slots=True)
class Symbol(Expression):
    """A quantity by its name in formulas. `key` is its name among the quantities that a formula is computed from.

    A symbol whose key is not among them is computed from its `definition`. `meaning` is for the legend.
    """

    unicode: str
    latex: str
    key: str
    meaning: str = ""
    definition: Expression | None = None


@dataclass(frozen=True, slots=True)
class Apply(Expression):
    """An operation on arguments."""

    operation: Operation
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Over(Expression):
    """A sum, mean, standard deviation, maximum, … (`how`) of `body` over a domain, of what satisfies `where` alone."""

    how: str
    domain: Domain
    body: Expression
    where: Expression | None = None


def expression(value: Number) -> Expression:
    """The value as an expression; numbers become constants."""
    return value if isinstance(value, Expression) else Constant(float(value))


def children(of: Expression) -> tuple[Expression, ...]:
    """The expressions directly below a node, and a symbol's definition."""
    match of:
        case Apply():
            return of.arguments
        case Over():
            return (of.body,) if of.where is None else (of.body, of.where)
        case Symbol():
            return () if of.definition is None else (of.definition,)
        case _:
            return ()


def walk(of: Expression) -> Iterator[Expression]:
    """The node and all below it, definitions of symbols included."""
    yield of
    for child in children(of):
        yield from walk(child)


def printed(of: Expression) -> Iterator[Expression]:
    """The nodes that the text of a formula shows: a symbol stands for its definition."""
    yield of
    for child in () if isinstance(of, Symbol) else children(of):
        yield from printed(child)


ZERO, ONE, TRUE = Constant(0.0), Constant(1.0), Constant(True)
