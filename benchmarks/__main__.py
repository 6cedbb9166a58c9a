"""Command line of the suite: `python -m benchmarks [PART …]` measures, prints tables and keeps the figures in
outputs/bench."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import cuda, matmul, plan_accuracy, records, rejection_cost, scaling, startup, trl, verifiers
from benchmarks.records import Part
from winnow.assemble.common import quiet_libraries
from winnow.errors import CONFIG, DONE

DOCUMENT = Path("docs/performance.md")
WIDE = 180
PARTS = {
    part.name: part
    for part in (
        trl.PART,
        rejection_cost.PART,
        matmul.PART,
        scaling.MEMORY,
        scaling.SCALING,
        verifiers.PART,
        startup.PART,
        cuda.PART,
        plan_accuracy.PART,
    )
}
"""The parts by name, in the order in which they are measured."""


def main(words: Sequence[str]) -> int:
    """Measure the named parts, or all that this machine can measure, and return the exit code.

    The word `table` alone measures nothing and writes the document's table.
    """
    args = _parser().parse_args(list(words))
    asked = args.parts or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS and asked != ["table"]]:
        print(f"error: {unknown[0]}: no such part; there are {', '.join(PARTS)}, and table alone", file=sys.stderr)
        return CONFIG
    if asked == ["table"]:
        records.fill(DOCUMENT, list(PARTS.values()), records.read(args.out))
        print(f"{DOCUMENT}: the figures of {args.out / 'latest.json'}")
        return DONE
    quiet_libraries()
    for name in asked:
        _measure(PARTS[name], args)
    skipped = [name for name in asked if PARTS[name].skipped() is not None]
    return CONFIG if args.parts and skipped else DONE


def _measure(part: Part, args: argparse.Namespace) -> None:
    if (why := part.skipped()) is not None:
        print(f"{part.name}: skipped. {why}", flush=True)
        records.write(args.out, records.without(records.read(args.out), part.name, why))
        return
    if part is trl.PART:
        part = replace(part, measured=partial(trl.measured, args.pairs))
    print(f"{part.name}: {part.does}", flush=True)
    began = time.perf_counter()
    figures, raw = part.measured()
    figures |= records.provenance(part.name, _command(), time.perf_counter() - began)
    (args.out / "raw").mkdir(parents=True, exist_ok=True)
    (args.out / "raw" / f"{part.name}.json").write_text(json.dumps(raw, indent=1) + "\n")
    found = records.merged(records.read(args.out), part.name, part.figures, figures)
    records.write(args.out, found)
    _print(records.on_terminal(part, found))


def _print(shown: Table) -> None:
    """Print the table; into a file, which has no width, so wide that every row is one line."""
    screen = Console()
    (screen if screen.is_terminal else Console(width=WIDE)).print(shown)


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {part.name:<10} {part.does}" for part in PARTS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what training costs, on one thread; figures go to outputs/bench/latest.json.",
        epilog=f"parts:\n{parts}\n  table      write the figures into {DOCUMENT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="all, unless some are named")
    parser.add_argument(
        "--pairs", type=int, default=trl.PAIRS, help=f"pairs of interleaved processes against TRL (default {trl.PAIRS})"
    )
    parser.add_argument(
        "--out", type=Path, default=records.FOLDER, help="the folder of latest.json (default outputs/bench)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
