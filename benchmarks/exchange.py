"""What two ranks send each other in an iteration, beside weights and gradients.

`python -m benchmarks.exchange` trains random Qwen2 models for three iterations on two ranks, and counts the bytes that
the first one sends by `distributed.all_gather`, by what they are: at two vocabularies, two widths, and two lengths of
responses. It takes some minutes.
"""

import argparse
import json
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from benchmarks.runs import Iteration, Observer, measure, run
from benchmarks.workload import Shape, Work
from winnow import distributed

SMALL = Shape(hidden=64, layers=2, heads=4, kv_heads=2, vocab=512)
SHAPES = {
    "smallest": (SMALL, 32),
    "20 × the vocabulary": (Shape(hidden=64, layers=2, heads=4, kv_heads=2, vocab=10_240), 32),
    "4 × the width": (Shape(hidden=256, layers=2, heads=4, kv_heads=2, vocab=512), 32),
    "4 × the tokens": (SMALL, 128),
}
"""Models, and the tokens of a response."""
# A script of verdicts is followed by each rank for itself.
WORDS = (
    "metrics.kl_rows=8",
    "hardware.precision=32-true",
    "algo=reinforce",
    "reward.verifier._target_=winnow.rewards.verifier.Verifier",
)
PICKLED = "as torch pickles it"


class Exchanged(Observer):
    """Observer of the bytes that this rank sends, by the function that sends them."""

    def __init__(self) -> None:
        super().__init__()
        self._sent: defaultdict[str, int] = defaultdict(int)
        before = distributed.all_gather

        def counted(value: object) -> list[object]:
            self._sent[_sender()] += len(distributed.packed(value))
            self._sent[PICKLED] += len(pickle.dumps(value))
            return before(value)

        distributed.all_gather = counted  # pyright: ignore[reportAttributeAccessIssue]

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        tokens = iteration.completion_tokens
        self.found.append({"tokens": tokens, "rows": len(iteration.rows), **self._sent})
        self._sent.clear()


def _sender() -> str:
    frame = sys._getframe(2)
    while frame.f_globals["__name__"] == "winnow.distributed" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name


def observed(folder: Path, words: Sequence[str]) -> dict[str, float]:
    """What the first of two ranks has sent in the last iteration.

    Raises:
        RuntimeError: the run failed.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    own = [*words, "hardware.strategy=fsdp", "hardware.devices=2"]
    out = folder / "sent.json"
    said = run([sys.executable, *torchrun, "-m", "benchmarks.exchange", "--child", json.dumps(own), str(out)])
    if not out.is_file():
        raise RuntimeError(f"a measured run failed\n{said[-4000:]}")
    return json.loads(out.read_text())


def main(words: Sequence[str]) -> None:
    """Measure, and print a table with a row for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange", description=__doc__)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.child:
        exchanged, out = Exchanged(), Path(args.child[1])
        measure(json.loads(args.child[0]), out.parent / "run", 1, exchanged)
        if os.environ["RANK"] == "0":
            out.write_text(json.dumps(exchanged.found[-1]))
        return
    print("| | bytes of an iteration | of a sampled token | as torch pickles them | most of them |")
    print("|---|---:|---:|---:|---|")
    for name, (shape, length) in SHAPES.items():
        with TemporaryDirectory() as folder:
            work = Work(shape, prompts=8, samples=4, max_tokens=length, iterations=3, forced=True)
            words = [*work.words(Path(folder)), *WORDS]
            found = observed(Path(folder), words)
        tokens = found.pop("tokens") / 2  # of one rank
        found.pop("rows")
        pickled, total = found.pop(PICKLED), sum(found.values())
        largest = ", ".join(f"{k} {v:,.0f}" for k, v in sorted(found.items(), key=lambda each: -each[1])[:4])
        print(f"| {name} | {total:,.0f} | {total / tokens:.1f} | {pickled / tokens:.1f} | {largest} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
