"""A GPT-2 checkpoint of 20 kB with made-up weights, whose samples solve one problem in some, and a data set for it.

GPT-2's code leaves no operation in float32, so that a run in float64 is float64 throughout. Every weight is a rounded
number of the counter-based generator, so that it is the same on every machine to the last bit.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from running import composed
from winnow.assemble.common import quiet_libraries
from winnow.assemble.training import train
from winnow.config.checks import check_config
from winnow.models.language_model import BOXED, EOS, PAD, TOKENS, tiny_tokenizer
from winnow.rng import seed_of, uniforms

FOLLOWS: Mapping[str, Mapping[str, float]] = {
    "=": {BOXED: 0.7, "1": 0.1, "}": 0.1},
    BOXED: {"0": 0.25, "1": 0.3, "2": 0.3},
    **{digit: {"}": 0.8} for digit in "012"},
    "}": {EOS: 0.7, BOXED: 0.1},
}
"""Probabilities of a token after another, but for what the small blocks add; what is left is shared by all others."""


def small_gpt2() -> GPT2LMHeadModel:
    """Two layers of width 32 over the embedded tokenizer, in float32, which are a table of bigrams and some noise."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(TOKENS),
            n_positions=32,
            n_embd=32,
            n_layer=2,
            n_head=2,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=TOKENS.index(EOS),
            pad_token_id=TOKENS.index(PAD),
        )
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.copy_(_made_up(name, weight.shape, 1.0 if name.endswith("wte.weight") else 0.15))
        hidden = model.transformer.ln_f(model.transformer.wte.weight).double()
        model.lm_head.weight.copy_((hidden.pinverse() @ _logits()).t().round(decimals=3))
    return model


def _logits() -> Tensor:
    """The logarithms of the probabilities of each token (columns) after each (rows)."""
    table = []
    for token in TOKENS:
        named = FOLLOWS.get(token, {})
        rest = (1 - sum(named.values())) / (len(TOKENS) - len(named))
        table.append([named.get(following, rest) for following in TOKENS])
    return torch.tensor(table, dtype=torch.float64).log()


def on_sums(folder: Path) -> tuple[str, ...]:
    """Words for a short float64 run of the model on the sums, both of which are in `folder` afterwards."""
    model, problems = folder / "gpt2", folder / "sums.jsonl"
    if not problems.exists():
        quiet_libraries()
        small_gpt2().save_pretrained(model)
        tiny_tokenizer().save_pretrained(model)
        _write_sums(problems)
    return (
        *("model=custom", f"model.path={model}", "model/template=plain", "hardware=cpu", "hardware.precision=64-true"),
        *("dataset=jsonl", f"dataset.path={problems}", "dataset.heldout_size=2", "reward/verifier=exact"),
        *("rollout.prompts=4", "rollout.samples=4", "rollout.max_tokens=12", "rollout.max_prompt_tokens=16"),
    )


UPDATES = (
    "logger=none",
    "update.minibatches=2",
    "optim.lr=1e-3",
    "eval.every=0",
    "eval.samples=1",
    "metrics.kl_rows=4",
)
"""Further words for a training run."""


def train_on_sums(directory: Path, *words: str) -> None:
    """Train in `directory` as `python train.py` would with these words; model and problems are written beside it."""
    directory.mkdir(exist_ok=True)
    cfg = composed(*on_sums(directory.parent), *UPDATES, *words)
    check_config(cfg)
    train(cfg, directory)


def _write_sums(path: Path) -> None:
    """Twenty sums of two to four digits of 0 and 1 whose result is at most 2, with solutions."""
    sums = [digits for size in (2, 3, 4) for digits in _digits(size) if sum(digits) <= 2][:20]
    rows = [
        {
            "problem": "+".join(map(str, digits)) + "=",
            "answer": str(sum(digits)),
            "solution": f"\\boxed{{{sum(digits)}}}",
        }
        for digits in sums
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _digits(size: int) -> list[tuple[int, ...]]:
    return [tuple(number >> place & 1 for place in range(size)) for number in range(2**size)]


def _made_up(name: str, shape: torch.Size, bound: float) -> Tensor:
    """Numbers in ±`bound`, with six decimals."""
    drawn = torch.from_numpy(uniforms(seed_of("small gpt2", name), shape.numel()))
    return ((2 * drawn - 1) * bound).round(decimals=6).view(shape)
