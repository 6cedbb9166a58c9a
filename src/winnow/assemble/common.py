"""What training and evaluation are both made of."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from omegaconf import DictConfig
from transformers.utils import logging as transformers_logging

from winnow.config.instantiate import build_node, engine_class, on_cuda, precision_of
from winnow.data.collection import Benchmark
from winnow.data.problems import Problem, ProblemSet, ProblemSource, screen_problems
from winnow.data.prompts import longer_than, render
from winnow.engines.base import Engine
from winnow.evaluation.sets import EvaluationSampler, EvaluationSet
from winnow.experience.collect import Judge
from winnow.models.attention import implementation
from winnow.models.language_model import LanguageModel, ModelSource
from winnow.models.templates import Template
from winnow.rewards.verifier import RewardScale, Verifier
from winnow.types import Prompt, Sampling


def quiet_libraries() -> None:
    """Lightning's advice is for people who write loops by hand."""
    transformers_logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")


def set_threads(cfg: DictConfig) -> None:
    if cfg.hardware.threads is not None:
        torch.set_num_threads(cfg.hardware.threads)


Evaluated = Mapping[str, tuple[Sequence[Problem], Verifier]]
"""The problems of each evaluation set, and the verifier that judges them."""


@contextmanager
def verifiers(cfg: DictConfig) -> Iterator[tuple[Verifier, list[Benchmark]]]:
    """The verifier of the rewards, and the chosen benchmarks with theirs; their workers end with the context."""
    with ExitStack() as stack:
        pool = stack.enter_context(build_node(cfg.reward.verifier))
        benchmarks = [build_node(cfg.benchmarks[name]) for name in cfg.eval.sets]
        for benchmark in benchmarks:
            stack.enter_context(benchmark.verifier)
        yield pool, benchmarks


def evaluated_problems(
    problems: Callable[[], ProblemSet], pool: Verifier, benchmarks: Sequence[Benchmark]
) -> Evaluated:
    """The benchmarks, or else the held-out split of `problems`, which are read for it."""
    if benchmarks:
        return {benchmark.name: (benchmark.load(), benchmark.verifier) for benchmark in benchmarks}
    split = problems()
    return {split.name: (split.heldout, pool)}


def verifier_of(cfg: DictConfig, benchmark: str | None) -> Verifier:
    """The benchmark's own, or that of the rewards where there is no such benchmark."""
    node = cfg.benchmarks[benchmark].verifier if benchmark in cfg.benchmarks else cfg.reward.verifier
    return build_node(node)


def load_problems(cfg: DictConfig, pool: Verifier) -> ProblemSet:
    source: ProblemSource = build_node(cfg.dataset)
    return source.load(pool.check_golds, hold_out=not cfg.eval.sets)


def screened_problems(
    cfg: DictConfig,
    problems: ProblemSet,
    evaluated: Evaluated,
    language_model: LanguageModel,
    template: Template,
) -> tuple[Sequence[Problem], list[str]]:
    """The training problems that are to be drawn from, and a line that says which were not."""
    if problems.overlap is None:
        return problems.train, []
    limit = cfg.rollout.max_prompt_tokens
    found = screen_problems(
        problems.train,
        {name: theirs for name, (theirs, _) in evaluated.items()},
        problems.overlap,
        lambda some: (
            [False] * len(some) if limit is None else longer_than(limit, some, language_model.tokenizer, template)
        ),
    )
    return found.problems, [f"{problems.name}: {found.line(limit)}"]


def evaluation_sets(
    evaluated: Evaluated,
    limit: int | None,
    scale: RewardScale,
    language_model: LanguageModel,
    template: Template,
) -> list[EvaluationSet]:
    """Rendered, the first `limit` problems of each."""
    return [
        EvaluationSet(
            name,
            [render(problem, language_model.tokenizer, template) for problem in theirs[:limit]],
            Judge(pool, scale, language_model.decode),
            whole=len(theirs),
        )
        for name, (theirs, pool) in evaluated.items()
    ]


def evaluation_sampler(cfg: DictConfig, engine: Engine) -> EvaluationSampler:
    return EvaluationSampler(engine, cfg.eval.samples, Sampling(cfg.eval.temperature, cfg.eval.max_tokens), cfg.seed)


def reward_scale(cfg: DictConfig) -> RewardScale:
    return RewardScale(cfg.reward.correct, cfg.reward.wrong, cfg.reward.no_answer)


def prompt_hash(prompt: Prompt) -> str:
    """Of the rendered text and its ids: two runs with equal hashes put the problem to the model in the same words."""
    return hashlib.sha256(f"{prompt.text}\n{list(prompt.token_ids)}".encode()).hexdigest()


def model_source(cfg: DictConfig) -> ModelSource:
    return build_node(cfg.model)


def load_model(cfg: DictConfig, source: ModelSource) -> LanguageModel:
    return source.load(implementation(cfg.hardware.attention, on_cuda(cfg), precision_of(cfg) == "bf16-mixed"))


def require_engine(cfg: DictConfig, source: ModelSource) -> None:
    """Before any weight is loaded.

    Raises:
        ConfigError: what the engine cannot do here or for this model.
    """
    require = getattr(engine_class(cfg), "require", None)
    if require is not None:
        require(source.config(), on_cuda(cfg))


def engine_of(cfg: DictConfig, language_model: LanguageModel, max_rows: int | None = None) -> Engine:
    """What an engine takes and was not told, it is told where it is known here."""
    known = {
        "eos_ids": language_model.eos_ids,
        "pad_id": language_model.pad_id,
        "max_rows": max_rows,
        "dtype": "bfloat16" if precision_of(cfg) == "bf16-mixed" else "float32",
    }
    taken = inspect.signature(engine_class(cfg)).parameters
    return build_node(cfg.engine, **{k: v for k, v in known.items() if k in taken and cfg.engine.get(k) is None})
