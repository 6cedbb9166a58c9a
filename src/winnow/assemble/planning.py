"""Plans from configurations: the setup that a run's words describe, its rates and lengths, without hub or weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from jaxtyping import Bool
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.assemble.devices import on_devices
from winnow.assemble.plan_collector import Collected, collected
from winnow.assemble.preflight import fits_whole, ranks_of, training_plan
from winnow.assemble.start_lines import collector_of
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm, reference_kind, samples_exactly
from winnow.config.nodes import build_node, choice
from winnow.config.saved_runs import read_saved_run
from winnow.engines.own_server import GPU_SHARE
from winnow.errors import ConfigError
from winnow.experience.collectors import Fixed
from winnow.experience.scoring import CHECKED_ROWS
from winnow.models.memory import memory_bytes
from winnow.models.shape import Adapters, DecoderShape, ModelShape
from winnow.plan.assumptions import Assumptions, assumptions
from winnow.plan.gpu import Gpu, gpu_of
from winnow.plan.lengths import Lengths, assumed_lengths, recorded_lengths
from winnow.plan.machine import Machine, read_machine
from winnow.plan.measured import MeasuredRates, measured_rates
from winnow.plan.plan import Plan, make_plan
from winnow.plan.rates import Rates, nominal
from winnow.plan.setup import Evaluations, Sampler, Setup, Shares
from winnow.run_logs.run_record import read_record
from winnow.types import SampleFacts

DEFAULT_GPU = "H100"
SECTIONS = ("algo", "collector", "model", "engine")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a plan besides the configuration: see `winnow plan --help`."""

    gpu: str | None = None
    rates: Path | None = None
    lengths: Path | None = None
    price: float | None = None
    assume: tuple[str, ...] = ()


def plan_of(words: Sequence[str], options: Options) -> Plan:
    """The plan of the run that `winnow train WORDS` would be.

    Raises:
        ConfigError: the words or the options are wrong; the message says what to type instead.
    """
    found = asked(words, options)
    gpu = found.setup.gpu
    rates = read_machine() if gpu is None else nominal(gpu, found.setup, found.stated)
    return _made(found, rates, options)


def plan_with(machine: Machine, words: Sequence[str], options: Options) -> Plan:
    """The plan of a run on the CPU of `machine`."""
    return _made(asked(words, options), machine, options)


def _made(found: "Asked", rates: Rates | Machine, options: Options) -> Plan:
    run = _measured(found.setup, options)
    return make_plan(found.setup, rates, found.lengths, found.available, found.stated, run, options.price)


@dataclass(frozen=True, slots=True)
class Asked:
    """The content of a plan's words and options: a setup, lengths, the bytes of a device, and assumptions."""

    setup: Setup
    lengths: Lengths
    available: float
    stated: Assumptions


def asked(words: Sequence[str], options: Options) -> Asked:
    """The setup that the words describe, on the device and with the assumptions of the options.

    Raises:
        ConfigError: the words or the options are wrong; the message says what to type instead.
    """
    if options.price is not None and not 0.0001 <= options.price <= 1_000_000:
        raise ConfigError(
            f"--price {options.price:g}: must be a number above 0, from 0.0001 to 1,000,000 USD for a GPU and hour"
        )
    cfg = composed("train", words, SECTIONS)
    stated = assumptions(options.assume)
    gpu = _gpu(cfg, options.gpu)
    _settle(cfg, gpu)
    lengths = _lengths(cfg, options, stated)
    setup = setup_of(cfg, words, gpu, stated, lengths)
    available = memory_bytes() / setup.devices if gpu is None else gpu.memory
    if cfg.hardware.strategy == "auto" and setup.devices > 1 and not fits_whole(setup.shape, setup.memory, available):
        cfg.hardware.strategy = "fsdp"
        setup = setup_of(cfg, words, gpu, stated, lengths)
    return Asked(setup, lengths, available, stated)


