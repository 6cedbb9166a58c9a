"""Parts that training and evaluation share, built from a composed configuration."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from winnow.config.heldout_files import benchmarks_of, heldout_files, holds_out
from winnow.config.instantiate import engine_class, on_cuda, precision_of
from winnow.config.mixture_parts import dataset_node
from winnow.config.nodes import build_node
from winnow.data.collection import Benchmark
from winnow.data.problems import Problem, ProblemSet, ProblemSource, screen_problems
from winnow.data.prompts import longer_than, longest_prompt, most_prompt_bytes, render
from winnow.engines.base import Engine
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import ConfigError
from winnow.evaluation.sets import EvaluationSampler, EvaluationSet
from winnow.experience.collect import Judge
from winnow.models import positions
from winnow.models.attention import implementation
from winnow.models.language_model import LanguageModel, ModelSource
from winnow.models.precision import PRODUCTS, WEIGHTS, modules_below_float64
from winnow.models.sharding import without_memory
from winnow.models.templates import Template
from winnow.rewards.reward import Reward
from winnow.rewards.verifier import Verifier
from winnow.run_logs.console import print_line
from winnow.types import Prompt, Sampling
from winnow.visible_text import visible


def quiet_libraries() -> None:
    """Silence transformers' progress bars, and Lightning's warnings, which advise people who write training loops."""
    transformers_logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    # FSDP2's, about operations in place on what a model returns; there are none.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")


def set_threads(cfg: DictConfig) -> None:
    """Let torch use `hardware.threads` threads, if that is set."""
    if cfg.hardware.threads is not None:
        torch.set_num_threads(cfg.hardware.threads)


TEMPLATE_TOKENS = 4096
"""More tokens than any template adds to a problem."""
Evaluated = Mapping[str, tuple[Sequence[Problem], Verifier]]
"""Problems of each evaluation set by name, with the verifier that judges their answers."""


@contextmanager
def verifiers(cfg: DictConfig) -> Iterator[tuple[Verifier, list[Benchmark]]]:
    """Context with the verifier of the rewards and the benchmarks of `eval.sets`, which have verifiers of their own.

    The worker processes of all these verifiers end with the context.
    """
    with ExitStack() as stack:
        verifier = stack.enter_context(build_node(cfg.reward.verifier))
        benchmarks = [build_node(cfg.benchmarks[name]) for name in benchmarks_of(cfg)]
        for benchmark in benchmarks:
            stack.enter_context(benchmark.verifier)
        yield verifier, benchmarks


def evaluated_problems(
    cfg: DictConfig, problems: Callable[[], ProblemSet], verifier: Verifier, benchmarks: Sequence[Benchmark]
) -> Evaluated:
    """The problems of the benchmarks and of `eval.files`, and the held-out split of `problems`, if that is evaluated.

    `problems` is called only then.
    """
    own = problems().heldout_sets if holds_out(cfg) else {}
    files = heldout_files(cfg)
    if taken := own.keys() & {*(benchmark.name for benchmark in benchmarks), *(file.name for file in files)}:
        name = min(taken)
        raise ConfigError(
            f"eval.files.{name}: is also the name of the dataset's own held-out problems; choose another name"
        )
    return {
        **{name: (found, verifier) for name, found in own.items()},
        **{benchmark.name: (benchmark.load(), benchmark.verifier) for benchmark in benchmarks},
        **{file.name: (file.load(verifier.check_golds), verifier) for file in files},
    }


def revisions(problems: ProblemSet, benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """The commits of the hub datasets that were read, `OWNER/NAME@COMMIT`, by the name of the dataset or benchmark."""
    read = {benchmark.name: benchmark.placed.revision_read for benchmark in benchmarks}
    return {**problems.revisions, **{name: revision for name, revision in read.items() if revision is not None}}


def load_problems(cfg: DictConfig, verifier: Verifier) -> ProblemSet:
    """The problems of the dataset. Some are held out only where they are evaluated.

    Raises:
        ConfigError: the dataset cannot be loaded, or holds answers that the verifier cannot read.
    """
    source: ProblemSource = build_node(dataset_node(cfg))
    return source.load(verifier.check_golds, hold_out=holds_out(cfg))


def screened_problems(
    cfg: DictConfig,
    problems: ProblemSet,
    evaluated: Evaluated,
    language_model: LanguageModel,
    template: Template,
) -> tuple[Sequence[Problem], list[str]]:
    """The training problems to sample from, and a line that says which were dropped and why."""
    if problems.overlap is None:
        return problems.train, []
    limit = cfg.rollout.max_prompt_tokens

    def too_long(some: Sequence[Problem]) -> list[bool]:
        return [False] * len(some) if limit is None else longer_than(limit, some, language_model.tokenizer, template)

    evaluation_problems = {name: set_problems for name, (set_problems, _) in evaluated.items()}
    screened = screen_problems(problems.train, evaluation_problems, problems.overlap, too_long)
    return screened.problems, [f"{problems.name}: {screened.line(limit)}"]


def evaluation_sets(
    evaluated: Evaluated,
    limit: int | None,
    reward: Reward,
    language_model: LanguageModel,
    template: Template,
) -> list[EvaluationSet]:
    """The evaluation sets with the first `limit` problems of each, rendered as prompts."""
    return [
        EvaluationSet(
            name,
            [render(problem, language_model.tokenizer, template) for problem in problems[:limit]],
            Judge(verifier, reward, language_model.decode),
            whole=len(problems),
        )
        for name, (problems, verifier) in evaluated.items()
    ]


def of_the_policy(engine: Engine) -> Engine:
    """The sampler of a run's evaluations: `engine.alter` is of the samples that are trained on alone."""
    return engine.unaltered() if isinstance(engine, TorchEngine) else engine


