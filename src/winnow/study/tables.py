"""Tables of a study: figures of every arm, the paper's Table 1 beside this study's, tuning, and claims."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from winnow.study import packaged_yaml
from winnow.study.arms import arm_title
from winnow.study.claims import ClaimVerdict, numeral
from winnow.study.measures import FINAL_ACCURACY, LATE_ACCURACY, MEASURES, START_ACCURACY, Measure, format_signed
from winnow.study.statistics import Difference, NoInterval
from winnow.study.study import Arm, Study
from winnow.study.tuning import Tuning, tuned_setting

TABLE_1: dict[str, dict[str, float | None]] = packaged_yaml("paper_table_1.yaml")
"""The paper's accuracies by arm and model; the arm `base` is the model before training."""
MODELS = {"qwen": "Qwen 7B", "llama": "LLaMA 3B"}
COLUMNS = (
    "final_accuracy",
    "late_accuracy",
    "late_kl",
    "late_entropy",
    "late_length",
    "sampled_tokens",
    "trained_tokens",
    "seconds",
)
"""Measures of the table of figures."""
FIGURE = re.compile(r"\[?[<+−-]?[×\d]|–|$")
"""Start of a cell that is a number."""


@dataclass(frozen=True, slots=True)
class Table:
    """Table of plain text. `bold` sets the last column in bold, and `align` aligns columns of numbers at the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: bool = False
    align: bool = True

    @property
    def numeric(self) -> set[int]:
        """The columns to align at the right; never the first."""
        columns = range(1, len(self.head)) if self.align else ()
        return {i for i in columns if all(FIGURE.match(row[i]) for row in self.rows)}

    def markdown(self) -> str:
        """The table in Markdown, with a line end after the last row."""
        rows = [[*row[:-1], f"**{row[-1]}**"] for row in self.rows] if self.bold else self.rows
        cells = [[markdown_text(text).replace("|", "\\|") for text in row] for row in (self.head, *rows)]
        lines = [cells[0], ["---"] * len(self.head), *cells[1:]]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def markdown_text(text: str) -> str:
    """Text that is shown as it is in Markdown: without tags, entities, links and pictures."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def figures_table(study: Study) -> Table:
    """A row for each arm: means over seeds with 95 % intervals."""
    columns = [(m, measure_column(study.arms, m)) for key in COLUMNS if (m := MEASURES[key]).recorded_in(study.arms)]
    titles = [m.title if m.unit in m.title else f"{m.title}, {m.unit}" for m, _ in columns]
    rows = [[arm.title, str(len(arm.runs)), *(cells[i] for _, cells in columns)] for i, arm in enumerate(study.arms)]
    return Table(["arm", "seeds", *titles], rows)


def table_1(study: Study) -> Table:
    """The rows of the paper's Table 1 for the study's arms, beside the study's final accuracy; gains are over the model
    before training."""
    base = _base_accuracy(study)
    published = TABLE_1["base"]
    theirs = [text for model in MODELS for text in (f"{published[model]}", "")]
    rows = [["before training", "", "–" if base is None else f"{base:.1f}", "", *theirs]]
    for label, accuracies in TABLE_1.items():
        arm = study.arm(label)
        if arm is None:
            continue
        final = list(FINAL_ACCURACY.by_seed(arm).values())
        gain = format_signed(fmean(final) - base) if final and base is not None else "–"
        ours = [str(len(arm.runs)), *measure_column([arm], FINAL_ACCURACY)]
        theirs = [text for model in MODELS for text in _with_gain(accuracies[model], published[model])]
        rows.append([arm_title(label), *ours, gain, *theirs])
    papers = [text for name in MODELS.values() for text in (f"paper: {name}", "gain")]
    return Table(["arm", "seeds", "final accuracy, %", "gain", *papers], rows)


def tuning_table(tuning: Tuning) -> Table:
    """Late accuracy of each algorithm at each setting and at its best, and how many seeds chose which setting."""
    settings = list(dict.fromkeys(tuned_setting(arm.label) for arms in tuning.tried.values() for arm in arms))
    rows = []
    for base, arms in tuning.tried.items():
        best = tuning.study.arm(base)
        assert best is not None
        *tried, at_its_best = measure_column([*arms, best], LATE_ACCURACY)
        by_setting = {tuned_setting(arm.label): cell for arm, cell in zip(arms, tried, strict=True)}
        chosen = Counter(tuned_setting(label) or "default" for label in tuning.chosen[base].values())
        counts = ", ".join(f"{setting} ({seeds})" for setting, seeds in chosen.most_common())
        cells = [by_setting.get(setting, "–") for setting in settings]
        rows.append([best.title, *cells, at_its_best, counts])
    names = [setting or "default" for setting in settings]
    return Table(["late accuracy, %", *names, "at its best", "chosen (seeds)"], rows)