def _measured(setup: Setup, options: Options) -> MeasuredRates | None:
    """The rates of the run that `--rates` names, which has to be of the same model."""
    if options.rates is None:
        return None
    options = replace(options, rates=run_directory(options.rates))
    assert options.rates is not None
    run = read_saved_run(options.rates).cfg
    with open_dict(run):  # a run of an earlier version has neither
        run.rollout.staleness = run.rollout.get("staleness", 0)
        run.hardware.nodes = run.hardware.get("nodes", 1)
    if run.model.name != setup.model:
        raise ConfigError(
            f"--rates {options.rates}: a run of model={run.model.name}, and this plan is of {setup.model}; rates hold "
            "for one model"
        )
    if not isinstance(collector_of(run), Fixed):
        raise ConfigError(
            f"--rates {options.rates}: a run whose collector draws other numbers of samples in each iteration; type "
            "--rates with a run of collector=fixed"
        )
    rows = run.rollout.prompts * run.rollout.samples
    record = read_record(options.rates)
    started = record.starts[-1].ranks if record is not None and record.starts else None
    devices = started or ranks_of(on_devices(run, 1))
    shares = shares_of(run, build_algorithm(run), 1.0, "")
    return measured_rates(options.rates, devices, rows, shares.old + shares.reference + shares.values)


def _gpu(cfg: DictConfig, word: str | None) -> Gpu | None:
    if cfg.hardware.accelerator == "cpu":
        if word is not None:
            raise ConfigError(f"--gpu {word}: hardware.accelerator is cpu; leave one of them out")
        return None
    return gpu_of(word or DEFAULT_GPU)


def _settle(cfg: DictConfig, gpu: Gpu | None) -> None:
    """Write down what depends on the machine that a run starts on: the device, their number and the precision.

    Raises:
        ConfigError: shards of a CPU are to rest in main memory, where they are.
    """
    if gpu is None and cfg.hardware.offload:
        raise ConfigError("hardware.offload=true: on a CPU shards are in main memory already; leave it out")
    with open_dict(cfg):
        cfg.hardware.accelerator = "cpu" if gpu is None else "cuda"
        if cfg.hardware.devices == "auto":
            cfg.hardware.devices = 1
        if cfg.hardware.precision == "auto":
            cfg.hardware.precision = "32-true" if gpu is None else "bf16-mixed"