def evaluation_sampler(cfg: DictConfig, engine: Engine) -> EvaluationSampler:
    """Draws `eval.samples` responses per prompt."""
    return EvaluationSampler(engine, cfg.eval.samples, Sampling(cfg.eval.temperature, cfg.eval.max_tokens), cfg.seed)


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 of the rendered prompt and its token ids: with equal hashes, the model reads the problem identically."""
    return hashlib.sha256(f"{prompt.text}\n{list(prompt.token_ids)}".encode()).hexdigest()


def model_source(cfg: DictConfig) -> ModelSource:
    """The model that the `model` node describes, not yet loaded."""
    return build_node(cfg.model)


def load_model(cfg: DictConfig, source: ModelSource, sharded: bool = False) -> LanguageModel:
    """The model with its weights in the run's precision, and with the attention that `hardware.attention` allows.

    If it is to be sharded, its weights are pending.

    Raises:
        ConfigError: the model cannot be loaded.
    """
    precision = precision_of(cfg)
    attention = implementation(cfg.hardware.attention, on_cuda(cfg), precision == "bf16-mixed")
    if sharded:
        from winnow.models.pending import load_pending

        return load_pending(source, attention, WEIGHTS[precision])
    found = source.load(attention)
    found.model.to(dtype=WEIGHTS[precision])  # pyright: ignore[reportCallIssue]
    return found


def precision_notices(cfg: DictConfig, model: PreTrainedModel) -> list[str]:
    """Under hardware.precision=64-true, a notice about the modules of `model` that compute in less all the same."""
    narrow = modules_below_float64(model) if precision_of(cfg) == "64-true" else []
    if not narrow:
        return []
    return [
        f"hardware.precision=64-true: this model's {' and '.join(narrow)} round to float32 or less inside; "
        "all else is in float64"
    ]


def export_notices(language_model: LanguageModel) -> list[str]:
    """A notice about settings of the base model that its exports do not have."""
    names = ", ".join(visible(name)[:40] for name in language_model.left_out)
    return [f"exports leave out {names} of generation_config.json, which transformers cannot save"] if names else []


def require_positions(
    cfg: DictConfig,
    language_model: LanguageModel,
    template: Template,
    problems: Sequence[Problem],
    sets: Sequence[EvaluationSet],
) -> None:
    """Check that the model has positions for every row: training problems and prompts of `sets`, each with a response.

    Raises:
        ConfigError: it has not; the message says which limit to lower.
    """
    model = language_model.checked
    lengths = [len(prompt.token_ids) for one in sets for prompt in one.prompts]
    if lengths:
        positions.require_positions(model, max(lengths), cfg.eval.max_tokens, "eval.max_tokens")
    # Prompts are tokenized only for models whose positions may be too few for them.
    most = most_prompt_bytes(problems) + TEMPLATE_TOKENS
    if problems and not positions.has_positions(model, most + cfg.rollout.max_tokens):
        prompt = longest_prompt(problems, language_model.tokenizer, template)
        positions.require_positions(
            model, prompt, cfg.rollout.max_tokens, "rollout.max_tokens or rollout.max_prompt_tokens"
        )


def require_engine(cfg: DictConfig, source: ModelSource) -> None:
    """Check that the engine can run on this machine with this model, before any weight is loaded.

    Raises:
        ConfigError: it cannot; the message says why.
    """
    require = getattr(engine_class(cfg), "require", None)
    if require is not None:
        known = {"config": source.config(), "cuda": on_cuda(cfg), "processes": cfg.hardware.devices, **cfg.engine}
        require(**{name: known[name] for name in inspect.signature(require).parameters})


@contextmanager
def ended(engine: Engine) -> Iterator[Engine]:
    """Context at whose end the engine releases what it holds outside of this process, such as a server."""
    try:
        yield engine
    finally:
        if (close := getattr(engine, "close", None)) is not None:
            close()


def engine_of(cfg: DictConfig, language_model: LanguageModel, max_rows: int | None = None) -> Engine:
    """The sampler. Settings that the configuration leaves null follow from the model and the precision.

    Raises:
        ConfigError: the engine cannot sample this model exactly.
    """
    known = {
        "eos_ids": language_model.eos_ids,
        "pad_id": language_model.pad_id,
        "max_rows": max_rows,
        "dtype": str(PRODUCTS[precision_of(cfg)]).removeprefix("torch."),
        "say": print_line,
    }
    parameters = inspect.signature(engine_class(cfg)).parameters
    engine = build_node(cfg.engine, **{k: v for k, v in known.items() if k in parameters and cfg.engine.get(k) is None})
    if isinstance(engine, TorchEngine):
        engine.require_model(language_model.checked)
        if language_model.pending is not None:  # gathered weights compute in the type of products, here as in updates
            engine.bare = without_memory(language_model.pending.bare, PRODUCTS[precision_of(cfg)])
    return engine