def claims_table(verdicts: Sequence[ClaimVerdict]) -> Table:
    """A row for each claim: the paper's effect, ours with intervals over seeds and over prompts, and the verdict."""
    head = [
        "claim",
        "source",
        "paper",
        "here, 95 % CI over seeds (prompts fixed)",
        "95 % CI over prompts (seeds fixed)",
        "p (Holm)",
        "verdict",
    ]
    return Table(head, [_claim_row(verdict) for verdict in verdicts], bold=True)


def differences_table(study: Study, differences: Sequence[ClaimVerdict]) -> Table:
    """A row for each arm but the baseline: its paired difference in points, with interval, p-value and verdict."""
    base = differences[0].claim.title_of(differences[0].claim.a)
    head = ["arm", "seeds", f"difference to {base}, points", "95 % CI over seeds", "p (Holm)", "verdict"]
    return Table(head, [_difference_row(study, verdict) for verdict in differences], bold=True)


def sentences_list(verdicts: Sequence[ClaimVerdict]) -> str:
    """A line of a Markdown list for the sentence of each verdict."""
    return "\n".join(f"- {markdown_text(verdict.sentence)}" for verdict in verdicts)


def claims_list(verdicts: Sequence[ClaimVerdict]) -> str:
    """A Markdown paragraph for each claim: the question, the answer in a sentence, and the paper's figures."""
    claims = [(verdict.claim, verdict.sentence) for verdict in verdicts]
    return "\n".join(
        f"- **{claim.question}** {sentence}\n  Claimed: {claim.statement} ({claim.source}: {claim.paper}.)"
        for claim, sentence in claims
    )


def measure_column(arms: Sequence[Arm], measure: Measure) -> list[str]:
    """A cell for each arm, all in one number format: `91.0 [89.5, 92.5]`, or the reason why there is no interval:
    `91.0 (one run)`."""
    figures = [list(measure.by_seed(arm).values()) for arm in arms]
    text = measure.number_format([fmean(values) for values in figures if values])
    return [_measure_cell(arm, measure, values, text) for arm, values in zip(arms, figures, strict=True)]


def _measure_cell(arm: Arm, measure: Measure, values: Sequence[float], text: Callable[[float], str]) -> str:
    if not values:
        return "–"
    try:
        estimate = measure.over_seeds(arm)
    except NoInterval:
        return f"{text(fmean(values))} ({'one run' if len(values) == 1 else 'all the same'})"
    few = f" (of {numeral(len(values))})" if len(values) < len(arm.runs) else ""
    return f"{text(estimate.mean)} [{text(estimate.low)}, {text(estimate.high)}]{few}"


def _claim_row(verdict: ClaimVerdict) -> list[str]:
    claim, difference, effect = verdict.claim, verdict.difference, verdict.claim.measure.format_effect
    here = f"{effect(difference.mean)} [{effect(difference.low)}, {effect(difference.high)}]" if difference else "–"
    paper = "–" if claim.paper_effect is None else effect(claim.paper_effect)
    p = _p_value(verdict)
    return [claim.statement, claim.source, paper, here, _prompt_limits(difference), p, verdict.outcome]


def _difference_row(study: Study, verdict: ClaimVerdict) -> list[str]:
    """The mean over the seeds that both arms have is given without an interval, too."""
    claim, difference, effect = verdict.claim, verdict.difference, verdict.claim.measure.format_effect
    a, b = (claim.measure.by_seed(arm) if (arm := study.arm(label)) else {} for label in (claim.a, claim.b))
    gaps = [b[seed] - a[seed] for seed in a.keys() & b.keys()]
    mean = effect(fmean(gaps)) if gaps else "–"
    limits = f"[{effect(difference.low)}, {effect(difference.high)}]" if difference else "–"
    return [claim.title_of(claim.b), str(len(gaps)), mean, limits, _p_value(verdict), verdict.outcome]


def _p_value(verdict: ClaimVerdict) -> str:
    return "–" if verdict.p_holm is None else "<0.001" if verdict.p_holm < 0.001 else f"{verdict.p_holm:.3f}"


def _prompt_limits(difference: Difference | None) -> str:
    if difference is None or difference.prompts_low is None or difference.prompts_high is None:
        return "–"
    return f"[{format_signed(difference.prompts_low)}, {format_signed(difference.prompts_high)}]"


def _with_gain(accuracy: float | None, base: float | None) -> list[str]:
    return ["–", "–"] if accuracy is None or base is None else [f"{accuracy}", format_signed(accuracy - base)]


def _base_accuracy(study: Study) -> float | None:
    """Mean accuracy at iteration 0 over all runs."""
    accuracies = [START_ACCURACY.value(run) for arm in study.arms for run in arm.runs]
    accuracies = [accuracy for accuracy in accuracies if math.isfinite(accuracy)]
    return fmean(accuracies) if accuracies else None
