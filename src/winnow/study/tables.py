"""What "A Minimalist Approach to LLM Reasoning: from Rejection Sampling to Reinforce" reports (arXiv 2504.11343v2, Table 1)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from winnow.study import measures
from winnow.study.arms import arm_title
from winnow.study.claims import Claim, ClaimVerdict, numeral, two_digits
from winnow.study.measures import Measure, accuracy_in
from winnow.study.statistics import Difference, NoInterval, over_seeds
from winnow.study.study import Arm, Study
from winnow.study.tuning import Tuning, tuned_setting


@dataclass(frozen=True, slots=True)
class Reported:
    """A row of Table 1: average@16 over MATH500, Minerva Math and OlympiadBench, in per cent; None: no such row."""

    qwen: float
    llama: float | None


BASE = Reported(23.6, 13.1)
TABLE_1 = {
    "raft": Reported(52.3, 25.9),
    "raftpp": Reported(56.1, 27.6),
    "dpo": Reported(48.8, None),
    "reinforce": Reported(53.9, 24.2),
    "grpo": Reported(56.3, 28.4),
    "ppo": Reported(52.5, 26.9),
    "reinforce_rej": Reported(56.4, 28.5),
}
"""Qwen2.5-Math-7B-base and LLaMA-3.2-3B-instruct, by arm."""

TABLE_MEASURES = (
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
    head = ["arm", "seeds", *map(_headed, TABLE_MEASURES)]
    rows = [
        [arm.title, str(len(arm.runs)), *(measure_cell(arm, measure) for measure in TABLE_MEASURES)]
        for arm in study.arms
    ]
    return _table(head, rows)


def table_1(study: Study) -> str:
    """The paper's Table 1 beside this study's final accuracy; gains are over the model before training."""
    head = ["arm", "seeds", "final accuracy, %", "gain", "paper: Qwen 7B", "gain", "paper: LLaMA 3B", "gain"]
    base = _base_accuracy(study)
    rows = [
        ["before training", "", "–" if base is None else f"{base:.1f}", "", f"{BASE.qwen}", "", f"{BASE.llama}", ""]
    ]
    for label, reported in TABLE_1.items():
        arm = study.arm(label)
        final = list(measures.FINAL_ACCURACY.by_seed(arm).values()) if arm else []
        gain = _plus(fmean(final) - base) if final and base is not None else "–"
        mine = [str(len(arm.runs)), measure_cell(arm, measures.FINAL_ACCURACY)] if arm else ["0", "–"]
        theirs = [*_reported(reported.qwen, BASE.qwen), *_reported(reported.llama, BASE.llama)]
        rows.append([arm_title(label), *mine, gain, *theirs])
    return _table(head, rows)


def tuning_table(tuning: Tuning) -> str:
    """Late accuracy of each algorithm at each setting, and at its best, with the settings that its seeds chose."""
    settings = list(dict.fromkeys(tuned_setting(arm.label) for arms in tuning.tried.values() for arm in arms))
    rows = []
    for base, arms in tuning.tried.items():
        by_setting = {tuned_setting(arm.label): measure_cell(arm, measures.LATE_ACCURACY) for arm in arms}
        best = tuning.study.arm(base)
        assert best is not None
        picked = Counter(tuned_setting(label) or "default" for label in tuning.chosen[base].values())
        rows.append(
            [
                best.title,
                *(by_setting.get(one, "–") for one in settings),
                measure_cell(best, measures.LATE_ACCURACY),
                ", ".join(f"{one} ({seeds})" for one, seeds in picked.most_common()),
            ]
        )
    return _table(["late accuracy, %", *(one or "default" for one in settings), "at its best", "chosen (seeds)"], rows)


def claims_table(verdicts: Sequence[ClaimVerdict]) -> str:
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
    return _table(head, [_claim_row(verdict) for verdict in verdicts])


def claims_list(verdicts: Sequence[ClaimVerdict]) -> str:
    """A paragraph a claim: the question, the answer in a sentence, and the paper's figures."""
    return "\n".join(
        f"- **{verdict.claim.question}** {verdict.sentence}\n  Claimed: {verdict.claim.statement} {_paper_words(verdict.claim)}"
        for verdict in verdicts
    )


def measure_cell(arm: Arm, measure: Measure) -> str:
    """`91.0 [89.5, 92.5]`; without an interval the reason: `91.0 (one run)`."""
    values = list(measure.by_seed(arm).values())
    if not values:
        return "–"
    try:
        estimate = over_seeds(values)
    except NoInterval:
        return f"{_value_cell(measure, fmean(values))} ({'one run' if len(values) == 1 else 'all the same'})"
    few = f" (of {numeral(len(values))})" if len(values) < len(arm.runs) else ""
    mean, low, high = (_value_cell(measure, x) for x in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]{few}"


def _claim_row(verdict: ClaimVerdict) -> list[str]:
    claim, difference = verdict.claim, verdict.difference
    here = _difference(claim.measure, difference.mean, difference.low, difference.high) if difference else "–"
    prompts = _prompts(difference)
    p = "–" if verdict.p_holm is None else f"{verdict.p_holm:.2g}"
    effect = "–" if claim.paper_effect is None else _signed(claim.measure, claim.paper_effect)
    return [claim.statement, claim.source, effect, here, prompts, p, f"**{verdict.outcome}**"]


def _paper_words(claim: Claim) -> str:
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
    return f"×{two_digits(value)}" if measure.ratio else _plus(value)


def _value_cell(measure: Measure, value: float) -> str:
    if measure.unit == "%":
        return f"{value:.1f}"
    return f"{value / 1000:.0f}k" if abs(value) >= 10_000 else f"{value:.3g}"


def _reported(value: float | None, base: float | None) -> list[str]:
    return ["–", "–"] if value is None or base is None else [f"{value}", _plus(value - base)]


def _base_accuracy(study: Study) -> float | None:
    """Mean accuracy at iteration 0 over all runs."""
    found = [accuracy_in(lambda _, iteration: iteration == 0)(run) for arm in study.arms for run in arm.runs]
    found = [value for value in found if math.isfinite(value)]
    return fmean(found) if found else None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in cells) + "\n"
