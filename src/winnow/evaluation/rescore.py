"""`winnow rescore`: another verifier's verdicts on samples that are there already."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from winnow.errors import ConfigError
from winnow.evaluation import sample
from winnow.evaluation.figures import average, figures, table
from winnow.evaluation.results import read_results, subject_of, write_plan, write_results, write_summary
from winnow.evaluation.sample import Sample
from winnow.evaluation.store import Store
from winnow.rewards.pool import VerifierPool
from winnow.rewards.verdict import Verdict

AT_ONCE = 4096


def rescore(source: Path, target: Path, verifiers: Callable[[str], VerifierPool], out: TextIO) -> None:
    """Judge every response in `source` anew, each set by what `verifiers` gives for its name, and write `target`.

    Raises:
        ConfigError: `source` is no evaluation that has ended, or `target` is there already.
    """
    began = time.perf_counter()
    before = read_results(source)
    if target.exists():
        raise ConfigError(f"{target}: is there already; type the name of a new directory")
    (target / "samples").mkdir(parents=True)
    subject, found, store = subject_of(before), [], Store(target / "samples")
    for name, plan in subject.sets.items():
        old = sample.read(source / "samples" / f"{name}.parquet")
        with verifiers(name) as pool:
            new, settings = judged(old, pool), pool.settings
        subject = replace(subject, sets=subject.sets | {name: replace(plan, verifier=settings)})
        store.write(name, 0, new)
        store.seal(name, 1)
        found.append(figures(name, new, before["sets"][name]["whole"], settings))
        flips = Counter((a.verdict, b.verdict) for a, b in zip(old, new, strict=True) if a.verdict != b.verdict)
        changed = ", ".join(f"{was} → {now} {count}" for (was, now), count in flips.most_common())
        out.write(f"{name}: {sum(flips.values())} of {len(new)} verdicts changed{': ' + changed if changed else ''}\n")
    seconds = time.perf_counter() - began
    write_plan(target, subject)
    write_results(target, subject, found, seconds)
    write_summary(target, subject, average(found), seconds)
    (target / "results.md").write_text(table(found) + "\n")
    out.write(f"\n{table(found)}\n")


def judged(samples: Sequence[Sample], pool: VerifierPool) -> list[Sample]:
    found = []
    for start in range(0, len(samples), AT_ONCE):
        some = samples[start : start + AT_ONCE]
        for s, judgement in zip(some, pool.judge([s.gold for s in some], [s.response for s in some]), strict=True):
            found.append(
                replace(
                    s,
                    extracted=judgement.answer,
                    verdict=judgement.verdict.value,
                    correct=judgement.verdict is Verdict.correct,
                    seconds=judgement.seconds,
                )
            )
    return found
