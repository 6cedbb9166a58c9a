"""`python -m benchmarks [PART …]`: measure, print a table, and keep the figures in outputs/bench."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import latest, table
from benchmarks.parts import PARTS, Part, parts
from benchmarks.provenance import provenance
from winnow.assemble.common import quiet_libraries
from winnow.errors import CONFIG, DONE

DOCUMENT = Path("docs/performance.md")
WIDE = 180


def main(words: Sequence[str]) -> int:
    """Every part but those that this machine cannot measure; `table` measures nothing and writes the document's table."""
    args = _parser().parse_args(list(words))
    asked = args.parts or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS and asked != ["table"]]:
        print(f"error: {unknown[0]}: no such part; there are {', '.join(PARTS)}, and table alone", file=sys.stderr)
        return CONFIG
    if asked == ["table"]:
        table.fill(DOCUMENT, latest.read(args.out))
        print(f"{DOCUMENT}: the figures of {args.out / 'latest.json'}")
        return DONE
    quiet_libraries()
    known = parts(args.pairs)
    for name in asked:
        _measure(known[name], args)
    skipped = [name for name in asked if known[name].skipped() is not None]
    return CONFIG if args.parts and skipped else DONE


def _measure(part: Part, args: argparse.Namespace) -> None:
    if (why := part.skipped()) is not None:
        print(f"{part.name}: skipped. {why.why}", flush=True)
        latest.write(args.out, latest.without(latest.read(args.out), part.name, why))
        return
    print(f"{part.name}: {part.does}", flush=True)
    began = time.perf_counter()
    figures, raw = part.measured()
    figures |= provenance(part.name, _command(args), time.perf_counter() - began)
    (args.out / "raw").mkdir(parents=True, exist_ok=True)
    (args.out / "raw" / f"{part.name}.json").write_text(json.dumps(raw, indent=1) + "\n")
    found = latest.merged(latest.read(args.out), part.name, part.figures, figures)
    latest.write(args.out, found)
    _print(table.on_terminal(part, found))


def _print(shown: Table) -> None:
    """A file has no width: there every row is a line."""
    screen = Console()
    (screen if screen.is_terminal else Console(width=WIDE)).print(shown)


def _command(args: argparse.Namespace) -> str:
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {part.name:<10} {part.does}" for part in PARTS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the work costs, on one thread; figures go to outputs/bench/latest.json.",
        epilog=f"parts:\n{parts}\n  table      write the figures into {DOCUMENT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="all, unless some are named")
    parser.add_argument("--pairs", type=int, default=5, help="of interleaved processes, against TRL (default 5)")
    parser.add_argument(
        "--out", type=Path, default=latest.FOLDER, help="the folder of latest.json (default outputs/bench)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
