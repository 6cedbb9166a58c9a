"""One colour and one dash for an arm, the same in every figure, on white and on the dark page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

INK, MUTED, GRID, PAPER = "#1f2328", "#5c656f", "#e4e7ea", "#ffffff"
GOOD, BAD = "#1a5fb4", "#b5480f"
"""More and less, or right and wrong: blue and orange, which no common colour blindness confuses."""

DASHES = ((), (5, 1.6), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 1.5))
LONGEST = 20
"""Characters of a label that fit beside a curve."""


@dataclass(frozen=True, slots=True)
class Style:
    """`light` and `dark` are for the two pages, `dash` is in points: drawn, left out, drawn, …; empty for a solid line."""

    label: str
    title: str
    light: str
    dark: str
    dash: tuple[float, ...]


# Searched for: the smallest distance in OKLab between two arms of one figure of the paper, to eyes of normal vision and under
# Machado's (2009) full deuteranopia, protanopia and tritanopia, is as large as contrast with the page (3.4 and 5) lets it be.
COLOURS = {
    "raft": ("RAFT", "#693c01", "#a9820d"),
    "raftpp": ("RAFT++", "#9f5b57", "#db908c"),
    "raftpp_no_clip": ("RAFT++ no clip", "#8e016d", "#de51b1"),
    "raftpp_clip_higher": ("RAFT++ clip-higher", "#9c8b0a", "#ecdb70"),
    "grpo": ("GRPO", "#2b3eaf", "#737eff"),
    "reinforce": ("Reinforce", "#394051", "#868a90"),
    "mean_zero": ("Mean zero", "#568fbe", "#b6ddfe"),
    "remove_all_correct": ("Remove all correct", "#d91918", "#fea061"),
    "remove_all_wrong": ("Remove all wrong", "#850502", "#e15e33"),
    "reinforce_rej": ("Reinforce-Rej", "#007d5a", "#6cffb2"),
    "remove_both_std": ("Reinforce-Rej + std", "#7e56e5", "#c99bde"),
    "ppo": ("PPO", "#4d902f", "#83ca91"),
    "dpo": ("Iterative DPO", "#ab1d39", "#bd7191"),
}
"""Name beside a curve, colour on white and on the dark page."""
CYCLE = (
    "grpo",
    "remove_all_correct",
    "reinforce_rej",
    "raftpp_no_clip",
    "mean_zero",
    "raft",
    "remove_both_std",
    "reinforce",
    "raftpp_clip_higher",
    "ppo",
    "raftpp",
    "dpo",
    "remove_all_wrong",
)
"""Whose colours other arms take, neighbours far apart."""


def styles(arms: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """(label, title) of each arm, in order, to their styles by label. The paper's arms keep their colours in any study."""
    free = [name for name in CYCLE if name not in {label for label, _ in arms}] or list(CYCLE)
    given: dict[str, Style] = {}
    others = 0
    for position, (label, title) in enumerate(arms):
        own = label if label in COLOURS else free[others % len(free)]
        others += own != label
        name, light, dark = COLOURS[own]
        short = name if own == label else _short(title, [style.title for style in given.values()])
        given[label] = Style(label, short, light, dark, DASHES[position % 5])
    return given


def _short(title: str, taken: Sequence[str]) -> str:
    """A title that fits beside a curve: `GRPO lr=1e-5` of `GRPO optim.lr=1e-5`, cut where it is still long, numbered where that
    makes two alike."""
    short = re.sub(r"\S*[./](?=[^ ./]+=)", "", title)
    short = short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"
    alike = sum(other.split(" #")[0] == short for other in taken)
    return f"{short} #{alike + 1}" if alike else short
