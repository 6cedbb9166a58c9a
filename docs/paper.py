"""Figures and verdicts of docs/paper.md, written from a study: `python docs/paper.py multirun/miniature`.

The figures are copied from the study's report, which the sweep wrote and `winnow report` writes again. Text outside the
marked blocks of the page is kept.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from winnow.study.claims import ClaimVerdict, verdicts
from winnow.study.study import Study, read_study
from winnow.study.tables import claims_list, claims_table, figures_table, table_1

PAGE = Path(__file__).with_name("paper.md")
PICTURES = PAGE.with_name("paper")
FIGURES = ("final_accuracy", "figure1", "figure2", "figure3", "figure4", "waterfall", "accuracy_kl", "budgets")
"""The report's figures that the page shows."""
FAMILIES = ("Table 1", "Figure 1", "Figure 2", "Figure 3", "Figure 4")


def blocks(study: Study) -> dict[str, str]:
    """The content of each marked block of the page, by the name in its mark."""
    on_claims = verdicts(study)
    by_family = {family: [v for v in on_claims if v.claim.family == family] for family in FAMILIES}
    return {
        "scope": scope(study),
        "verdicts": overview(on_claims),
        "table 1": table_1(study).markdown(),
        "figures": figures_table(study).markdown(),
        **{
            f"claims {name}": f"{claims_list(group)}\n\n{claims_table(group).markdown()}"
            for name, group in by_family.items()
        },
    }


def scope(study: Study) -> str:
    """`13 arms × 5 seeds × 48 iterations.`, then failed jobs and other differences between runs."""
    seeds = {len(arm.runs) for arm in study.arms}
    iterations = {run.iterations for arm in study.arms for run in arm.runs}
    lines = [f"{len(study.arms)} arms × {_range(seeds)} seeds × {_range(iterations)} iterations."]
    lines += [f"Failed: {job.overrides} ({job.reason})." for job in study.failed]
    return " ".join([*lines, *study.differences])


def overview(on_claims: Sequence[ClaimVerdict]) -> str:
    """Markdown table of all claims with their outcomes."""
    rows = [f"| {v.claim.source} | {v.claim.question} {v.claim.statement} | **{v.outcome}** |" for v in on_claims]
    return "\n".join(["| source | question, and what the paper says | here |", "|---|---|---|", *rows])


def filled(text: str, content: Mapping[str, str]) -> str:
    """The page's text with each block between `<!-- NAME -->` and `<!-- end -->` replaced."""
    for name, block in content.items():
        replacement: Callable[[re.Match[str]], str] = lambda m, b=block: f"{m[1]}{b}\n{m[2]}"  # noqa: E731
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", replacement, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{PAGE}: {count} blocks <!-- {name} -->, expected one")
    return text


def shrink(source: Path, target: Path) -> None:
    """Copy a picture with 256 colours, which suffice for lines and bands on white and halve the file. The repository
    keeps every version of it."""
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(256).save(target, optimize=True)


def _range(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def main(top: Path) -> None:
    missing = [name for name in FIGURES if not (top / "figures" / f"{name}.png").is_file()]
    if missing:
        raise SystemExit(f"{top}: no figures/{missing[0]}.png; type winnow report {top} once all of its arms have run")
    PICTURES.mkdir(exist_ok=True)
    for name in FIGURES:
        shrink(top / "figures" / f"{name}.png", PICTURES / f"{name}.png")
    PAGE.write_text(filled(PAGE.read_text(), blocks(read_study([top]))))
    print(f"{PAGE}: figures and verdicts of {top}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
