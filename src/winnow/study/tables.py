"""Tables in Markdown."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from winnow.study import measures
from winnow.study.arms import title
from winnow.study.claim import Claim
from winnow.study.claims import Verdict
from winnow.study.figures import accuracy
from winnow.study.measures import Measure
from winnow.study.paper import BASE, TABLE_1
from winnow.study.sentences import figure, number
from winnow.study.statistics import Difference, Refused, over_seeds
from winnow.study.study import Arm, Study
from winnow.study.tuning import Tuning, setting

FIGURES = (
    measures.FINAL_ACCURACY,
    measures.LATE_ACCURACY,
    measures.LATE_KL,
    measures.LATE_ENTROPY,
    measures.LATE_LENGTH,
    measures.SAMPLED_TOKENS,
    measures.TRAINED_TOKENS,
    measures.SECONDS,
)


def figures_table(study: Study) -> str:
    """A row an arm: means over seeds with 95 % intervals."""
    head = ["arm", "seeds", *map(_headed, FIGURES)]
    rows = [[arm.title, str(len(arm.runs)), *(cell(arm, measure) for measure in FIGURES)] for arm in study.arms]
    return _table(head, rows)


def table_1(study: Study) -> str:
    """The paper's Table 1 beside this study's final accuracy; gains are over the model before training."""
    head = ["arm", "seeds", "final accuracy, %", "gain", "paper: Qwen 7B", "gain", "paper: LLaMA 3B", "gain"]
    base = _base(study)
    rows = [
        ["before training", "", "–" if base is None else f"{base:.1f}", "", f"{BASE.qwen}", "", f"{BASE.llama}", ""]
    ]
    for label, reported in TABLE_1.items():
        arm = study.arm(label)
        final = list(measures.FINAL_ACCURACY.by_seed(arm).values()) if arm else []
        gain = _plus(fmean(final) - base) if final and base is not None else "–"
        mine = [str(len(arm.runs)), cell(arm, measures.FINAL_ACCURACY)] if arm else ["0", "–"]
        theirs = [*_reported(reported.qwen, BASE.qwen), *_reported(reported.llama, BASE.llama)]
        rows.append([title(label), *mine, gain, *theirs])
    return _table(head, rows)


def tuning_table(tuning: Tuning) -> str:
    """Late accuracy of each algorithm at each setting, and at its best, with the settings that its seeds chose."""
    settings = list(dict.fromkeys(setting(arm.label) for arms in tuning.tried.values() for arm in arms))
    rows = []
    for base, arms in tuning.tried.items():
        by_setting = {setting(arm.label): cell(arm, measures.LATE_ACCURACY) for arm in arms}
        best = tuning.study.arm(base)
        assert best is not None
        picked = Counter(setting(label) or "default" for label in tuning.chosen[base].values())
        rows.append(
            [
                best.title,
                *(by_setting.get(one, "–") for one in settings),
                cell(best, measures.LATE_ACCURACY),
                ", ".join(f"{one} ({seeds})" for one, seeds in picked.most_common()),
            ]
        )
    return _table(["late accuracy, %", *(one or "default" for one in settings), "at its best", "chosen (seeds)"], rows)


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """A row a claim: what the paper has, what was found here over seeds and over prompts, and the verdict."""
    head = [
        "claim",
        "source",
        "paper",
        "here, 95 % over seeds (prompts fixed)",
        "95 % over prompts (seeds fixed)",
        "p (Holm)",
        "verdict",
    ]
    return _table(head, [_claim(verdict) for verdict in verdicts])


def claims_list(verdicts: Sequence[Verdict]) -> str:
    """A paragraph a claim: the question, the answer in a sentence, and the paper's figures."""
    return "\n".join(
        f"- **{verdict.claim.question}** {verdict.sentence}\n  Claimed: {verdict.claim.statement} {_paper(verdict.claim)}"
        for verdict in verdicts
    )


def cell(arm: Arm, measure: Measure) -> str:
    """`91.0 [89.5, 92.5]`; without an interval the reason: `91.0 (one run)`."""
    values = list(measure.by_seed(arm).values())
    if not values:
        return "–"
    try:
        estimate = over_seeds(values)
    except Refused:
        return f"{_figure(measure, fmean(values))} ({'one run' if len(values) == 1 else 'all the same'})"
    few = f" (of {number(len(values))})" if len(values) < len(arm.runs) else ""
    return (
        f"{_figure(measure, estimate.mean)} [{_figure(measure, estimate.low)}, {_figure(measure, estimate.high)}]{few}"
    )


def _claim(verdict: Verdict) -> list[str]:
    claim, difference = verdict.claim, verdict.difference
    here = _difference(claim.measure, difference.mean, difference.low, difference.high) if difference else "–"
    prompts = _prompts(difference)
    p = "–" if verdict.p_holm is None else f"{verdict.p_holm:.2g}"
    effect = "–" if claim.paper_effect is None else _signed(claim.measure, claim.paper_effect)
    return [claim.statement, claim.source, effect, here, prompts, p, f"**{verdict.outcome}**"]


def _paper(claim: Claim) -> str:
    return f"({claim.source}: {claim.paper}.)"


def _headed(measure: Measure) -> str:
    return measure.title if measure.unit in measure.title else f"{measure.title}, {measure.unit}"


def _prompts(difference: Difference | None) -> str:
    if difference is None or difference.prompts_low is None or difference.prompts_high is None:
        return "–"
    return f"[{_plus(difference.prompts_low)}, {_plus(difference.prompts_high)}]"


def _plus(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _difference(measure: Measure, mean: float, low: float, high: float) -> str:
    return f"{_signed(measure, mean)} [{_signed(measure, low)}, {_signed(measure, high)}]"


def _signed(measure: Measure, value: float) -> str:
    return f"×{figure(value)}" if measure.ratio else _plus(value)


def _figure(measure: Measure, value: float) -> str:
    if measure.unit == "%":
        return f"{value:.1f}"
    return f"{value / 1000:.0f}k" if abs(value) >= 10_000 else f"{value:.3g}"


def _reported(value: float | None, base: float | None) -> list[str]:
    return ["–", "–"] if value is None or base is None else [f"{value}", _plus(value - base)]


def _base(study: Study) -> float | None:
    """Mean accuracy at iteration 0 over all runs."""
    found = [accuracy(lambda _, iteration: iteration == 0)(run) for arm in study.arms for run in arm.runs]
    found = [value for value in found if math.isfinite(value)]
    return fmean(found) if found else None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in cells) + "\n"
