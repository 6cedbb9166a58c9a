"""How many rows go into one forward."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from winnow.packed import REPEATED, PromptedSequence


@dataclass(frozen=True, slots=True)
class Budget:
    """`tokens` of one forward: packed, each counted once; or else padded, each row as long as the longest."""

    tokens: int
    packed: bool

    def cut(self, items: Sequence[Sequence[PromptedSequence]]) -> list[list[int]]:
        """Places of `items`, whose rows stay together, in groups within the budget and of at least one item.

        Longest first; packed, items of one prompt beside each other.
        """
        groups: list[list[int]] = []
        load = _Load()
        for place in self._order(items):
            if not groups or not self._holds(load.with_rows(items[place])):
                groups.append([])
                load = _Load()
            groups[-1].append(place)
            load = load.with_rows(items[place])
            load.prompts.update(map(_prompt, items[place]))
        return [sorted(group, key=lambda i: -_longest(items[i])) for group in groups]

    def _holds(self, load: "_Load") -> bool:
        if not self.packed:
            return load.padded <= self.tokens
        return load.once <= self.tokens and load.padded <= REPEATED * self.tokens

    def _order(self, items: Sequence[Sequence[PromptedSequence]]) -> list[int]:
        lengths = [_longest(item) for item in items]
        by_length = sorted(range(len(items)), key=lambda i: -lengths[i])
        if not self.packed:
            return by_length
        first: dict[tuple[int, ...], int] = {}
        for rank, i in enumerate(by_length):
            first.setdefault(_prompt(items[i][0]), rank)
        return sorted(by_length, key=lambda i: first[_prompt(items[i][0])])


@dataclass(slots=True)
class _Load:
    """What one forward would compute; `prompts` are those whose tokens are counted."""

    once: int = 0
    rows: int = 0
    longest: int = 0
    prompts: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def padded(self) -> int:
        return self.rows * self.longest

    def with_rows(self, rows: Sequence[PromptedSequence]) -> "_Load":
        new = {_prompt(row) for row in rows} - self.prompts
        responses = sum(len(row.token_ids) - row.prompt_length for row in rows)
        return _Load(
            self.once + responses + sum(map(len, new)),
            self.rows + len(rows),
            max(self.longest, _longest(rows)),
            self.prompts,
        )


def _prompt(row: PromptedSequence) -> tuple[int, ...]:
    return row.token_ids[: row.prompt_length]


def _longest(rows: Sequence[PromptedSequence]) -> int:
    return max(len(row.token_ids) for row in rows)
