"""Accuracy of the verifiers: agreement with labelled cases, and verdicts on rewritten golds and near misses.

`WINNOW_DATA=… python -m benchmarks.verifier_study` writes the tables of docs/verifiers.md, and with `--check` only
tells whether they are up to date. It takes a few minutes on one core and gives the same tables on every machine.
"""

import argparse
import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.answer_near_misses import NEAR_MISSES
from benchmarks.answer_rewrites import REWRITINGS, Rewrite
from benchmarks.verifier_traps import TRAPS
from winnow.rewards.answers.text import last_boxed, normalize, read_number
from winnow.rewards.rules import Exact, MathVerify, Numeric, Rule
from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict

PAGE = Path(__file__).parents[1] / "docs" / "verifiers.md"
RULES: dict[str, Rule] = {"math_verify": MathVerify(), "numeric": Numeric(), "exact": Exact()}
SETS = {
    "math500": "math_verify",
    "minerva_math": "numeric",
    "olympiadbench": "math_verify",
    "gsm8k_test": "math_verify",
    "aime24": "math_verify",
    "amc23": "math_verify",
}
"""The verifier of each evaluation set."""

UNREADABLE = {
    "t(0,4]": "the text is broken upstream (it should be t ∈ (0, 4]); only the same text is accepted",
    r"f(x)=a x+b, where b is an arbitrary integer, and a is an arbitrary positive integer with \mho(a)=0": (
        "the gold is prose; only the same text is accepted"
    ),
}
"""Golds that no verifier can read, with the reason."""
FIRM = {
    "(2,1),(1,2),(-1,-20),(-20,-1)": "one list in four boxes; only the last box is read, here and in training",
}
"""Golds of firm rows on which math_verify disagrees with the label, with the reason."""
KNOWN = {("7.6 Z", "7.6 z"): "math-verify does not distinguish capitals from small letters"}
"""Pairs of gold and answer with an unexpected verdict that the tolerance does not explain, with the reason."""


Row = Mapping[str, str | bool | None]
"""A labelled case of verifier_cases.jsonl."""


@dataclass
class Rate:
    """Counts of judged answers: `accepted` of `rows` were correct. `others` are those with an unexpected verdict."""

    rows: int = 0
    accepted: int = 0
    others: list[tuple[str, str, Verdict]] = field(default_factory=list)

    def add(self, other: "Rate") -> None:
        self.rows, self.accepted, self.others = (
            self.rows + other.rows,
            self.accepted + other.accepted,
            self.others + other.others,
        )


def data() -> Path:
    """The directory $WINNOW_DATA."""
    return Path(os.environ["WINNOW_DATA"])


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of an evaluation set."""
    return [json.loads(line) for line in (data() / "eval" / f"{name}.jsonl").open(encoding="utf-8")]


def cases() -> list[Row]:
    """The labelled cases."""
    return [json.loads(line) for line in (data() / "verifier_cases.jsonl").open(encoding="utf-8")]


def rate(verifier: Verifier, golds: Sequence[str], rewrite: Rewrite, expected: bool) -> Rate:
    """The verdicts on `golds` changed by `rewrite`; `expected` says whether these should be correct."""
    pairs = [(gold, answer) for gold in golds if (answer := rewrite(gold)) is not None and answer != gold]
    judged = verifier.judge_answers([gold for gold, _ in pairs], [answer for _, answer in pairs])
    verdicts = [judgement.verdict for judgement in judged]
    others = [
        (*pair, verdict)
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if (verdict is Verdict.correct) is not expected
    ]
    return Rate(len(pairs), verdicts.count(Verdict.correct), others)


@cache
def rates(name: str, rule: str) -> dict[Rewrite, Rate]:
    """The rate of every rewriting and near miss of an evaluation set's golds under a rule."""
    golds = [row["answer"] for row in rows_of(name)]
    with Verifier(rule=RULES[rule], workers=1) as verifier:
        same = {rewrite: rate(verifier, golds, rewrite, True) for rewrite in REWRITINGS}
        return same | {rewrite: rate(verifier, golds, rewrite, False) for rewrite in NEAR_MISSES}


def total(found: Iterable[Rate]) -> Rate:
    """The sum of several rates."""
    whole = Rate()
    for one in found:
        whole.add(one)
    return whole


def within_tolerance(rule: Rule, gold: str, answer: str) -> bool:
    """True if both are plain numbers that differ by no more than the rule's relative tolerance."""
    left, right = read_number(normalize(gold)), read_number(normalize(answer))
    if not isinstance(rule, Numeric) or left is None or right is None:
        return False
    return abs(left.value - right.value) <= rule.relative * abs(left.value)


def reason(rule: Rule, gold: str, answer: str) -> str | None:
    """The reason for an unexpected verdict, or None if it is unknown."""
    if within_tolerance(rule, gold, answer):
        return f"within the tolerance of {rule.settings['relative']:g}"
    return KNOWN.get((gold, answer))


# --- tables ---------------------------------------------------------------------------------------------------------


