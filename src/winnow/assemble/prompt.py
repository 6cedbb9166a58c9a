"""`winnow prompt`: a problem as the model reads it."""

from collections.abc import Sequence
from typing import TextIO

from omegaconf import DictConfig

from winnow.assemble import common
from winnow.config.nodes import build_node
from winnow.data.collection import Benchmark
from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.visible_text import visible


def show_prompt(cfg: DictConfig, row: int, benchmark: str | None, out: TextIO) -> None:
    """Write one problem as the model reads it: rendered text, token ids with their tokens, and the hash of both.

    The problem is number `row` of the training problems, or of the evaluation set `benchmark`.

    Raises:
        ConfigError: there is no such row, or the model or the data cannot be loaded.
    """
    common.quiet_libraries()
    problems = _prompt_problems(cfg, benchmark)
    if not 0 <= row < len(problems):
        raise ConfigError(
            f"--row {row}: there are {len(problems)} problems; type a number from 0 to {len(problems) - 1}"
        )
    source = common.model_source(cfg)
    tokenizer = source.tokenizer()
    prompt = render(problems[row], tokenizer, source.template)
    names = tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    out.write(visible(f"{prompt.text}\n\n{len(prompt.token_ids)} tokens:\n"))
    out.write(visible(" ".join(f"{i}:{name}" for i, name in zip(prompt.token_ids, names, strict=True))) + "\n")
    out.write(f"\nkey {visible(prompt.key)}\ngold {visible(prompt.answer)}\nprompt_hash {common.prompt_hash(prompt)}\n")


def _prompt_problems(cfg: DictConfig, benchmark: str | None) -> Sequence[Problem]:
    if benchmark is None:
        with build_node(cfg.reward.verifier) as verifier:
            return common.load_problems(cfg, verifier).train
    chosen: Benchmark = build_node(cfg.benchmarks[benchmark])
    with chosen.verifier:
        return chosen.load()
