"""Write the figures and verdicts of docs/paper.md from a study: `python docs/paper.py multirun/miniature`.

The figures are those of its report, which the sweep leaves there (and `winnow report` makes anew). Text outside the marked
blocks is kept.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from winnow.study.claims import ClaimVerdict, verdicts
from winnow.study.study import Study, read_study
from winnow.study.tables import claims_list, claims_table, figures_table, table_1

PAGE = Path(__file__).with_name("paper.md")
PICTURES = PAGE.with_name("paper")
FIGURES = ("final_accuracy", "figure1", "figure2", "figure3", "figure4", "waterfall", "accuracy_kl", "budgets")
"""Of the report's figures, those that the page shows."""
FAMILIES = ("Table 1", "Figure 1", "Figure 2", "Figure 3", "Figure 4")


def blocks(study: Study) -> dict[str, str]:
    """What stands in the page under each mark."""
    found = verdicts(study)
    by_family = {family: [v for v in found if v.claim.family == family] for family in FAMILIES}
    return {
        "scope": scope(study),
        "verdicts": overview(found),
        "table 1": table_1(study),
        "figures": figures_table(study),
        **{f"claims {family}": f"{claims_list(of)}\n\n{claims_table(of)}" for family, of in by_family.items()},
    }


def scope(study: Study) -> str:
    seeds = {len(arm.runs) for arm in study.arms}
    iterations = {run.iterations for arm in study.arms for run in arm.runs}
    lines = [f"{len(study.arms)} arms × {_span(seeds)} seeds × {_span(iterations)} iterations."]
    lines += [f"Failed: {job.overrides} ({job.reason})." for job in study.failed]
    return " ".join([*lines, *study.differences])


def overview(found: list[ClaimVerdict]) -> str:
    rows = [f"| {v.claim.source} | {v.claim.question} {v.claim.statement} | **{v.outcome}** |" for v in found]
    return "\n".join(["| source | question, and what the paper says | here |", "|---|---|---|", *rows])


def filled(text: str, content: dict[str, str]) -> str:
    for name, block in content.items():
        keep: Callable[[re.Match[str]], str] = lambda m, b=block: f"{m[1]}{b}\n{m[2]}"  # noqa: E731
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", keep, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{PAGE}: {count} blocks <!-- {name} -->, there should be one")
    return text


def shrink(source: Path, target: Path) -> None:
    """A repository keeps every version of a picture: 256 colours are enough for lines and bands on white, at half of the size."""
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(256).save(target, optimize=True)


def _span(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def main(top: Path) -> None:
    missing = [name for name in FIGURES if not (top / "figures" / f"{name}.png").is_file()]
    if missing:
        raise SystemExit(f"{top}: no figures/{missing[0]}.png; type winnow report {top}, once all of its arms have run")
    PICTURES.mkdir(exist_ok=True)
    for name in FIGURES:
        shrink(top / "figures" / f"{name}.png", PICTURES / f"{name}.png")
    PAGE.write_text(filled(PAGE.read_text(), blocks(read_study([top]))))
    print(f"{PAGE}: figures and verdicts of {top}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
