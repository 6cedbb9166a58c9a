"""Write the tables of docs/oracle.md and docs/mismatch.md: `python docs/oracle.py [TABLE …]`; all take some minutes."""

import re
import sys
from pathlib import Path

from winnow.assemble.oracle_tables import TABLES, lines

PAGES = [Path(__file__).parent / name for name in ("oracle.md", "mismatch.md")]


def main() -> None:
    """Measure the tables that are named, or all, and put each in its place."""
    for name in sys.argv[1:] or TABLES:
        table = "\n".join(lines(name))
        for page in PAGES:
            before = page.read_text()
            between = rf"(<!-- oracle {name} -->\n).*?(<!-- end -->)"
            page.write_text(
                re.sub(between, lambda found, t=table: f"{found[1]}{t}\n{found[2]}", before, flags=re.DOTALL)
            )
        print(f"{name}\n{table}\n", flush=True)


if __name__ == "__main__":
    main()