def setup_of(cfg: DictConfig, words: Sequence[str], gpu: Gpu | None, stated: Assumptions, lengths: Lengths) -> Setup:
    """The setup that a settled configuration describes."""
    algorithm = build_algorithm(cfg)
    shape, positions = model_shape(cfg)
    nodes = cfg.hardware.nodes
    devices = cfg.hardware.devices * nodes
    if nodes == 1 and gpu is not None and devices > stated["gpus_per_node"]:
        nodes = -(-devices // int(stated["gpus_per_node"]))
    strategy = "ddp" if cfg.hardware.strategy == "auto" else cfg.hardware.strategy
    drawn, shares = _drawn_and_shares(cfg, algorithm, stated, lengths)
    memory = training_plan(cfg, algorithm, "rank" in (cfg.model.get("lora") or {}))
    if cfg.rollout.max_prompt_tokens is None and lengths.longest_prompt is not None:
        memory = replace(memory, prompt_tokens=lengths.longest_prompt)
    return Setup(
        words=" ".join(words),
        model=str(cfg.model.name),
        algorithm=choice("algo"),
        shape=shape,
        positions=positions,
        gpu=gpu,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        memory=memory,
        prompts=drawn.prompts,
        samples=1 if isinstance(algorithm, Supervised) else drawn.samples,
        max_tokens=cfg.rollout.max_tokens,
        minibatches=cfg["update"].minibatches,
        epochs=cfg["update"].epochs,
        iterations=cfg.iterations,
        sampler=_sampler(cfg),
        shares=shares,
        evaluations=_evaluations(cfg),
        supervised=isinstance(algorithm, Supervised),
        staleness=cfg.rollout.staleness,
        max_prompt_tokens=cfg.rollout.max_prompt_tokens or 0,
    )


def model_shape(cfg: DictConfig) -> tuple[ModelShape, int | None]:
    """The sizes of the model and its positions: from `model.shape` if it is the path's, else from its config.json.

    Raises:
        ConfigError: the model is on the hub and not in its cache, or its architecture cannot be counted.
    """
    node, path = cfg.model.get("shape"), cfg.model.get("path")
    if node is not None and node.of == path:
        shape: DecoderShape = build_node(node)
        lora = cfg.model.lora
        adapters = Adapters(lora.rank, _modules(lora.target_modules)) if "rank" in (lora or {}) else None
        return shape.sizes(adapters), shape.positions
    _require_local(path)
    from winnow.models.memory import shape_of  # imports transformers, which takes seconds

    source = build_node(cfg.model)
    sizes = shape_of(source)
    if sizes is None:
        raise ConfigError(f"model.path={path}: there is no estimate for this architecture; choose a decoder")
    return sizes, getattr(source.config().get_text_config(), "max_position_embeddings", None)


def _modules(value: object) -> str | list[str]:
    """The names of LoRA's target modules, as plain text or list."""
    return value if isinstance(value, str) else [str(name) for name in value]  # pyright: ignore[reportGeneralTypeIssues]


def _require_local(path: str | None) -> None:
    """Check that a model's config.json can be read without the hub."""
    from winnow.models.hub import EMBEDDED, GGUF, PACKAGE

    if path is None or path == EMBEDDED or path.startswith(PACKAGE) or path.endswith(GGUF) or Path(path).is_dir():
        return
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(path, "config.json"), str):
        raise ConfigError(
            f"model.path={path}: a plan asks no hub, and there is no shape of this model; "
            "type model.path=DIR with its config.json"
        )


def _sampler(cfg: DictConfig) -> Sampler:
    """The engine, by the settings that it has: a server on GPUs of its own, vLLM in this process, or torch's."""
    engine, name = cfg.engine, str(cfg.engine["_target_"]).rpartition(".")[2]
    graphs = not engine.get("enforce_eager", True) or bool(engine.get("graphs", False))
    if "url" in engine:  # a server, with GPUs of its own
        devices = len(engine.devices) if engine.devices else 1
        share = engine.memory or GPU_SHARE
        return Sampler(name, engine.in_flight, graphs, share, devices, separate=True)
    utilisation = engine.get("gpu_memory_utilization")
    return Sampler(name, engine.get("max_rows"), graphs, utilisation, engine.get("tensor_parallel_size") or 1)


def _drawn_and_shares(
    cfg: DictConfig, algorithm: Algorithm, stated: Assumptions, lengths: Lengths
) -> tuple[Collected, Shares]:
    """The samples of an iteration, and the shares of a plan: `kept` as it is assumed, or by the functions of collector
    and algorithm from recorded verdicts or from prompts with 0, 1, … G correct samples, which are then assumed to be
    equally likely."""
    samples = cfg.rollout.samples
    recorded = lengths.correct is not None and lengths.correct.shape[1] == samples
    correct = torch.from_numpy(lengths.correct) if recorded else equally_likely(samples)
    drawn = collected(cfg, correct)
    if isinstance(algorithm, Supervised):
        return drawn, Shares(1.0, 0.0, 0.0, 0.0, "all demonstrations")
    if stated["kept"]:
        return drawn, shares_of(cfg, algorithm, min(1.0, stated["kept"]), "given (kept)", drawn)
    basis = (
        f"by the recorded verdicts on {len(correct):,} prompts"
        if recorded
        else f"assumed: 0, 1, … {samples} correct samples of a prompt are equally likely"
    )
    kept = drawn.passed_on * kept_share(algorithm, drawn.teaching) if len(drawn.teaching) else 0.0
    basis = f"{basis}; {drawn.words}" if drawn.words else basis
    return drawn, shares_of(cfg, algorithm, kept, basis, drawn)


