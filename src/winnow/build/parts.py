"""What training and evaluation are both made of."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from transformers.utils import logging as transformers_logging

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.data.benchmark import Benchmark
from winnow.data.problems import Problem, ProblemSet, ProblemSource
from winnow.data.prompts import longer_than, render
from winnow.data.screen import screen
from winnow.data.templates import Template
from winnow.engines.base import Engine
from winnow.evaluation.sets import Asking, EvaluationSet
from winnow.experience.collect import Judge
from winnow.instantiation import build_node
from winnow.models.attention import implementation
from winnow.models.language_model import LanguageModel, ModelSource
from winnow.rewards.pool import VerifierPool
from winnow.rewards.scale import RewardScale
from winnow.types import Prompt, Sampling

Precision = Literal["32-true", "bf16-mixed"]


def quiet() -> None:
    """Lightning's advice is for people who write loops by hand."""
    transformers_logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")


def set_threads(cfg: DictConfig) -> None:
    if cfg.hardware.threads is not None:
        torch.set_num_threads(cfg.hardware.threads)


def on_cuda(cfg: DictConfig) -> bool:
    return cfg.hardware.accelerator == "cuda" or (cfg.hardware.accelerator == "auto" and torch.cuda.is_available())


def precision_of(cfg: DictConfig) -> Precision:
    """Float32 weights everywhere; bfloat16 arithmetic where it is fast."""
    if cfg.hardware.precision != "auto":
        return cfg.hardware.precision
    return "bf16-mixed" if on_cuda(cfg) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def token_budget(cfg: DictConfig) -> int:
    """Tokens of one forward. Where none is given: on a CPU 16,384 took a fifth more time a token than 4,096, for the system hands
    out larger tables anew each time (docs/log.md)."""
    if cfg.hardware.token_budget is not None:
        return cfg.hardware.token_budget
    return 32_768 if on_cuda(cfg) else 4_096


Evaluated = Mapping[str, tuple[Sequence[Problem], VerifierPool]]
"""The problems of each evaluation set, and the verifier that judges them."""


@contextmanager
def verifiers(cfg: DictConfig) -> Iterator[tuple[VerifierPool, list[Benchmark]]]:
    """The verifier of the rewards, and the chosen benchmarks with theirs; their workers end with the context."""
    with ExitStack() as stack:
        pool = stack.enter_context(build_node(cfg.reward.verifier))
        benchmarks = [build_node(cfg.benchmarks[name]) for name in cfg.eval.sets]
        for benchmark in benchmarks:
            stack.enter_context(benchmark.verifier)
        yield pool, benchmarks


def evaluated_problems(
    problems: Callable[[], ProblemSet], pool: VerifierPool, benchmarks: Sequence[Benchmark]
) -> Evaluated:
    """The benchmarks, or else the held-out split of `problems`, which are read for it."""
    if benchmarks:
        return {benchmark.name: (benchmark.load(), benchmark.verifier) for benchmark in benchmarks}
    split = problems()
    return {split.name: (split.heldout, pool)}


def verifier_of(cfg: DictConfig, benchmark: str | None) -> VerifierPool:
    """The benchmark's own, or that of the rewards where there is no such benchmark."""
    node = cfg.benchmarks[benchmark].verifier if benchmark in cfg.benchmarks else cfg.reward.verifier
    return build_node(node)


def load_problems(cfg: DictConfig, pool: VerifierPool) -> ProblemSet:
    source: ProblemSource = build_node(cfg.dataset)
    return source.load(pool.check_golds, hold_out=not cfg.eval.sets)


def screened(
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
    found = screen(
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


def asking(cfg: DictConfig, engine: Engine) -> Asking:
    return Asking(engine, cfg.eval.samples, Sampling(cfg.eval.temperature, cfg.eval.max_tokens), cfg.seed)


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


def samples_exactly(cfg: DictConfig) -> bool:
    """Whether the sampler's log-probabilities are the training forward's up to rounding.

    In bfloat16 they are not: cached decoding rounds otherwise.
    """
    return engine_class(cfg).exact and precision_of(cfg) == "32-true"


def engine_class(cfg: DictConfig) -> type[Engine]:
    return get_object(cfg.engine["_target_"])


MISMATCH = {"32-true": 1e-5, "bf16-mixed": 0.1}
"""Nats a token (k3) between sampler and policy at which a run stops. Rounding comes to 1e-12 in float32 and, on toy models,
3e-4 in bfloat16; policies one update apart differ by more than the first and may differ by less than the second."""


def max_mismatch_kl(cfg: DictConfig) -> float:
    given = cfg.rollout.max_mismatch_kl
    return MISMATCH[precision_of(cfg)] if given is None else given


def reference_kind(algorithm: Algorithm) -> str | None:
    """The reference policy that its objective reads: `initial`, `previous` or none."""
    match algorithm:
        case Preference():
            return algorithm.reference
        case PolicyGradient() | ActorCritic():
            return algorithm.kl.reference if algorithm.kl is not None else None
        case Supervised():
            return None


def needs_reference(cfg: DictConfig, algorithm: Algorithm) -> bool:
    """Whether the initial policy is kept, for the objective or for `train/kl_ref`."""
    if isinstance(algorithm, Supervised):
        return False
    return cfg.metrics.kl_rows > 0 or reference_kind(algorithm) == "initial"
