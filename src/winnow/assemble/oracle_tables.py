"""Tables of `winnow oracle --table`: every option of every axis of `conf/algo`, measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from winnow.assemble.oracle import Asked, oracle
from winnow.config.compose import CONF
from winnow.errors import ConfigError
from winnow.oracle.setting import Answer

Cell = Callable[[Answer], str]
SMALL = Asked(horizon=2, seed=5)
"""Three responses, four samples of each of two prompts, of which 11 and 59 % are correct: 225 iterations."""
KL_ALONE = Asked(horizon=2, samples=2, reward="none")
THREE = Asked(vocabulary=3, horizon=2, prompts=1, samples=2)
"""Seven responses, two samples of one prompt: 28 iterations, in which a cut-off leaves something out."""
MOVED = 0.5
"""A move in logits after which ratios of tokens are often past the usual bounds of clipping."""
NO_ESTIMATORS = ("dpo", "sft")
SUM = ("algo/aggregate=sequence_sum",)
PLAIN: tuple[str, ...] = ("algo=reinforce", "algo/clip=none", *SUM)


@dataclass(frozen=True)
class Column:
    """A column of figures: what the words of a row are measured in, and with."""

    title: str
    asked: Asked
    cell: Cell
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: the words of its rows by their title, and its columns."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[Column, ...]


def options(axis: str) -> list[str]:
    """The options of an axis, in alphabetical order."""
    return sorted(path.stem for path in (CONF / "algo" / axis).glob("*.yaml"))


def _number(number: float) -> str:
    return "0" if abs(number) < ZERO else f"{number:.3g}"


ZERO = 1e-10
"""Below it a bias is rounding: exactly 0."""


def cosine(answer: Answer) -> str:
    of = answer.measured
    aside = 1 - abs(of.cosine)
    if not of.mean.norm() > ZERO:
        return "no gradient"
    return f"{of.cosine:.0f}" if aside < ZERO else f"{of.cosine:.4f}"


def bias(answer: Answer) -> str:
    return _number(answer.measured.bias)


def bias_of_steps(answer: Answer) -> str:
    return "–" if answer.of_steps is None else _number(answer.of_steps.bias)


def scale(answer: Answer) -> str:
    return _number(answer.measured.scale)


def noise(answer: Answer) -> str:
    of = answer.measured
    return f"{of.noise:.2f}" if of.mean.norm() > ZERO else "–"


def direction(answer: Answer) -> str:
    """Cosine and noise in one cell."""
    return f"{cosine(answer)} · {noise(answer)}" if answer.measured.mean.norm() > ZERO else "no gradient"


def responses(answer: Answer) -> str:
    return f"{answer.responses:.1f}"


def accuracy(answer: Answer) -> str:
    """Bias and noise in one cell."""
    return f"{bias(answer)} · {noise(answer)}"


def _on_policy(asked: Asked, cells: Sequence[Cell]) -> tuple[Column, ...]:
    return tuple(Column(cell.__name__, asked, cell) for cell in cells)


def _moved(asked: Asked, cells: Sequence[Cell]) -> tuple[Column, ...]:
    moved = replace(asked, moved=MOVED)
    return tuple(Column(f"{cell.__name__}, moved", moved, cell) for cell in cells)


NEEDED: dict[str, tuple[str, ...]] = dict.fromkeys(("passk", "pass_at_k"), ("algo.advantage.k=2",))
"""Words that an option needs with four samples: k of pass@k is below their number."""


def algorithms() -> Table:
    """The named algorithms that follow the reward, at the first update of an iteration and at a later one."""
    names = sorted(path.stem for path in (CONF / "algo").glob("*.yaml") if path.stem not in NO_ESTIMATORS)
    rows = tuple((f"`algo={name}`", (f"algo={name}", *NEEDED.get(name, ()))) for name in names)
    return Table(rows, (*_on_policy(SMALL, (scale, cosine, noise)), *_moved(SMALL, (cosine, noise))))


def select_and_advantage() -> Table:
    """Every rule of selection with every advantage, for sums over tokens on the policy's own samples."""
    rows = tuple((f"**{name}**", (*PLAIN, f"algo/select={name}")) for name in options("select") if name != "extremes")
    columns = tuple(
        Column(name, SMALL, direction, (f"algo/advantage={name}", *NEEDED.get(name, ())))
        for name in options("advantage")
        if name != "gae"
    )
    return Table(rows, columns)


def aggregate() -> Table:
    """Every aggregation, of rewards as they are and of those of GRPO."""
    rows = tuple((f"**{name}**", (f"algo/aggregate={name}",)) for name in options("aggregate"))
    plain = ("algo=reinforce", "algo/clip=none")
    first = (Column(cell.__name__, SMALL, cell, plain) for cell in (scale, cosine, noise))
    return Table(rows, (*first, Column("cosine, GRPO", SMALL, cosine, ("algo=grpo",))))


