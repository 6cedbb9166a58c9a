"""Memory of a run whose model is sharded: bytes that each rank keeps, and the most that it has resident.

`python -m benchmarks.sharded_memory [--ranks 1 2 4]` trains a Qwen2 of 216 M random weights for two iterations of few
tokens, float32 and AdamW on the CPU, with FSDP2 on so many ranks and with DDP on one, one run after the other. It takes
half an hour of two cores, and 20 GB of memory.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Qwen2Config

from benchmarks.process import peak_memory, reset_peak_memory
from benchmarks.runs import Iteration, Observer, measure, run
from benchmarks.workload import Shape, Work
from winnow import distributed
from winnow.training.modules import IterationModule

GB = 1e9
VOCABULARY = 32_768
"""Rows of the embedding; the tokenizer has far fewer tokens."""
MOMENTS = ("rollout", "update")


class Padded(Shape):
    """A shape whose embedding has `VOCABULARY` rows, with a tokenizer of `vocab` tokens."""

    def config(self) -> Qwen2Config:
        found = super().config()
        found.vocab_size = VOCABULARY
        return found


LARGE = Padded(hidden=1024, layers=12, heads=16, kv_heads=4, vocab=512)
WORK = Work(LARGE, prompts=4, samples=2, max_tokens=8, prompt_tokens=8, iterations=2, forced=True, hardware=())
# A script of verdicts is followed by each rank for itself.
ALIKE = ("algo=reinforce", "reward.verifier._target_=winnow.rewards.verifier.Verifier")
WORDS = ("hardware=cpu", "hardware.threads=1", "hardware.precision=32-true", *ALIKE)


class Memory(Observer):
    """Observer of the peak of each half of an iteration, and of the bytes of weights and moments that a rank holds."""

    def __init__(self) -> None:
        super().__init__()
        self._rollout = self._most = 0
        _remember_optimisers(self)
        self.optimizer: Optimizer | None = None

    def before_update(self) -> None:
        self._rollout = self._most_of(peak_memory())

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        assert self.optimizer is not None
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = [each for p in weights for each in self.optimizer.state[p].values()]
        self.found.append(
            {
                "weights": sum(map(_bytes, weights)),
                "moments": sum(map(_bytes, moments)),
                "whole": sum(p.numel() * p.element_size() for p in weights),
                "rollout": self._rollout,
                "update": self._most_of(peak_memory()),
            }
        )

    def most(self) -> int:
        """The most bytes that were resident at one time, of the whole process so far."""
        self._most_of(peak_memory())
        return self._most

    def _most_of(self, peak: int) -> int:
        self._most = max(self._most, peak)
        reset_peak_memory()
        return peak


def _remember_optimisers(memory: Memory) -> None:
    before = IterationModule.configure_optimizers

    def configure(self: IterationModule) -> Optimizer:
        memory.optimizer = before(self)
        return memory.optimizer

    IterationModule.configure_optimizers = configure


def _bytes(tensor: Tensor) -> int:
    own = distributed.local(tensor)
    return own.numel() * own.element_size()


def child(words: Sequence[str], directory: Path, out: Path) -> None:
    """Train in this process, one of the ranks, and write what was observed to `out.RANK`."""
    memory = Memory()
    measure(words, directory, 1, memory)
    last = memory.found[-1] | {"most": memory.most()}
    out.with_suffix(f".{os.environ.get('RANK', '0')}").write_text(json.dumps(last))


def observed(folder: Path, words: Sequence[str], strategy: str, ranks: int) -> list[dict[str, float]]:
    """What each rank of a run observed in its last iteration.

    Raises:
        RuntimeError: the run failed.
    """
    name = f"{strategy}_{ranks}"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    own = [*words, f"hardware.strategy={strategy}", f"hardware.devices={ranks}", "hardware.timeout=1800"]
    arguments = ["--child", json.dumps(own), str(folder / f"run_{name}"), str(folder / name)]
    said = run([sys.executable, *torchrun, "-m", "benchmarks.sharded_memory", *arguments])
    files = [folder / f"{name}.{rank}" for rank in range(ranks)]
    if not all(file.is_file() for file in files):
        raise RuntimeError(f"{name}: failed\n{said[-4000:]}")
    return [json.loads(file.read_text()) for file in files]


def main(words: Sequence[str]) -> None:
    """Measure, and print a table with a row for each way to train."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharded_memory", description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.child:
        child(json.loads(args.child[0]), Path(args.child[1]), Path(args.child[2]))
        return
    print("| | weights and moments of a rank | of the whole | peak, sampling | peak, updates | peak in all |")
    print("|---|---:|---:|---:|---:|---:|")
    with TemporaryDirectory() as name:
        folder = Path(name)
        overrides = [*WORK.words(folder), *WORDS]
        for strategy, ranks in [("ddp", 1), *(("fsdp", n) for n in args.ranks)]:
            rows = observed(folder, overrides, strategy, ranks)
            held = max(row["weights"] + row["moments"] for row in rows)
            share = held / (3 * rows[0]["whole"])
            peaks = " | ".join(_span([row[key] for row in rows]) for key in (*MOMENTS, "most"))
            print(f"| {strategy}, {ranks} | {held / GB:.2f} GB | {share:.3f} | {peaks} |", flush=True)


def _span(sizes: Sequence[float]) -> str:
    low, high = f"{min(sizes) / GB:.1f}", f"{max(sizes) / GB:.1f}"
    return f"{low} GB" if low == high else f"{low}–{high} GB"


if __name__ == "__main__":
    main(sys.argv[1:])