def shares_of(cfg: DictConfig, algorithm: Algorithm, kept: float, basis: str, drawn: Collected | None = None) -> Shares:
    """The parts of an iteration's responses that are scored, where the part `kept` has a gradient."""
    rows, updates = cfg.rollout.prompts * cfg.rollout.samples, cfg["update"].minibatches * cfg["update"].epochs
    rows = rows if drawn is None else drawn.prompts * drawn.samples
    if isinstance(algorithm, Supervised):
        return Shares(1.0, 0.0, 0.0, 0.0, basis)
    exact = samples_exactly(cfg)
    logged = min(1.0, cfg.metrics.kl_rows / rows)
    checked = min(logged, CHECKED_ROWS / rows) if exact else logged
    kind = reference_kind(algorithm)
    if isinstance(algorithm, Preference):
        old = kept if kind == "previous" else 0.0
    else:
        spared = exact or (updates == 1 and isinstance(algorithm, PolicyGradient))
        old = 0.0 if spared else kept if algorithm.objective.uses_old or algorithm.uses_correction else 0.0
    return Shares(
        kept=kept,
        old=max(old, checked),
        reference=max(logged, kept if kind in ("initial", "synced") else 0.0),
        values=1.0 if isinstance(algorithm, ActorCritic) else 0.0,
        basis=basis,
    )


def equally_likely(samples: int) -> Bool[Tensor, "p g"]:
    """Verdicts on G + 1 prompts, of which the k-th has k correct samples."""
    return torch.arange(samples)[None, :] < torch.arange(samples + 1)[:, None]


def kept_share(algorithm: PolicyGradient | ActorCritic | Preference, correct: Bool[Tensor, "p g"]) -> float:
    """The part of the rows that have a gradient under these verdicts, by the algorithm's own functions.

    If every number of correct samples is equally likely, GRPO has no gradient on the prompts that are all right or all
    wrong, which leaves (G − 1) / (G + 1), and RAFT keeps the correct samples, a half.
    """
    rewards = correct.float() * 2 - 1
    facts = SampleFacts.of_verdicts(rewards, correct)
    if isinstance(algorithm, Preference):
        return 2 * len(algorithm.pairs(rewards, facts)) / rewards.numel()
    selected = algorithm.selected(rewards, facts)
    in_batch = torch.ones_like(selected) if algorithm.rejected == "zero" else selected
    if isinstance(algorithm, PolicyGradient) and not algorithm.objective.moves_without_advantage:
        in_batch = in_batch & (algorithm.advantages(rewards, None, selected, facts) != 0)
    return float(in_batch.float().mean())


def _evaluations(cfg: DictConfig) -> Evaluations:
    """The held-out sets: their sizes are known, or assumed for a split of the dataset."""
    sizes = _sizes()
    names = [str(name) for name in cfg.eval.sets] or ["heldout"]
    own = OmegaConf.select(cfg, "dataset.heldout_size", default=None)
    counts = [own if name == "heldout" and own else sizes.get(name, sizes["heldout"]) for name in names]
    limit = cfg.eval.prompts
    prompts = sum(min(count, limit) if limit else count for count in counts)
    basis = ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    basis += f"; the first {limit:,} of each" if limit else ""
    return Evaluations(cfg.eval.every, prompts, cfg.eval.samples, cfg.eval.max_tokens, basis)


@cache
def _sizes() -> dict[str, int]:
    return yaml.safe_load((files("winnow") / "plan" / "sets.yaml").read_text())


def run_directory(path: Path) -> Path:
    """The run that `path` is, or whose file of metrics it is."""
    return path.parent if path.name == "metrics.jsonl" else path


def _lengths(cfg: DictConfig, options: Options, stated: Assumptions) -> Lengths:
    if options.lengths is not None:
        return recorded_lengths(run_directory(options.lengths), stated).cut(cfg.rollout.max_tokens)
    return assumed_lengths(cfg.rollout.max_tokens, stated)
