"""A GRPO step of Winnow against one of TRL's GRPOTrainer: same weights, prompts, lengths and optimiser steps.

TRL's side is a script outside this repository, which `BENCH_TRL` names. The group size is the same, and processes of
the two sides alternate. Both sides of a pair share a seed, which determines the weights and the prompts, and the
prompts come in TRL's own order.

The lengths of completions under random weights depend on the seed more than on anything else, so there are two ragged
modes. `ragged` is the point for which TRL's own figures are known: the script's default seed, one step to warm up and
two timed steps, with 26.5 tokens on average. Our completions are other draws from the same weights, and differ in each
pair. `ragged_seeds` uses other weights and prompts in each pair, two steps to warm up and four timed steps (30 to 82
tokens).

TRL's figure is the CPU seconds of its process from `on_step_begin` to `on_step_end`: sampling, reward, loss and step,
but not its logging. Our figure is the CPU seconds of the whole process tree from the end of one iteration's update to
the end of the next, which also includes metrics, samples and bookkeeping.

The script rewards the parity of a completion's ids, which takes less than a thousandth of its step. Our verdicts are
scripted so that half of every group is right. Every row of GRPO then has an advantage other than zero, and no time is
saved on rows without one.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.records import Measurement, Named, Part, Value, ratios, spread
from benchmarks.runs import Iteration, run, timed
from benchmarks.workload import Shape, Work

PAIRS = 5
ALGORITHMS = ("grpo", "raftpp", "reinforce_rej")


@dataclass(frozen=True, slots=True)
class Mode:
    """A distribution of lengths, the algorithms compared under it, and the steps of a process.

    `eos_scale` multiplies the end-of-sequence row of the head; with 0 no token ends a completion. With `seeded` each
    pair has its own seed; otherwise all pairs have the script's default.
    """

    name: str
    says: str
    eos_scale: float
    algorithms: tuple[str, ...] = ALGORITHMS
    warm_up: int = 2
    steps: int = 4
    seeded: bool = True


MODES = (
    Mode("ragged", "ragged lengths, mean 26.5", 20, warm_up=1, steps=2, seeded=False),
    Mode("forced", "all of 128 tokens", 0),
    Mode("ragged_seeds", "ragged lengths, five seeds", 20, ALGORITHMS[:1]),
)


def key_of(mode: str, algo: str) -> str:
    """The key of TRL's GRPO step ÷ our step of `algo`."""
    return f"trl_over_ours_{mode}" if algo == ALGORITHMS[0] else f"trl_over_ours_{mode}_{algo}"


FIGURES = (
    *(
        Named(key_of(mode.name, algo), f"TRL's GRPO step ÷ our {algo} step, {mode.says}", "×")
        for mode in MODES
        for algo in mode.algorithms
    ),
    *(
        named
        for mode in MODES
        for named in (
            Named(f"trl_over_ours_{mode.name}_per_token", f"the same per completion token, GRPO ({mode.name})", "×"),
            Named(f"trl_step_{mode.name}_cpu_s", f"TRL's step ({mode.name})", "CPU-s"),
            Named(f"ours_step_{mode.name}_cpu_s", f"our GRPO step ({mode.name})", "CPU-s"),
            Named(f"trl_completion_{mode.name}_tokens", f"TRL's mean completion ({mode.name})", "tokens", 1),
            Named(f"ours_completion_{mode.name}_tokens", f"our mean completion ({mode.name})", "tokens", 1),
            Named(
                f"ours_live_rows_{mode.name}", f"rows of our GRPO step with an advantage, of 32 ({mode.name})", digits=0
            ),
        )
    ),
    Named("trl_over_ours_pairs", "interleaved pairs of processes in each mode", "", 0),
)


@dataclass(frozen=True, slots=True)
class Side:
    """Means over the timed steps of one process."""

    cpu_s: float
    completion_tokens: float
    live_rows: float


def skipped() -> str | None:
    """Reason for a skip: `BENCH_TRL` is not set, or names no file."""
    script = os.environ.get("BENCH_TRL")
    if not script:
        return (
            "BENCH_TRL is not set: it names the script that times TRL's step; BENCH_TRL=…/trl_grpo_step.py make bench"
        )
    return None if Path(script).is_file() else f"BENCH_TRL={script}: no such file"