def per_cent(part: int, whole: int) -> str:
    """A share in per cent, or a dash for none of none."""
    return f"{part / whole:.2%}" if whole else "–"


def code(text: str) -> str:
    """`text` as code in a cell of a Markdown table."""
    return "`" + text.replace("|", r"\|").replace("\n", " ") + "`"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def traps_table() -> str:
    """Table of the traps."""
    words = {"c": "correct", "w": "wrong", "n": "no answer"}
    return table(
        ("trap", "gold", "response", "math_verify", "numeric", "exact"),
        (
            (
                trap.trap,
                code(trap.gold),
                code(trap.response),
                words[trap.math_verify],
                words[trap.numeric],
                words[trap.exact],
            )
            for trap in TRAPS
        ),
    )


@cache
def agreement() -> dict[str, tuple[Counter[str], list[tuple[Row, Verdict]]]]:
    """Counts by category, and the disagreements, for each of the three `KINDS` of labelled cases."""
    found = {name: (Counter[str](), list[tuple[Row, Verdict]]()) for name in KINDS}
    rows = cases()
    with Verifier(workers=1) as verifier:
        preds = [str(row["pred"]) for row in rows]
        judged = verifier.judge_answers(
            [str(row["gold"]) for row in rows], [last_boxed(pred) or pred for pred in preds]
        )
    for row, judgement in zip(rows, judged, strict=True):
        counts, disagreements = found[kind_of(row)]
        counts[f"{row['category']} rows"] += 1
        counts[str(judgement.verdict)] += 1
        if (judgement.verdict is Verdict.correct) is row["equivalent"]:
            counts[f"{row['category']} agree"] += 1
        else:
            disagreements.append((row, judgement.verdict))
    return found


KINDS = ("firm, the box or the whole", "convention, the box or the whole", "needs a phrase's or the last number")


def kind_of(row: Row) -> str:
    """The kind of a labelled case, one of `KINDS`."""
    if row["extract"] not in (None, "boxed"):
        return KINDS[2]
    return KINDS[0] if row["strength"] == "firm" else KINDS[1]


def agreement_table() -> str:
    """Table of agreement by category and kind."""
    found = agreement()
    names = sorted(
        {key.removesuffix(" rows") for counts, _ in found.values() for key in counts if key.endswith(" rows")}
    )
    rows: list[list[object]] = []
    for name in names:
        cells = ((counts[f"{name} agree"], counts[f"{name} rows"]) for counts, _ in found.values())
        rows.append([name, *(f"{agree} of {of}" if of else "–" for agree, of in cells)])
    sums: list[object] = ["**all**"]
    for counts, _ in found.values():
        agree, of = (sum(count for key, count in counts.items() if key.endswith(end)) for end in (" agree", " rows"))
        sums.append(f"**{agree} of {of} ({agree / of:.1%})**")
    rows.append(sums)
    for verdict in (Verdict.timeout, Verdict.crash):
        rows.append([f"{verdict}", *(counts[str(verdict)] for counts, _ in found.values())])
    return table(("category", *KINDS), rows)


def disagreements_table() -> str:
    """Table of the disagreements, without the rows that need another extraction."""
    lines = []
    for kind, (_, disagreements) in list(agreement().items())[:2]:
        for row, verdict in disagreements:
            why = FIRM.get(str(row["gold"])) if kind == KINDS[0] else row["note"]
            pred = str(row["pred"])
            lines.append((kind.split(",")[0], code(str(row["gold"])), code(pred), f"{verdict}", why))
    return table(("strength", "gold", "answer", "verdict", "reason"), lines)


def golds_table() -> str:
    """Table of the golds that can be read."""
    lines = []
    for name, rule in SETS.items():
        golds = [row["answer"] for row in rows_of(name)]
        with Verifier(rule=RULES[rule], workers=1) as verifier:
            bad = verifier.check_golds(golds)
        why = "; ".join(f"{code(golds[index])}: {UNREADABLE[golds[index]]}" for index in bad)
        lines.append((name, rule, len(golds), len(golds) - len(bad), why or "–"))
    return table(("set", "verifier", "golds", "readable", "exceptions"), lines)


def rates_table() -> str:
    """Table of acceptance by set and verifier; near misses within the tolerance are counted separately."""
    lines = []
    for name, chosen in SETS.items():
        for rule in RULES:
            same, other = (total(rates(name, rule)[rewrite] for rewrite in kind) for kind in (REWRITINGS, NEAR_MISSES))
            close = sum(within_tolerance(RULES[rule], gold, answer) for gold, answer, _ in other.others)
            bold = "**" if rule == chosen else ""
            cells = (rule, same.rows, same.accepted, per_cent(same.accepted, same.rows))
            more = (other.rows, other.accepted, close, per_cent(other.accepted - close, other.rows))
            lines.append((name, *(f"{bold}{cell}{bold}" for cell in (*cells, *more))))
    head = (
        "set",
        "verifier",
        "rewritings",
        "accepted",
        "rate",
        "near misses",
        "accepted",
        "within tolerance",
        "others",
    )
    return table(head, lines)


