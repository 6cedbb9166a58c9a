"""Figures of docs/smollm.md, written from the runs of `make smollm-demo`: `python docs/smollm.py`.

Text outside the marked blocks of the page is kept.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from matplotlib.figure import Figure
from numpy.typing import NDArray
from paper import filled

from winnow.evaluation.intervals import Interval, accuracy, paired_difference
from winnow.library import Run
from winnow.run_logs.plot_style import PALETTE, style_axes
from winnow.run_logs.run_files import EvaluationCounts, RunFiles
from winnow.study.tables import Table

PAGE = Path(__file__).with_name("smollm.md")
PICTURE = PAGE.with_suffix(".png")
WARM_START, AFTER = Path("multirun/smollm_warm_start"), Path("multirun/smollm")
ARMS = {"raftpp": "RAFT++ on verified samples", "more_demonstrations": "control: the warm start's demonstrations again"}
ANSWERS = {name: Path("outputs/smollm") / name for name in ("untrained", "warm_start", "raftpp")}
"""Evaluations that hold the answers of seed 0, by the model that gave them."""
PROBLEMS = 6
"""Held-out problems whose answers the page shows: the first so many."""


def verdicts(counts: EvaluationCounts) -> NDArray[np.bool_]:
    """The verdicts of an evaluation as booleans (P, k), those of one prompt in any order."""
    return np.arange(counts.samples)[None, :] < np.asarray(counts.correct)[:, None]


def first_and_last(directory: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    evaluations = RunFiles(directory).evaluations()
    return verdicts(evaluations[0]), verdicts(evaluations[-1])


def seed_row(seed: str) -> list[str]:
    """Held-out accuracy along a seed's way, and what reinforcement learning and the control added to the warm start."""
    untrained, _ = first_and_last(WARM_START / seed)
    start, trained = first_and_last(AFTER / "raftpp" / seed)
    _, control = first_and_last(AFTER / "more_demonstrations" / seed)
    boxed = Run.read(AFTER / "raftpp" / seed).rows[1]["rollout/answer_found_frac"]
    levels = [percent(accuracy(yes)) for yes in (untrained, start, trained, control)]
    gains = [points(paired_difference(start, trained)), points(paired_difference(control, trained))]
    return [seed.removeprefix("seed_"), levels[0], levels[1], f"{100 * boxed:.0f} %", *levels[2:], *gains]


def percent(share: Interval) -> str:
    return f"{100 * share.estimate:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


def points(difference: Interval) -> str:
    low, high = (f"{100 * limit:+.1f}".replace("-", "−") for limit in (difference.low, difference.high))
    return f"{100 * difference.estimate:+.1f} ({low} to {high})".replace("-", "−")


def seeds_table(seeds: Sequence[str]) -> Table:
    head = [
        "seed",
        "as it comes",
        "after the warm start",
        "of its samples in a box",
        "after RAFT++",
        "after the control",
    ]
    return Table([*head, "RAFT++ adds", "RAFT++ above the control"], [seed_row(seed) for seed in seeds])


def answers_table() -> Table:
    """The first answer of each model to the first held-out problems."""
    rows = [first_answers(directory) for directory in ANSWERS.values()]
    lists = [str(row["prompt"]).partition("list of words: ")[2].partition("\n")[0].strip() for row in rows[0]]
    cells = [[f"`{words}`", *(shown(answers[i]) for answers in rows)] for i, words in enumerate(lists)]
    return Table(["reverse this list", "as it comes", "after the warm start", "after RAFT++"], cells, align=False)


def first_answers(directory: Path) -> list[dict[str, object]]:
    (file,) = (directory / "samples").glob("*.parquet")
    rows = parquet.read_table(file).to_pylist()
    return [row for row in rows if row["sample"] == 0][:PROBLEMS]


def shown(row: dict[str, object]) -> str:
    text = " ".join(str(row["response"]).replace("`", "'").split())
    return f"`{text}` {'right' if row['verdict'] == 'correct' else 'wrong'}"


def draw(seeds: Sequence[str]) -> None:
    """Held-out accuracy over minutes of training, a line for each seed of each arm, over that of the samples."""
    figure = Figure(figsize=(7.0, 3.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for colour, (arm, title) in zip(PALETTE, ARMS.items(), strict=False):
        for i, seed in enumerate(seeds):
            run = Run.read(AFTER / arm / seed)
            seconds = {int(row["iteration"]): row["time/total"] for row in run.rows}
            curve = [
                (seconds[e.iteration] / 60, 100 * verdicts(e).mean()) for e in RunFiles(run.directory).evaluations()
            ]
            axes.plot(*zip(*curve, strict=True), color=colour, marker="o", ms=3.5, label=None if i else title)
            samples = [(row["time/total"] / 60, 100 * row["rollout/acc"]) for row in run.rows if "rollout/acc" in row]
            if samples:
                text = None if i else "the share of right ones among its samples, 16 new lists at a time"
                axes.plot(*zip(*samples, strict=True), color=colour, lw=0.8, alpha=0.45, label=text)
    style_axes(axes, 9)
    axes.set(xlabel="minutes of one core, after the warm start", ylabel="held-out accuracy, %", ylim=(0, 100))
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(PICTURE)


def main() -> None:
    seeds = sorted(path.name for path in (AFTER / "raftpp").glob("seed_*"))
    if not seeds:
        raise SystemExit(f"{AFTER}: no runs; type make smollm-demo")
    draw(seeds)
    blocks = {"seeds": seeds_table(seeds).markdown(), "answers": answers_table().markdown()}
    PAGE.write_text(filled(PAGE.read_text(), blocks))
    print(seeds_table(seeds).markdown())
    print(f"{PAGE}: figures and answers of {AFTER}")


if __name__ == "__main__":
    main()