def measured(pairs: int = PAIRS, modes: Sequence[Mode] = MODES) -> Measurement:
    """Measure `pairs` pairs of processes in each of `modes`."""
    figures: dict[str, Value] = {"trl_over_ours_pairs": pairs}
    raw: list[dict] = []
    for mode in modes:
        theirs: list[Side] = []
        ours: dict[str, list[Side]] = {algo: [] for algo in mode.algorithms}
        for pair in range(pairs):
            work = Work(
                iterations=mode.warm_up + mode.steps,
                forced=mode.eos_scale == 0,
                eos_scale=mode.eos_scale or 1.0,
                seed=pair if mode.seeded else 0,
                draws=pair,
            )
            result = their_step(os.environ["BENCH_TRL"], work, mode.warm_up, "--engine", "generate", "--threads", "1")
            theirs.append(Side(result["cpu_s_per_step"], result["mean_completion"], work.prompts * work.samples))
            raw.append({"mode": mode.name, "pair": pair, "side": "trl", **result})
            for algo in mode.algorithms:
                iterations = [t.iteration for t in timed(work, [f"algo={algo}"], mode.warm_up)]
                require_same_prompts(result, iterations)
                ours[algo].append(side_of(iterations))
                raw.append({"mode": mode.name, "pair": pair, "side": algo, "steps": [summary(i) for i in iterations]})
            said = ", ".join(f"{algo} {sides[-1].cpu_s:.2f}" for algo, sides in ours.items())
            print(
                f"  {mode.name}, pair {pair + 1} of {pairs}: TRL {theirs[-1].cpu_s:.2f} CPU-s a step, ours {said}",
                flush=True,
            )
            figures["trl_their_versions"] = ", ".join(
                f"{name} {result[name]}" for name in ("trl", "transformers", "torch")
            )
        figures |= compared(mode.name, theirs, ours)
    return figures, raw


def compared(mode: str, theirs: Sequence[Side], ours: dict[str, list[Side]]) -> dict[str, Value]:
    """Figures of one mode, from processes that were paired in order."""
    figures: dict[str, Value] = {}
    for algo, sides in ours.items():
        figures |= spread(key_of(mode, algo), ratios([s.cpu_s for s in theirs], [s.cpu_s for s in sides]))
    grpo = ours[ALGORITHMS[0]]
    per_token = [[s.cpu_s / s.completion_tokens for s in sides] for sides in (theirs, grpo)]
    figures |= spread(f"trl_over_ours_{mode}_per_token", ratios(*per_token))
    for name, sides in (("trl", theirs), ("ours", grpo)):
        figures |= spread(f"{name}_step_{mode}_cpu_s", [s.cpu_s for s in sides])
        figures |= spread(f"{name}_completion_{mode}_tokens", [s.completion_tokens for s in sides])
    figures[f"ours_live_rows_{mode}"] = median(s.live_rows for s in grpo)
    return figures


def their_step(script: str, work: Work, warm_up: int, *more: str) -> dict:
    """The RESULT line of TRL's script for `work`.

    Raises:
        RuntimeError: the script ended without such a line.
    """
    shape = work.model
    assert isinstance(shape, Shape)
    settings = {
        "steps": work.iterations - warm_up,
        "warmup": warm_up,
        "seed": work.seed,
        "eos-scale": 0 if work.forced else work.eos_scale,
        "hidden": shape.hidden,
        "layers": shape.layers,
        "heads": shape.heads,
        "kv-heads": shape.kv_heads,
        "vocab": shape.vocab,
        "prompt-len": work.prompt_tokens,
        "prompts": work.prompts,
        "group": work.samples,
        "max-new": work.max_tokens,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    said = run([sys.executable, script, *options, *more])
    found = [line for line in said.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise RuntimeError(f"{script} gave no RESULT line:\n{said[-3000:]}")
    return json.loads(found[-1].removeprefix("RESULT "))


def require_same_prompts(result: dict, iterations: Sequence[Iteration]) -> None:
    """Compare the numbers of prompt tokens of both sides.

    TRL's number follows from its speeds, which are rounded, so a difference of 1 % is allowed.

    Raises:
        RuntimeError: the two sides were given different prompts, so the comparison would be meaningless.
    """
    theirs = (result["total_tok_per_s"] - result["completion_tok_per_s"]) * result["s_per_step"] * result["steps"]
    ours = sum(row.prompt_tokens for i in iterations for row in i.rows)
    if abs(theirs - ours) > 0.01 * ours:
        raise RuntimeError(f"TRL was given {theirs:.0f} prompt tokens and we {ours}: this version draws other prompts")


def side_of(iterations: Sequence[Iteration]) -> Side:
    """The means of our iterations."""
    return Side(
        fmean(i.step.cpu for i in iterations),
        sum(i.completion_tokens for i in iterations) / sum(len(i.rows) for i in iterations),
        fmean(len(i.trained) for i in iterations),
    )


def summary(iteration: Iteration) -> dict[str, float]:
    """An iteration as it is kept in `raw/trl.json`."""
    prompts = {row.prompt: row.prompt_tokens for row in iteration.rows}
    return {
        "cpu_s": iteration.step.cpu,
        "wall_s": iteration.step.wall,
        "rollout_cpu_s": iteration.rollout.cpu,
        "update_cpu_s": iteration.update.cpu,
        "completion_tokens": iteration.completion_tokens,
        "prompt_tokens": sum(prompts.values()),
        "live_rows": len(iteration.trained),
    }


PART = Part(
    "trl",
    "A GRPO step of Winnow against one of TRL's GRPOTrainer: same weights, prompts, lengths and optimiser steps.",
    FIGURES,
    measured,
    skipped,
)