def rewrites_table(rewrites: Sequence[Rewrite]) -> Callable[[], str]:
    """A function that makes the table of `rewrites`, with an example and the acceptance in every set."""

    def made() -> str:
        found: dict[str, list[str]] = {rewrite.__name__: [] for rewrite in rewrites}
        examples = dict.fromkeys(found, "")
        for name, rule in SETS.items():
            golds = [row["answer"] for row in rows_of(name)]
            for rewrite in rewrites:
                one = rates(name, rule)[rewrite]
                found[rewrite.__name__].append(f"{one.accepted} of {one.rows}" if one.rows else "–")
                fitting = (gold for gold in golds if len(gold) < 60 and rewrite(gold) not in (None, gold))
                if not examples[rewrite.__name__] and (gold := next(fitting, None)) is not None:
                    examples[rewrite.__name__] = f"{code(gold)} → {code(str(rewrite(gold)))}"
        lines = [(name.replace("_", " "), examples[name], *cells) for name, cells in found.items()]
        return table(("", "for example", *SETS), lines)

    return made


def exceptions_list() -> str:
    """List of all rewritings refused and all near misses accepted by the verifier of their set."""
    lines = []
    for name, rule in SETS.items():
        same, other = (total(rates(name, rule)[rewrite] for rewrite in kind) for kind in (REWRITINGS, NEAR_MISSES))
        for kind, found in (("rewriting refused", same), ("near miss accepted", other)):
            reasons: dict[str, list[str]] = {}
            for gold, answer, verdict in found.others:
                why = reason(RULES[rule], gold, answer) or f"UNEXPLAINED ({verdict})"
                reasons.setdefault(why, []).append(f"{code(gold)} ← {code(answer)}")
            lines += [f"- {name}, {kind}, {why} ({len(pairs)}): {', '.join(pairs)}" for why, pairs in reasons.items()]
        lines += [f"- {name}: none"] if not same.others and not other.others else []
    return "\n".join(lines)


def responses(gold: str, problem: str) -> dict[str, tuple[str, Verdict]]:
    """Whole responses to a problem, each with the verdict that a strict verifier gives."""
    return {
        "a wrong box, then the gold's": (rf"\boxed{{9999}}? No: \boxed{{{gold}}}.", Verdict.correct),
        "the gold's box, then a wrong one": (rf"\boxed{{{gold}}}? No: \boxed{{9999}}.", Verdict.wrong),
        "the gold's box, then an empty one": (rf"\boxed{{{gold}}} \boxed{{}}", Verdict.no_answer),
        "the gold without a box": (f"The answer is {gold}", Verdict.no_answer),
        "the gold in a box that does not close": (rf"The answer is \boxed{{{gold}", Verdict.no_answer),
        "the gold in an fbox": (rf"\fbox{{{gold}}}", Verdict.no_answer),
        "the prompt and its instruction": (rf"{problem} Put your final answer within \boxed{{}}.", Verdict.no_answer),
    }


def responses_table() -> str:
    """Table of the verdicts on whole responses."""
    found: dict[str, list[str]] = {}
    for rule in RULES.values():
        counts: Counter[str] = Counter()
        with Verifier(rule=rule, workers=1) as verifier:
            for name in SETS:
                rows = rows_of(name)
                made = [responses(row["answer"], row["problem"]) for row in rows]
                for kind in made[0]:
                    judged = verifier.judge([row["answer"] for row in rows], [one[kind][0] for one in made])
                    counts[kind] += len(rows)
                    counts[f"as expected {kind}"] += sum(
                        judgement.verdict is one[kind][1] for judgement, one in zip(judged, made, strict=True)
                    )
        for kind in made[0]:
            found.setdefault(kind, [str(made[0][kind][1]).replace("_", " ")]).append(
                f"{counts[f'as expected {kind}']} of {counts[kind]}"
            )
    return table(("response", "verdict", *RULES), ([kind, *cells] for kind, cells in found.items()))


BLOCKS: dict[str, Callable[[], str]] = {
    "traps": traps_table,
    "responses": responses_table,
    "golds": golds_table,
    "agreement": agreement_table,
    "disagreements": disagreements_table,
    "rates": rates_table,
    "rewritings": rewrites_table(REWRITINGS),
    "near misses": rewrites_table(NEAR_MISSES),
    "exceptions": exceptions_list,
}


def filled(text: str) -> str:
    """`text` with every block between `<!-- NAME -->` and `<!-- end -->` regenerated."""
    for name, block in BLOCKS.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, b=block: f"{m[1]}{b()}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Write or check the tables, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verifier_study", description="Tables of docs/verifiers.md."
    )
    parser.add_argument("--check", action="store_true", help="fail if the tables are out of date; write nothing")
    check = parser.parse_args().check
    logging.disable(logging.WARNING)  # math-verify warns that it has no time limit; the workers are killed instead
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if check:
        print("up to date" if before == after else "out of date: type python -m benchmarks.verifier_study")
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
