"""Workloads: random weights and random prompts, written to a folder, and identical on both sides of a comparison."""

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
DATA = 4096
"""Rows of the data set of TRL's timing script."""
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
"""Overrides that switch off everything a bare step does not need."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a Qwen2 with tied embeddings; by default TRL's script's, of 5 M parameters, with an MLP of four widths.

    `intermediate` is the MLP's width where that is not four times the model's.
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 4096
    positions: int = 4096
    intermediate: int | None = None

    def words(self, folder: Path, seed: int, eos_scale: float) -> list[str]:
        """Write random weights to `folder` and return the overrides that load them."""
        write_model(folder, self, seed, eos_scale)
        return ["model=custom", f"model.path={folder}", "model/template=plain"]

    def config(self) -> Qwen2Config:
        """The configuration for transformers."""
        return Qwen2Config(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate or 4 * self.hidden,
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
    """A model of `conf/model`. Each word of its prompts is several tokens, and `vocab` counts the different words."""

    name: str
    vocab: int = 4096

    def words(self, folder: Path, seed: int, eos_scale: float) -> list[str]:
        """Overrides that load the model with its own weights; its end-of-sequence row is not scaled."""
        return [f"model={self.name}", "model/template=plain", "rollout.max_prompt_tokens=null"]


def write_model(folder: Path, shape: Shape, seed: int, eos_scale: float) -> None:
    """Write random weights, drawn as in TRL's script: the same seed gives the same weights there.

    `eos_scale` multiplies the end-of-sequence row of the tied embeddings. A factor of 20 spreads its logit over about
    ±6 and so varies the lengths of completions.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(shape.config())
    if eos_scale > 1:
        model.lm_head.weight.data[SPECIAL.index(EOS)] *= eos_scale
    model.save_pretrained(folder)
    tokenizer_of(shape.vocab).save_pretrained(folder)


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """Tokenizer for which one word is one token: `w17` is token 17, and spaces are no tokens.

    It is a byte-level BPE without merges to which the words are added, because transformers rebuilds the tokenizer of
    every Qwen2 model in that form.
    """
    words = [f"w{i}" for i in range(len(SPECIAL), vocabulary)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate([*SPECIAL, *words])}, merges=[]))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = bytes_only  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN)


def texts(vocabulary: int, mean_length: int, count: int, seed: int) -> list[str]:
    """Texts of `mean_length` / 2 to `mean_length` · 3 / 2 random words: the data set that TRL's script makes."""
    draw = random.Random(seed)
    found: list[str] = []
    for _ in range(count):
        length = draw.randint(mean_length // 2, mean_length * 3 // 2)
        found.append(" ".join(f"w{draw.randrange(len(SPECIAL), vocabulary)}" for _ in range(length)))
        draw.randrange(2)  # the script draws a target here, which keeps the two generators in step
    return found


def as_trl_draws_them(data: Sequence[str], count: int, seed: int) -> list[str]:
    """The first `count` prompts that TRL's trainer draws from `data`: RepeatSampler in trl/trainer/utils.py."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return [data[int(i)] for i in order[:count]]


def write_problems(path: Path, problems: Sequence[str], patterns: Sequence[str], seed: int) -> None:
    """Write a JSONL file from which a run with `seed` draws `problems` in the given order.

    The golds hold `patterns`, repeated in turn, from which `ScriptedVerdicts` reads the verdicts.
    """
    order = permutation(seed_of(seed, "order", 0), len(problems))
    rows: list[str] = [""] * len(problems)
    for place, (row, problem) in enumerate(zip(order, problems, strict=True)):
        rows[row] = json.dumps({"problem": problem, "answer": f"{place} {patterns[place % len(patterns)]}"})
    path.write_text("\n".join(rows) + "\n")


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a measured run: iterations of `prompts` × `samples` completions of at most `max_tokens`.

    With `forced`, each completion has exactly `max_tokens`; otherwise `eos_scale` sets how much their lengths vary
    (`write_model`). `patterns` scripts the verdicts of each prompt's samples. `seed` is that of the weights and
    prompts, `draws` that of the run, which its samples depend on.
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
    hardware: tuple[str, ...] = ("hardware=cpu", "hardware.threads=1")

    def words(self, folder: Path) -> list[str]:
        """Write the model and the problems to `folder`, and return the overrides with which `train.py` runs them.

        Everything that a step does not need is off: evaluation, checkpoints, and the reference forward for
        `train/kl_ref`.
        """
        data = texts(self.model.vocab, self.prompt_tokens, DATA, self.seed)
        problems = as_trl_draws_them(data, self.prompts * self.iterations, self.seed)
        write_problems(folder / "problems.jsonl", problems, self.patterns, self.draws)
        write_problems(folder / "heldout.jsonl", ["w3"], self.patterns, self.draws)
        return [
            *self.model.words(folder / "model", self.seed, 1.0 if self.forced else self.eos_scale),
            "dataset=jsonl",
            f"dataset.path={folder / 'problems.jsonl'}",
            f"dataset.heldout_path={folder / 'heldout.jsonl'}",
            "plugins=[benchmarks]",
            "reward/verifier=exact",
            "reward.verifier._target_=benchmarks.stand_ins.ScriptedVerdicts",
            *(["engine._target_=benchmarks.stand_ins.no_eos_engine"] if self.forced else []),
            *self.hardware,
            *QUIET,
            f"seed={self.draws}",
            f"iterations={self.iterations}",
            f"rollout.prompts={self.prompts}",
            f"rollout.samples={self.samples}",
            f"rollout.max_tokens={self.max_tokens}",
        ]