def ratio() -> Table:
    """Every ratio, for sums and for means over tokens, where the policy has moved."""
    rows = tuple(
        (f"**{name}**, {rule}", ("algo=reinforce", "algo/clip=none", f"algo/ratio={name}", f"algo/aggregate={rule}"))
        for name in options("ratio")
        for rule in ("sequence_sum", "sequence_mean")
    )
    return Table(rows, (*_on_policy(SMALL, (cosine, noise)), *_moved(SMALL, (bias, cosine, noise))))


def clip() -> Table:
    """Every rule of clipping on the ratio of tokens, where the policy has moved."""
    rows = tuple((f"**{name}**", ("algo=reinforce", *SUM, f"algo/clip={name}")) for name in options("clip"))
    return Table(rows, _moved(SMALL, (scale, cosine, noise)))


def tokens() -> Table:
    """Every choice of tokens."""
    rows = tuple((f"**{name}**", (*PLAIN, f"algo/tokens={name}")) for name in options("tokens"))
    return Table(rows, (*_on_policy(SMALL, (scale, cosine, noise)), *_moved(SMALL, (cosine, noise))))


PLACES = (
    ("in the loss", ("algo.kl.place=loss",)),
    ("in the loss, weighted by the ratio", ("algo.kl.place=loss", "algo.kl.weight=ratio")),
    ("in the reward", ("algo.kl.place=reward",)),
)


def kl() -> Table:
    """Every estimator of the KL, in the loss and in the reward, without any reward besides."""
    rows = tuple(
        (f"**{name}**, {title}", (*PLAIN, f"algo/kl={name}", "algo.kl.coef=1.0", *place))
        for title, place in PLACES
        for name in ("k1", "k2", "k3")
    )
    cells = (bias, bias_of_steps, noise)
    return Table(rows, (*_on_policy(KL_ALONE, cells), *_moved(KL_ALONE, cells[:2])))


SAMPLERS = (
    ("noise in the logits", replace(THREE, mismatch=0.5), ()),
    ("3 bits", THREE, ("engine/alter=int8", "engine.alter.bits=3")),
    ("temperature 0.8", THREE, ("engine/alter=temperature",)),
    ("top 2 of 3", THREE, ("engine/alter=top_k", "engine.alter.k=2")),
)


def correction() -> Table:
    """Every correction for samplers that are off in different ways."""
    rows = tuple((f"**{name}**", (*PLAIN, f"algo/correction={name}")) for name in options("correction"))
    uncapped = tuple(
        (f"{name}, no cap", (*PLAIN, f"algo/correction={name}", "algo.correction.cap=1e9"))
        for name in ("truncated", "sequence_truncated")
    )
    columns = tuple(Column(title, asked, accuracy, words) for title, asked, words in SAMPLERS)
    return Table((*rows, *uncapped), columns)


COLLECTORS = (
    ("fixed", ()),
    ("refill", ("collector=refill",)),
    ("adaptive, positives", ("collector=adaptive", "collector.samples=4", "collector.goal=positives")),
    ("adaptive, balance", ("collector=adaptive", "collector.samples=4", "collector.goal=balance")),
    ("budgets", ("collector=budgets", "collector.presamples=4", "collector.gradient=all")),
)
DRAWN = replace(SMALL, draws=4000)


def collector() -> Table:
    """Every collector, with group advantages and with RAFT, over iterations that are drawn."""
    rows = tuple((f"**{name}**", words) for name, words in COLLECTORS)
    group = ("algo=grpo", "algo/clip=none", "algo.advantage.scale=none", *SUM)
    return Table(
        rows,
        (
            Column("responses", DRAWN, responses, group),
            *(Column(cell.__name__, DRAWN, cell, group) for cell in (scale, cosine, noise)),
            *(Column(f"{cell.__name__}, RAFT", DRAWN, cell, ("algo=raft", *SUM)) for cell in (cosine, noise)),
        ),
    )


TABLES = {
    table.__name__: table
    for table in (algorithms, select_and_advantage, aggregate, ratio, clip, tokens, kl, correction, collector)
}


def lines(name: str) -> Iterator[str]:
    """A table as Markdown, line by line as its rows are measured."""
    table = TABLES[name]()
    yield f"| | {' | '.join(column.title.replace('_', ' ') for column in table.columns)} |"
    yield "|---|" + "---:|" * len(table.columns)
    for title, words in table.rows:
        yield f"| {title} | {' | '.join(cells_of(words, table.columns))} |"


def cells_of(words: Sequence[str], columns: Sequence[Column]) -> Iterator[str]:
    """The cells of a row; columns that are measured in the same way share what was measured."""
    found: dict[tuple[Asked, tuple[str, ...]], Answer | None] = {}
    for column in columns:
        key = (column.asked, column.words)
        if key not in found:
            found[key] = _measured([*column.words, *words], column.asked)
        answer = found[key]
        yield "–" if answer is None else column.cell(answer)


def _measured(words: Sequence[str], asked: Asked) -> Answer | None:
    """The answer, or None where the algorithm refuses the combination."""
    try:
        return oracle(words, asked)[1]
    except ConfigError:
        return None
