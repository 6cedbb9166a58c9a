"""Synthetic studies with gradient mass and with samples, some of which are hostile to a page."""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from study.studies import ARMS, write_study, write_summary_csv
from winnow.run_logs.run_files import SampleRecord

HOSTILE = "<script>alert('owned')</script> </pre></details> &amp; \x1b[31m ‮gnp \ud800 $x_1$ | `**`"
"""Markup, an entity, a terminal's escape, a right-to-left override, half a surrogate pair, mathematics and Markdown."""


def write_dressed(top: Path, arms: Iterable[str] = ARMS, seeds: Iterable[int] = range(5)) -> Path:
    """`write_study` with metrics `train/gradient_mass/*`, and samples of three iterations of each arm's first seed."""
    write_study(top, arms, seeds)
    for directory in sorted(path.parent for path in top.glob("*/metrics.jsonl")):
        _add_signal(directory / "metrics.jsonl")
        if json.loads((directory / "summary.json").read_text())["seed"] == min(seeds):
            for iteration in (1, 20, 40):
                write_samples(directory, iteration)
    return top


def write_samples(directory: Path, iteration: int, prompts: int = 9, response: str = "3+4={}" + 40 * "+1-1") -> None:
    """Write four responses to each prompt; the first one is correct and the last one hostile."""
    (directory / "samples").mkdir(exist_ok=True)
    records = [
        SampleRecord(
            iteration=iteration,
            prompt_key=f"train:{prompt}",
            sample=sample,
            prompt=f"3+4+{prompt}=",
            response=HOSTILE if sample == 3 else response.format(7 + sample),
            answer="7",
            extracted=None if sample == 3 else str(7 + sample),
            verdict="correct" if sample == 0 else "no_answer" if sample == 3 else "wrong",
            reward=1.0 if sample == 0 else -1.0,
            advantage=(1.5, -0.5, 0.0, None)[sample],
            kept=sample < 2,
            length=6,
            finish="eos",
        )
        for prompt in range(prompts)
        for sample in range(4)
    ]
    lines = "".join(json.dumps(asdict(record)) + "\n" for record in records)
    (directory / "samples" / f"iteration_{iteration:06d}.jsonl").write_text(lines)


def write_failed_job(top: Path, overrides: str, last_line: str) -> None:
    """Add a job to the sweep that left a log and no run."""
    with (top / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    jobs = [(int(r["job"]), r["overrides"], r["status"], int(r["exit_code"]), Path(r["directory"])) for r in table]
    directory = top / str(len(jobs))
    directory.mkdir()
    (directory / "output.log").write_text(f"started\n{last_line}\n")
    write_summary_csv(top, [*jobs, (len(jobs), overrides, "failed", 1, directory)])


def _add_signal(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[1:]:
        mixed = row["train/groups/frac_mixed"]
        row |= {
            "train/gradient_mass/positive": 0.5 * mixed,
            "train/gradient_mass/negative": 0.4 * mixed,
            "train/gradient_mass/tokens_frac": 0.9 * mixed,
            "train/gradient_mass/effective_rows": 200 * mixed,
        }
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
