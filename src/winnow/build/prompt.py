"""`winnow prompt`: a problem exactly as the model gets it."""

from collections.abc import Sequence
from typing import TextIO

from omegaconf import DictConfig

from winnow.build import parts
from winnow.data.benchmark import Benchmark
from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.instantiation import build_node


def show_prompt(cfg: DictConfig, row: int, benchmark: str | None, out: TextIO) -> None:
    """Problem `row` of the training problems, or of an evaluation set: rendered text, ids token by token, and their hash.

    Raises:
        ConfigError: no such set or row; or the model or the data could not be had.
    """
    parts.quiet()
    if benchmark is not None and benchmark not in cfg.benchmarks:
        raise ConfigError(f"--set {benchmark}: no such benchmark; there are {', '.join(map(str, cfg.benchmarks))}")
    source = parts.model_source(cfg)
    tokenizer = source.tokenizer()
    problems = _problems(cfg, benchmark)
    if not 0 <= row < len(problems):
        raise ConfigError(
            f"--row {row}: there are {len(problems)} problems; type a number from 0 to {len(problems) - 1}"
        )
    prompt = render(problems[row], tokenizer, source.template)
    names = tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    out.write(f"{prompt.text}\n\n{len(prompt.token_ids)} tokens:\n")
    out.write(" ".join(f"{i}:{name}" for i, name in zip(prompt.token_ids, names, strict=True)) + "\n")
    out.write(f"\nkey {prompt.key}\ngold {prompt.answer}\nprompt_hash {parts.prompt_hash(prompt)}\n")


def _problems(cfg: DictConfig, benchmark: str | None) -> Sequence[Problem]:
    if benchmark is None:
        with build_node(cfg.reward.verifier) as pool:
            return parts.load_problems(cfg, pool).train
    chosen: Benchmark = build_node(cfg.benchmarks[benchmark])
    with chosen.verifier:
        return chosen.load()
