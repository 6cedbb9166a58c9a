"""Accuracy of `winnow plan` on this machine's CPU: predicted against measured memory and CPU seconds of whole runs.

The planner knows the machine by `winnow plan --calibrate` alone, whose models are none of those here. Memory is the
peak of resident memory of a whole run above what the process held after its imports, and time the CPU seconds of an
iteration, its files and bookkeeping included.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from torch import nn

from benchmarks.process import can_measure_memory, peak_memory, reset_peak_memory
from benchmarks.records import Measurement, Named, Part, Value, spread
from benchmarks.runs import Iteration, Observer, Timed, timed
from benchmarks.workload import QUIET, Shape, Work
from winnow.assemble.planning import Options, plan_with
from winnow.launch import programs
from winnow.launch.calibration import calibrate
from winnow.launch.in_process import run_in_process
from winnow.plan.machine import Machine
from winnow.plan.plan import Plan

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embedded model on its own task, with lengths and verdicts of its own; `seed` is that of the run."""

    iterations: int
    seed: int

    def words(self, folder: Path) -> list[str]:
        own = ["model=tiny", "hardware=cpu", "hardware.threads=1", f"seed={self.seed}", f"iterations={self.iterations}"]
        return [*QUIET, *own, "update.minibatches=4", "metrics.kl_rows=64", "optim.lr=5e-5"]


@dataclass(frozen=True, slots=True)
class Case:
    """A run, and what the planner is told about it: `assume` of its lengths and of the rows with a gradient."""

    says: str
    work: Work | Embedded
    words: tuple[str, ...]
    assume: tuple[str, ...] = ()


FORCED = ("response_share=1", "response_spread=0")
CASES = {
    "61m": Case(
        "GRPO, 61 M parameters (12 layers of 576), 64 rows of 64 tokens",
        Work(
            Shape(hidden=576, layers=12, heads=9, kv_heads=3),
            prompts=8, samples=8, max_tokens=64, iterations=4, forced=True,
        ),
        ("algo=grpo", "metrics.kl_rows=16", "rollout.max_prompt_tokens=96"),
        (*FORCED, "prompt_tokens=64", "kept=1"),
    ),
    "smollm": Case(
        "RAFT++, 108 M parameters (SmolLM2-135M's layers), gradient checkpointing, 16 rows of 48 tokens, half kept",
        Work(
            Shape(hidden=576, layers=30, heads=9, kv_heads=3, intermediate=1536),
            prompts=4, samples=4, max_tokens=48, iterations=4, forced=True, patterns=("1100",),
        ),
        ("algo=raftpp", "hardware.gradient_checkpointing=true", "rollout.max_prompt_tokens=96"),
        (*FORCED, "prompt_tokens=64", "kept=0.5"),
    ),
    "tiny": Case("GRPO of the embedded model on its task, as in the demo", Embedded(7, seed=3), ("algo=grpo",)),
}  # fmt: skip


class PeakOfRun(Observer):
    """Observer of the peak of resident memory since the imports."""

    def __init__(self) -> None:
        super().__init__()
        self.before = reset_peak_memory()

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        self.found.append({"peak_bytes": float(peak_memory() - self.before)})


def skipped() -> str | None:
    """Reason for a skip: peak memory is read from /proc."""
    return None if can_measure_memory() else "peak memory is read from /proc, which this system does not have"


def observed(case: Case) -> list[Timed]:
    """The iterations of a case's run, with the peak of memory up to the end of each."""
    return timed(case.work, case.words, WARM_UP, PeakOfRun)  # pyright: ignore[reportArgumentType]


def predicted(case: Case, machine: Machine, folder: Path) -> Plan:
    """The plan of a case. Lengths and verdicts of the embedded model are recorded from a run of another seed."""
    folder.mkdir()
    words = [*case.work.words(folder), *case.words]
    if isinstance(case.work, Work):
        return plan_with(machine, words, Options(assume=case.assume))
    run = folder / "run"
    with redirect_stdout(io.StringIO()):
        run_in_process(programs.installed("train"), [*words, "seed=8", "iterations=3", f"hydra.run.dir={run}"])
    return plan_with(machine, words, Options(lengths=run))


def measured() -> Measurement:
    """Calibrate, then predict and measure each case."""
    machine = calibrate(lambda line: print(f"  {line}", flush=True))
    figures: dict[str, Value] = {"plan_machine_calibrated": machine.measured}
    raw: list[dict] = []
    for name, case in CASES.items():
        with TemporaryDirectory() as folder:
            plan = predicted(case, machine, Path(folder) / "work")
        found = observed(case)
        figures |= compared(name, plan, found)
        raw += [{"case": name, "cpu_s": t.iteration.step.cpu, **t.observed} for t in found]
        shown = ", ".join(f"{figures[f'plan_{of}_{name}']:.2f}" for of in ("memory", "cpu"))
        print(f"  {name}: predicted ÷ measured memory and CPU seconds {shown}", flush=True)
    return figures, raw


def compared(name: str, plan: Plan, found: list[Timed]) -> dict[str, Value]:
    """Predicted and measured figures of a case, and predicted ÷ measured."""
    peak, seconds = max(t.observed["peak_bytes"] for t in found), [t.iteration.step.cpu for t in found]
    total, iteration = plan.fit.total, plan.timeline.iteration
    return {
        f"plan_memory_{name}": total / peak,
        f"plan_memory_{name}_predicted_gb": total / 1e9,
        f"plan_memory_{name}_measured_gb": peak / 1e9,
        f"plan_cpu_{name}": iteration / median(seconds),
        f"plan_cpu_{name}_predicted_s": iteration,
        **spread(f"plan_cpu_{name}_measured_s", seconds),
    }


PART = Part(
    "plan",
    "Predictions of `winnow plan` after `winnow plan --calibrate`, against runs of other models and settings.",
    tuple(
        named
        for name, case in CASES.items()
        for named in (
            Named(f"plan_memory_{name}", f"memory, predicted ÷ measured: {case.says}"),
            Named(f"plan_memory_{name}_predicted_gb", "memory that was predicted", "GB"),
            Named(f"plan_memory_{name}_measured_gb", "peak of resident memory above the imports'", "GB"),
            Named(f"plan_cpu_{name}", "CPU seconds of an iteration, predicted ÷ measured (median)"),
            Named(f"plan_cpu_{name}_predicted_s", "CPU seconds that were predicted", "CPU-s"),
            Named(f"plan_cpu_{name}_measured_s", "CPU seconds of an iteration", "CPU-s"),
        )
    ),
    measured,
    skipped,
)
