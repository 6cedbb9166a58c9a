"""Synthetic run directories and sweeps: the files that a study reads, with the figures that a test needs."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from winnow.launch.sweep_results import COLUMNS

ACCURACY = "eval/arithmetic/acc"
SETTINGS = {
    "iterations": 8,
    "rollout": {"prompts": 64, "samples": 4, "max_tokens": 72},
    "eval": {"samples": 4, "max_tokens": "${rollout.max_tokens}"},
    "optim": {"lr": 1e-4},
    "dataset": {"levels": [6]},
    "hardware": {"threads": 1},
    "logger": {"_target_": "winnow.run_logs.tracker.NullTracker"},
}
ARMS = {
    # final accuracy, late entropy, late KL
    "raft": (0.80, 0.030, 0.030),
    "raftpp": (0.84, 0.020, 0.035),
    "raftpp_no_clip": (0.74, 0.010, 0.060),
    "raftpp_clip_higher": (0.85, 0.026, 0.040),
    "grpo": (0.88, 0.080, 0.020),
    "reinforce": (0.60, 0.060, 0.200),
    "mean_zero": (0.885, 0.080, 0.050),
    "remove_all_correct": (0.55, 0.050, 0.250),
    "remove_all_wrong": (0.85, 0.040, 0.030),
    "reinforce_rej": (0.88, 0.075, 0.018),
    "remove_both_std": (0.88, 0.078, 0.019),
    "ppo": (0.72, 0.070, 0.025),
    "dpo": (0.50, 0.100, 0.010),
}
"""Round numbers in the order that the paper claims; they are not results."""

Height = float | Callable[[int], float]
Curves = Mapping[str, Height]


def rows(curves: Curves, iterations: int = 8, every: int = 2) -> list[dict[str, float]]:
    """A row for each iteration from 0: metrics under `eval/` every `every` iterations, others from iteration 1 on."""
    table = []
    for i in range(iterations + 1):
        at = {key: f for key, f in curves.items() if (i % every == 0 if key.startswith("eval/") else i > 0)}
        table.append({"iteration": i} | {key: f(i) if callable(f) else f for key, f in at.items()})
    return table


def write_run(
    directory: Path,
    arm: str | None,
    seed: int,
    table: Sequence[Mapping[str, float]],
    correct: Mapping[int, Sequence[int]] | None = None,
    overrides: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    algo: str = "grpo",
    status: str | None = "done",
    samples: int = 4,
) -> Path:
    """Write a run of train.py. `correct` has the number of correct samples of each prompt, by iteration. With status
    None the run has no summary.

    `settings` replaces top-level keys of SETTINGS.
    """
    hydra = directory / ".hydra"
    hydra.mkdir(parents=True)
    typed = [f"seed={seed}", f"arm={arm}" if arm else f"algo={algo}", *overrides]
    choices = {"arm": arm, "algo": algo, "model": "tiny", "dataset": "arithmetic", "debug": None}
    config = {"seed": seed, "algo": {"clip": {"high": 0.2}}} | SETTINGS | dict(settings or {})
    for name, content in (
        ("config.yaml", config),
        ("overrides.yaml", typed),
        ("hydra.yaml", {"hydra": {"runtime": {"choices": choices}}}),
    ):
        (hydra / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    _lines(directory / "metrics.jsonl", table)
    if correct:
        prompts = hashlib.sha256(str(len(next(iter(correct.values())))).encode()).hexdigest()[:12]
        line = {"set": "arithmetic", "samples": samples, "prompts": prompts}
        _lines(
            directory / "evaluations.jsonl", [{"iteration": i, **line, "correct": list(c)} for i, c in correct.items()]
        )
    if status is not None:
        accuracies = [row[ACCURACY] for row in table if ACCURACY in row] or [None]
        summary = {"status": status, "algo": algo, "model": "tiny", "dataset": "arithmetic", "seed": seed}
        figures = {
            "iterations": len(table) - 1,
            "eval_first": accuracies[0],
            "eval_last": accuracies[-1],
            "error": None,
        }
        (directory / "summary.json").write_text(json.dumps(summary | figures))
    return directory


def write_summary_csv(top: Path, jobs: Iterable[tuple[int, str, str, int | None, Path]]) -> None:
    """`summary.csv` of a sweep: number, overrides, status, exit code and directory of each job."""
    with (top / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, overrides, status, code, directory in jobs:
            row = {"job": number, "overrides": overrides, "status": status, "directory": directory}
            writer.writerow(row | {"exit_code": "" if code is None else code})


def write_study(top: Path, arms: Iterable[str] = ARMS, seeds: Iterable[int] = range(5), spread: float = 0.01) -> Path:
    """Write a sweep of 40 iterations over `arms` and `seeds`. Figures have noise of their own and of their seed."""
    jobs = []
    for arm in arms:
        for seed in seeds:
            directory = top / str(len(jobs))
            _write_made_up(directory, arm, seed, spread)
            jobs.append((len(jobs), f"seed={seed} arm={arm}", "done", 0, directory))
    write_summary_csv(top, jobs)
    return top


def _write_made_up(directory: Path, arm: str, seed: int, spread: float) -> None:
    end, entropy, kl = ARMS[arm]
    own = np.random.default_rng([seed, list(ARMS).index(arm)])
    end = end + spread * np.random.default_rng(seed).standard_normal() + spread * own.standard_normal() / 2
    factor = float(np.exp(0.1 * own.standard_normal()))
    solve = np.clip(own.normal(0, 0.15, 32), -0.3, 0.3)

    def accuracy(i: int) -> float:
        return float(np.clip(0.4 + (end - 0.4) * (1 - np.exp(-i / 10)) / (1 - np.exp(-4.0)), 0, 1))

    counts = {i: own.binomial(4, np.clip(accuracy(i) + solve, 0, 1)).tolist() for i in range(0, 41, 5)}
    curves: Curves = {
        ACCURACY: lambda i: sum(counts[i]) / 128,
        "eval/arithmetic/pass@1": lambda i: sum(counts[i]) / 128,
        "eval/arithmetic/pass@4": lambda i: sum(c > 0 for c in counts[i]) / 32,
        "eval/arithmetic/length": lambda i: 40 + i / 4,
        "rollout/acc": lambda i: accuracy(i) + 0.01 * own.standard_normal(),
        "train/reward/mean": lambda i: 2 * accuracy(i) - 1,
        "train/entropy": lambda i: factor * (entropy + 0.1 * float(np.exp(-i / 8))),
        "train/kl_ref": lambda i: factor * kl * i / 40,
        "train/clip_frac": lambda i: 0.02 * factor,
        "train/groups/frac_all_wrong": lambda i: 0.3 * float(np.exp(-i / 10)),
        "train/groups/frac_all_correct": lambda i: 0.6 * (1 - float(np.exp(-i / 10))),
        "train/groups/frac_mixed": lambda i: 1 - 0.6 + 0.3 * float(np.exp(-i / 10)),
        "rollout/length/mean": lambda i: 40 + i / 4 + own.standard_normal(),
        "train/sampled_tokens_total": lambda i: 10_000.0 * i,
        "train/tokens_trained_total": lambda i: 4_000.0 * i * factor,
        "time/total": lambda i: 2.0 * i * factor,
        "perf/iteration_s": 2.0 * factor,
    }
    write_run(directory, arm, seed, rows(curves, 40, 5), counts, settings={"iterations": 40})


def _lines(path: Path, table: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
