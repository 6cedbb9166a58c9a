"""`python -m benchmarks.parity` writes docs/parity.md, and says how far both sides are apart; it takes a minute."""

import json
import sys
from pathlib import Path

from benchmarks.parity.cases import CASES, PREFERENCE, both, figures
from benchmarks.parity.page import page
from benchmarks.parity.trl_side import trl_version

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
RECORDED = Path(__file__).parent / "recorded.json"


def main() -> None:
    """Write the page, and the figures of TRL's losses that tests without TRL hold ours to.

    Raises:
        PackageNotFoundError: TRL is not installed.
    """
    trl_version()
    PAGE.write_text(page(lambda line: print(line, file=sys.stderr)), encoding="utf-8")
    recorded = {case.name: figures(both(case)[1]) for case in (*CASES, *PREFERENCE)}
    RECORDED.write_text(json.dumps({"trl": trl_version()} | recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
