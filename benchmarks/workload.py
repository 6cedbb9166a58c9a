"""The model and the prompts of a measurement: random, written to a folder, and the same on both sides of a comparison."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from winnow.rng import permutation, seed_of

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIAL = (PAD, EOS, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 with tied embeddings and an MLP of four widths; by default the 5 M parameters of TRL's timing script."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 4096
    positions: int = 4096

    def words(self, folder: Path, seed: int, eos_scale: float) -> list[str]:
        """Writes random weights to `folder`, and says where they are."""
        write_model(folder, self, seed, eos_scale)
        return ["model=custom", f"model.path={folder}", "model/template=plain"]

    def config(self) -> Qwen2Config:
        return Qwen2Config(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=4 * self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=SPECIAL.index(EOS),
            pad_token_id=SPECIAL.index(PAD),
        )


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that `conf/model` names. Each word of its prompts is several tokens: `vocab` only says how many words there are."""

    name: str
    vocab: int = 4096

    def words(self, folder: Path, seed: int, eos_scale: float) -> list[str]:
        """It brings its own weights, and its end-of-sequence row is left alone."""
        return [f"model={self.name}", "model/template=plain", "rollout.max_prompt_tokens=null"]


def write_model(folder: Path, shape: Shape, seed: int, eos_scale: float) -> None:
    """Random weights by torch's seed, as in TRL's script: the same seed gives the same weights there.

    `eos_scale` multiplies the end-of-sequence row of the tied embeddings: 20 spreads its logit over some ±6, and so the lengths.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(shape.config())
    if eos_scale > 1:
        model.lm_head.weight.data[SPECIAL.index(EOS)] *= eos_scale
    model.save_pretrained(folder)
    tokenizer_of(shape.vocab).save_pretrained(folder)


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word is one token: `w17` is token 17, and blanks are none.

    A byte-level BPE without merges, to which the words are added: transformers makes the tokenizer of every Qwen2 anew as one.
    """
    words = [f"w{i}" for i in range(len(SPECIAL), vocabulary)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate([*SPECIAL, *words])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN)


def texts(vocabulary: int, mean_length: int, count: int, seed: int) -> list[str]:
    """Random words, `mean_length` / 2 to `mean_length` · 3 / 2 of them: the data set of TRL's script under the same seed."""
    draw = random.Random(seed)
    found: list[str] = []
    for _ in range(count):
        length = draw.randint(mean_length // 2, mean_length * 3 // 2)
        found.append(" ".join(f"w{draw.randrange(len(SPECIAL), vocabulary)}" for _ in range(length)))
        draw.randrange(2)  # the script's target
    return found


def as_trl_draws_them(data: Sequence[str], count: int, seed: int) -> list[str]:
    """The first `count` prompts of TRL's trainer over `data`: trl/trainer/utils.py, RepeatSampler."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return [data[int(i)] for i in order[:count]]


def write_problems(path: Path, problems: Sequence[str], patterns: Sequence[str], seed: int) -> None:
    """A JSONL from which a run with `seed` draws `problems` in this order, their verdicts dictated by `patterns` in turn."""
    order = permutation(seed_of(seed, "order", 0), len(problems))
    rows: list[str] = [""] * len(problems)
    for place, (row, problem) in enumerate(zip(order, problems, strict=True)):
        rows[row] = json.dumps({"problem": problem, "answer": f"{place} {patterns[place % len(patterns)]}"})
    path.write_text("\n".join(rows) + "\n")


@dataclass(frozen=True, slots=True)
class Work:
    """Iterations of `prompts` × `samples` responses of at most `max_tokens`, or of exactly so many where `forced`.

    `patterns` dictates the verdicts of each prompt's samples; `eos_scale` says how ragged the lengths are (`write_model`).
    """

    model: Shape | Installed = Shape()
    prompts: int = 4
    samples: int = 8
    max_tokens: int = 128
    prompt_tokens: int = 64
    iterations: int = 7
    forced: bool = False
    eos_scale: float = 20.0
    patterns: tuple[str, ...] = ("10",)
    seed: int = 0
    draws: int = 0
    """The seed of the run, which samples by it."""
    hardware: tuple[str, ...] = ("hardware=cpu", "hardware.threads=1")

    def words(self, folder: Path) -> list[str]:
        """Writes model and problems to `folder`; what `train.py` is to be told to run them, and nothing that a step does not need:
        no evaluation, no checkpoint, no reference forward for `train/kl_ref`."""
        data = texts(self.model.vocab, self.prompt_tokens, DATA, self.seed)
        problems = as_trl_draws_them(data, self.prompts * self.iterations, self.seed)
        write_problems(folder / "problems.jsonl", problems, self.patterns, self.draws)
        write_problems(folder / "heldout.jsonl", ["w3"], self.patterns, self.draws)
        engine = (
            ["plugins=[benchmarks]", "engine._target_=benchmarks.no_eos_engine.no_eos_engine"] if self.forced else []
        )
        return [
            *self.model.words(folder / "model", self.seed, 1.0 if self.forced else self.eos_scale),
            *of_problems(folder),
            *self.hardware,
            *QUIET,
            *engine,
            f"seed={self.draws}",
            f"iterations={self.iterations}",
            f"rollout.prompts={self.prompts}",
            f"rollout.samples={self.samples}",
            f"rollout.max_tokens={self.max_tokens}",
        ]


DATA = 4096
"""Rows of the script's data set."""
QUIET = (
    "logger=none",
    "update.minibatches=1",
    "optim.lr=1e-6",
    "metrics.kl_rows=0",
    "checkpoint.every=1000000",
    "eval.every=0",
    "eval.prompts=1",
    "eval.samples=1",
    "eval.max_tokens=1",
)


def of_problems(folder: Path) -> list[str]:
    """The words that take problems and verdicts from what `write_problems` wrote to `folder`."""
    return [
        "dataset=jsonl",
        f"dataset.path={folder / 'problems.jsonl'}",
        f"dataset.heldout_path={folder / 'heldout.jsonl'}",
        "reward/verifier=exact",
        "plugins=[benchmarks]",
        "reward.verifier._target_=benchmarks.scripted_verdicts.ScriptedVerdicts",
    ]
