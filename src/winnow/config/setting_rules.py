"""Rules about the value of each setting: every scalar of `conf/` has one, or is a flag that its type checks.

Nothing here imports torch, so that these checks are made before the imports that take seconds.
"""

import re
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from omegaconf import DictConfig, ListConfig

from winnow.config.value_rule import MOST, Rule

LONGEST_PATH = 4000
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""A function by module and name: `my_project.verifiers:same_set`."""


SET_NAME = re.compile(r"[A-Za-z0-9_]+")
"""Names of evaluation sets, which become parts of the names of metrics and files."""


def _number(words: str, holds: Callable[[float], bool]) -> Rule:
    # The nodes of the config groups are untyped: a value may be a string, or null where the setting needs a number.
    return Rule(words, lambda x: isinstance(x, int | float) and not isinstance(x, bool) and holds(x))


def _whole(words: str, holds: Callable[[int], bool], most: float) -> Rule:
    return Rule(f"a whole number, {words}", lambda x: type(x) is int and holds(x), most)


def _one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", choices.__contains__)


def _is_written(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _list_of(words: str, holds: Callable[[Any], bool], most: float = MOST) -> Rule:
    return Rule(words, lambda x: isinstance(x, ListConfig) and len(x) > 0 and all(map(holds, x)), most)


def _is_part(value: object) -> bool:
    return isinstance(value, DictConfig) or _is_written(value, r"\w[\w-]*")


ONE_OR_MORE = _whole("1 or more", lambda x: x >= 1, 10**9)
ZERO_OR_MORE = _whole("0 or more", lambda x: x >= 0, 10**9)
AT_LEAST_ONE = _number("1 or more", lambda x: x >= 1)
NOT_NEGATIVE = _number("0 or more", lambda x: x >= 0)
POSITIVE = _number("above 0", lambda x: x > 0)
FRACTION = _number("from 0 to 1", lambda x: 0 <= x <= 1)
SHARE = _number("above 0 and at most 1", lambda x: 0 < x <= 1)
FINITE = _number("a finite number", isfinite)
FLAG = Rule("true or false", lambda x: isinstance(x, bool))
TEXT = Rule("a text", lambda x: isinstance(x, str) and x.strip() != "")
PATH = Rule("the name of a file or folder", lambda x: TEXT.holds(x) and len(x.encode()) <= LONGEST_PATH)
FIELD = Rule("a name, or a list of names", lambda x: TEXT.holds(x) or _list_of("", TEXT.holds).holds(x))
REPOSITORY = Rule(
    "OWNER/NAME, as on the hub", lambda x: _is_written(x, r"\w+([.-]\w+)*(/\w+([.-]\w+)*)?") and len(x) <= 96
)
URL = Rule("an address, such as http://127.0.0.1:8000", lambda x: _is_written(x, r"https?://[^\s/?#@]+:\d{1,5}/?"))
REVISION = Rule("a branch, tag or commit", lambda x: _is_written(x, r"\w[\w./-]*") and ".." not in x)
NAME = Rule(
    "a name of letters, digits, and . _ - + between them, of 60 characters at most",
    lambda x: isinstance(x, str) and re.fullmatch(r"\w[\w.+-]{0,59}", x) is not None,
)
TEMPERATURE = _number("above 0, from 0.0001 to 10,000", lambda x: 1e-4 <= x <= 1e4)
SEED = ZERO_OR_MORE.up_to(2**63 - 1)
TOKENS = ONE_OR_MORE.up_to(10**18)
BAD_ROWS = Rule("refuse or drop", ("refuse", "drop", "error").__contains__)  # error: the older word for refuse
NODE = Rule("a group of settings with a class (`_target_`)", lambda x: isinstance(x, DictConfig) and "_target_" in x)

OPTIMISED = ("eval_first", "eval_last", "sampled_tokens", "trained_tokens", "seconds")
"""Figures of `summary.json` that a search may optimise."""
SEVERAL = ("logger", "callbacks")
"""Groups from which several choices can be made at once, `logger=[wandb,csv]`; each fills a node of its own."""
NODES = ("algo", "model", "dataset", "curriculum", "collector", "engine", "reward.verifier")
"""Nodes from which an object is built."""

RULES = {
    "seed": SEED,
    "iterations": ONE_OR_MORE,
    "rollout.prompts": ONE_OR_MORE,
    "rollout.samples": ONE_OR_MORE,
    "rollout.max_tokens": ONE_OR_MORE,
    "rollout.problems": ONE_OR_MORE.or_null(),
    "rollout.max_prompt_tokens": ONE_OR_MORE.or_null(),
    "rollout.temperature": TEMPERATURE,
    "rollout.staleness": ZERO_OR_MORE.up_to(1000),
    "rollout.max_mismatch_kl": POSITIVE.or_null(),
    "update.minibatches": ONE_OR_MORE,
    "update.epochs": ONE_OR_MORE,
    "optim.lr": POSITIVE,
    "optim.betas": Rule(
        "two numbers in [0, 1); type optim.betas=[0.9,0.999]",
        lambda betas: isinstance(betas, ListConfig) and len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
    ),
    "optim.eps": POSITIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.grad_clip": NOT_NEGATIVE,
    "optim.warmup": ZERO_OR_MORE,
    "optim.schedule": _one_of("constant", "linear", "cosine"),
    "budget.sampled_tokens": TOKENS.or_null(),
    "budget.trained_tokens": TOKENS.or_null(),
    "budget.seconds": POSITIVE.or_null(),
    "eval.every": ZERO_OR_MORE,
    "eval.prompts": ONE_OR_MORE.or_null(),
    "eval.samples": ONE_OR_MORE,
    "eval.max_tokens": ONE_OR_MORE,
    "eval.temperature": TEMPERATURE,
    "batch": ONE_OR_MORE,
    "limit": ONE_OR_MORE.or_null(),
    "checkpoint.every": ONE_OR_MORE,
    "checkpoint.best": FLAG,
    "checkpoint.keep": Rule("1 or more, or all", lambda keep: keep == "all" or ONE_OR_MORE.holds(keep)),
    "metrics.kl_rows": ZERO_OR_MORE,
    "guards.max_consecutive": ONE_OR_MORE,
    "guards.weights_mb": NOT_NEGATIVE,
    "checks.every": ONE_OR_MORE,
    "checks.rows": _whole("2 or more", lambda x: x >= 2, 10**6),
    "alarms.entropy": FRACTION.or_null(),
    "alarms.accuracy": FRACTION.or_null(),
    "alarms.length_low": FRACTION.or_null(),
    "alarms.length_high": AT_LEAST_ONE.or_null(),
    "alarms.ratio": POSITIVE.or_null(),
    "alarms.kl": POSITIVE.or_null(),
    "alarms.clip_frac": FRACTION.or_null(),
    "alarms.verdicts": FRACTION.or_null(),
    "alarms.lost": FRACTION.or_null(),
    "watchdog.factor": AT_LEAST_ONE.or_null(),
    "watchdog.floor": POSITIVE,
    "study.noise": POSITIVE.or_null(),
    "hardware.accelerator": _one_of("auto", "cpu", "cuda"),
    "hardware.devices": Rule("1 or more, or auto", lambda x: x == "auto" or ONE_OR_MORE.holds(x), 1024),
    "hardware.nodes": ONE_OR_MORE.up_to(100_000),
    "hardware.timeout": _number("at least 10 (seconds)", lambda x: x >= 10),
    "hardware.strategy": Rule(
        "auto, ddp (each process holds a whole model) or fsdp (each holds a part of it: FSDP2); "
        "type hardware.strategy=auto",
        ("auto", "ddp", "fsdp").__contains__,
    ),
    "hardware.threads": ONE_OR_MORE.up_to(1024).or_null(),
    "hardware.token_budget": ONE_OR_MORE.or_null(),
    "hardware.precision": _one_of("auto", "32-true", "64-true", "bf16-mixed"),
    "hardware.attention": _one_of("auto", "eager", "sdpa", "flash_attention_2", "flex_attention"),
    "dataset.bad_rows": BAD_ROWS,
    "dataset.overlap": _one_of("drop", "keep"),
    "reward.correct": FINITE,
    "reward.length": NODE,
    "reward.length.max_tokens": ONE_OR_MORE,
    "reward.length.cache": ONE_OR_MORE,
    "reward.length.factor": POSITIVE,
    "reward.length.penalty": POSITIVE,
    "reward.wrong": FINITE,
    "reward.no_answer": FINITE,
    "reward.functions": Rule(
        "a list of functions, or names with functions; type reward.functions=[winnow.rewards:accuracy]",
        lambda x: (
            (isinstance(x, DictConfig) and len(x) > 0)
            or _list_of("", lambda part: isinstance(part, str | DictConfig)).holds(x)
        ),
    ).or_null(),
    "reward.weights": Rule(
        "numbers, one for each function", lambda x: isinstance(x, ListConfig | DictConfig) and len(x) > 0
    ).or_null(),
    "reward.success": Rule(
        "a reward and a number; type reward.success={name: accuracy, at_least: 1}",
        lambda x: isinstance(x, DictConfig) and len(x) > 0,
    ).or_null(),
    "reward.isolated": FLAG,
    "reward.workers": ONE_OR_MORE.up_to(256),
    "reward.timeout": _number("above 0, and at most 86,400 seconds", lambda x: 0 < x <= 86_400),
    "reward.memory_mb": ONE_OR_MORE.up_to(10**7),
    "reward.prompts_per_call": ONE_OR_MORE.or_null(),
    "eval.folder": PATH.or_null(),
    "eval.files": Rule(
        "files by name; type 'eval.files={easy:a.jsonl,hard:b.jsonl}'",
        lambda x: (
            isinstance(x, DictConfig)
            and len(x) > 0
            and all(SET_NAME.fullmatch(str(name)) and PATH.holds(path) for name, path in x.items())
        ),
    ).or_null(),
    "resume": PATH.or_null(),
    "run": PATH.or_null(),
    "task_name": NAME.or_null(),
    "optimized_metric": Rule(
        f"one of {', '.join(OPTIMISED)}, or the name of a metric, such as train/reward/mean",
        lambda x: TEXT.holds(x) and (x in OPTIMISED or "/" in x),
    ),
    "trainer.profiler": _one_of("simple", "advanced", "pytorch").or_null(),
    "trainer.deterministic": Rule("true, false or warn", lambda x: isinstance(x, bool) or x == "warn").or_null(),
    "trainer.benchmark": FLAG.or_null(),
    "trainer.detect_anomaly": FLAG,
    "trainer.enable_progress_bar": FLAG,
    "trainer.enable_model_summary": FLAG,
    "extras.print_config": FLAG,
    "callbacks.device_stats.cpu_stats": FLAG.or_null(),
    "callbacks.learning_rate_monitor.log_momentum": FLAG,
    "callbacks.learning_rate_monitor.log_weight_decay": FLAG,
    "callbacks.model_summary.max_depth": _whole("-1 or more", lambda x: x >= -1, 100),
    "study.title": TEXT.or_null(),
    "dataset.seed": SEED,
    "dataset.levels": _list_of(
        "a list of numbers of operations, from 1 to 1,000 each; type dataset.levels=[3,4,5,6]", ONE_OR_MORE.holds, 1000
    ),
    "dataset.train_size": ONE_OR_MORE.up_to(10**7),
    "dataset.heldout_size": ONE_OR_MORE.up_to(10**7),
    "dataset.flawless": ZERO_OR_MORE,
    "dataset.direct": FRACTION,
    "dataset.slip": FRACTION,
    "dataset.tasks": _list_of("names of tasks; type dataset.tasks=[chain_sum]", TEXT.holds),
    "dataset.options": Rule(
        "settings by task; type 'dataset.options={chain_sum:{max_terms:3}}'",
        lambda x: isinstance(x, DictConfig) and len(x) > 0 and all(isinstance(part, DictConfig) for part in x.values()),
    ).or_null(),
    "dataset.heldout_path": PATH.or_null(),
    "dataset.heldout_split": TEXT.or_null(),
    "dataset.weights": Rule(
        "positive numbers by the names of dataset.mix; type 'dataset.weights={a:2,b:1}'",
        lambda x: isinstance(x, DictConfig) and len(x) > 0 and all(map(POSITIVE.holds, x.values())),
    ).or_null(),
    "dataset.mix": Rule(
        "datasets by name; type e.g. 'dataset.mix={sums:{path:a.jsonl},school:gsm8k}'",
        lambda x: isinstance(x, DictConfig) and len(x) > 0 and all(map(_is_part, x.values())),
    ).or_null(),
    "curriculum.column": TEXT.or_null(),
    "curriculum.start": SHARE,
    "curriculum.iterations": ONE_OR_MORE,
    "collector.rounds": ONE_OR_MORE.up_to(1000),
    "collector.prompts": ONE_OR_MORE.or_null(),
    "collector.patience": ONE_OR_MORE.or_null(),
    "collector.samples": ONE_OR_MORE,
    "collector.goal": _one_of("positives", "balance"),
    "collector.positives": ONE_OR_MORE,
    "collector.presamples": ONE_OR_MORE,
    "collector.alpha": NOT_NEGATIVE,
    "collector.beta": AT_LEAST_ONE,
    "collector.gradient": _one_of("embeddings", "all"),
    "model.name": TEXT,
    "model.path": PATH,
    "model.template": NODE,
    "model.lora": NODE,
    "model.template.system": TEXT.or_null(),
    "model.template.instruction": Rule("a text", lambda text: isinstance(text, str)),
    "model.lora.rank": ONE_OR_MORE.up_to(65536),
    "model.lora.alpha": POSITIVE.up_to(1e6),
    "model.lora.target_modules": FIELD,
    "model.shape": NODE,
    "model.shape.of": PATH,
    "model.shape.layers": ONE_OR_MORE.up_to(1000),
    "model.shape.width": ONE_OR_MORE.up_to(65536),
    "model.shape.intermediate": ONE_OR_MORE.up_to(2**20),
    "model.shape.heads": ONE_OR_MORE.up_to(1024),
    "model.shape.kv_heads": ONE_OR_MORE.up_to(1024),
    "model.shape.head_size": ONE_OR_MORE.up_to(65536),
    "model.shape.vocabulary": ONE_OR_MORE.up_to(2**24),
    "model.shape.positions": ONE_OR_MORE.up_to(2**24),
    "model.shape.tied": FLAG,
    "model.shape.biases": FLAG,
    "model.seed": SEED,
    "model.layers": ONE_OR_MORE.up_to(1000),
    "model.width": ONE_OR_MORE.up_to(65536),
    "model.heads": ONE_OR_MORE.up_to(1024),
    "model.kv_heads": ONE_OR_MORE.up_to(1024),
    "model.intermediate": ONE_OR_MORE.up_to(2**20),
    "model.positions": ONE_OR_MORE.up_to(2**24),
    "engine.alter": NODE,
    "engine.alter.dtype": _one_of("bfloat16", "float16"),
    "engine.alter.bits": _whole("from 2 to 8", lambda x: 2 <= x <= 8, 8),
    "engine.alter.factor": _number("1e-4 to 1e4; for 1, type engine/alter=none", lambda x: 1e-4 <= x <= 1e4 and x != 1),
    "engine.alter.k": ONE_OR_MORE,
    "engine.max_rows": ONE_OR_MORE.or_null(),
    "engine.graphs": FLAG,
    "engine.dtype": _one_of("float32", "bfloat16", "float16").or_null(),
    "engine.tensor_parallel_size": ONE_OR_MORE.up_to(1024),
    "engine.gpu_memory_utilization": SHARE,
    "engine.memory": SHARE.or_null(),
    "engine.max_model_len": ONE_OR_MORE.or_null(),
    "engine.enforce_eager": FLAG,
    "engine.url": URL.or_null(),
    "engine.remote": FLAG,
    "engine.command": TEXT.or_null(),
    "engine.devices": _list_of("numbers of GPUs, e.g. engine.devices=[2,3]", ZERO_OR_MORE.holds, 4096).or_null(),
    "engine.transfer": _one_of("auto", "files", "nccl"),
    "engine.weights_folder": PATH.or_null(),
    "engine.in_flight": ONE_OR_MORE.up_to(4096),
    "engine.timeout": POSITIVE.up_to(86400),
    "engine.start_timeout": POSITIVE.up_to(86400),
    "logger.wandb.project": TEXT,
    "logger.wandb.entity": TEXT.or_null(),
    "logger.wandb.mode": _one_of("auto", "online", "offline", "disabled"),
    "logger.wandb.group": TEXT.or_null(),
    "logger.wandb.name": TEXT.or_null(),
    "logger.wandb.tags": Rule(
        "a list of texts", lambda tags: isinstance(tags, ListConfig) and all(map(TEXT.holds, tags))
    ),
    "logger.mlflow.experiment": TEXT,
    "logger.mlflow.tracking_uri": TEXT.or_null(),
    "logger.mlflow.name": TEXT.or_null(),
    "logger.trackio.project": TEXT,
    "logger.trackio.space": TEXT.or_null(),
}
"""A setting that a configuration does not have, such as `limit` in training, is not checked."""

REFERENCE = _one_of("initial", "previous", "synced")
REFERENCE_RULES = {"reference": REFERENCE, "sync": NODE, "sync.every": ONE_OR_MORE, "sync.share": SHARE}
ALGORITHM_RULES = {
    **{f"algo.{axis}": NODE for axis in ("select", "advantage", "ratio", "clip", "aggregate", "kl", "correction")},
    **{f"algo.{axis}": NODE for axis in ("preference", "divergence", "tokens")},
    "algo.rejected": _one_of("drop", "zero"),
    "algo.truncated": _one_of("keep", "drop"),
    **{f"{of}.{key}": rule for of in ("algo", "algo.kl") for key, rule in REFERENCE_RULES.items()},
    "algo.entropy": Rule("0 or more, or algo/entropy=adaptive", lambda x: NODE.holds(x) or NOT_NEGATIVE.holds(x)),
    **{f"algo.entropy.{name}": NOT_NEGATIVE for name in ("target", "low", "high", "start")},
    "algo.entropy.step": POSITIVE,
    "algo.beta": POSITIVE,
    "algo.smoothing": _number("from 0, and below 0.5", lambda x: 0 <= x < 0.5),
    **{f"algo.{name}": FLAG for name in ("whiten", "shuffle")},
    **{f"algo.{name}": POSITIVE for name in ("critic_lr_ratio", "value_clip")},
    "algo.select.pairs": ONE_OR_MORE,
    "algo.advantage.centre": _one_of("none", "mean", "leave_one_out"),
    "algo.advantage.scale": _one_of("none", "std"),
    **{f"algo.advantage.{name}": FRACTION for name in ("gamma", "lam")},
    "algo.advantage.eps": POSITIVE,
    "algo.advantage.w_pos": NOT_NEGATIVE,
    "algo.advantage.w_neg": NOT_NEGATIVE,
    "algo.advantage.spread": _one_of("rewards", "advantages"),
    "algo.advantage.k": ONE_OR_MORE,
    "algo.ratio.low": POSITIVE,
    "algo.ratio.high": POSITIVE,
    "algo.clip.low": _number("from 1e-6 to 1", lambda x: 1e-6 <= x <= 1),
    "algo.clip.c": _number("1, or 1.000001 or more", lambda x: x == 1 or x >= 1.000001),
    "algo.clip.cap": AT_LEAST_ONE,
    "algo.clip.delta": NOT_NEGATIVE,
    "algo.clip.divergence": _one_of("tv", "kl"),
    "algo.clip.high": _number("1e-6 or more: below it there is only rounding", lambda x: x >= 1e-6),
    **{f"algo.clip.{at}": POSITIVE for at in ("positive", "negative", "k_pos", "lambda_pos", "k_neg", "lambda_neg")},
    "algo.aggregate.length": ONE_OR_MORE,
    "algo.correction.cap": AT_LEAST_ONE,
    "algo.correction.floor": FRACTION,
    "algo.correction.delta": NOT_NEGATIVE,
    "algo.tokens.share": _number("above 0 and below 1; for all of them, type algo/tokens=all", lambda x: 0 < x < 1),
    "algo.divergence.order": _number("a finite number other than 1", lambda x: isfinite(x) and x != 1),
    "algo.kl.coef": Rule("above 0; without the term, type algo/kl=none", POSITIVE.holds),
    "algo.kl.estimator.cap": POSITIVE,
    "algo.kl.clamp": POSITIVE.or_null("or null for none"),
    "algo.kl.place": _one_of("loss", "reward"),
    "algo.kl.weight": _one_of("none", "ratio"),
}

COLLECTION_RULES = {
    "path": PATH.or_null(),
    "repository": REPOSITORY.or_null(),
    "subset": TEXT.or_null(),
    "split": TEXT.or_null(),
    "revision": REVISION.or_null(),
    "files": TEXT.or_null(),
    "filter": TEXT.or_null(),
    "problem_field": FIELD,
    "answer_field": FIELD.or_null("or null for problems without answers"),
    "solution_field": FIELD,
    "gold": NODE,
    "demonstration": NODE,
}
"""Settings of `dataset` and of every benchmark."""
BENCHMARK_RULES = {
    "verifier": NODE,
    "name": TEXT,
    "folder": PATH.or_null(),
    "bad_rows": Rule("keep, refuse or drop", ("keep", "refuse", "drop", "error").__contains__),
}
VERIFIER_RULES = {
    "rule": NODE,
    "workers": ONE_OR_MORE.up_to(256),
    "timeout": _number("above 0, and at most 3,600 seconds", lambda x: 0 < x <= 3600),
    "rule.relative": FRACTION,
    "rule.function": Rule("module:name", lambda x: isinstance(x, str) and FUNCTION.fullmatch(x) is not None),
}
"""Settings of `reward.verifier` and of the verifier of every benchmark."""


def rules_of(benchmarks: Sequence[str], algorithm: bool, parts: Sequence[str] = ()) -> dict[str, Rule]:
    """The rules of all settings by dotted key, those of the `algorithm` only if it is to be used.

    `parts` are the names of the datasets in a mixture, whose settings have the rules of a dataset's own.
    """
    owners = [f"benchmarks.{name}" for name in benchmarks]
    rules = RULES | (ALGORITHM_RULES if algorithm else {})
    for owner in owners:
        rules |= {f"{owner}.{key}": rule for key, rule in BENCHMARK_RULES.items()}
    for owner in ("dataset", *owners):
        rules |= {f"{owner}.{key}": rule for key, rule in COLLECTION_RULES.items()}
    for owner in ("reward", *owners):
        rules |= {f"{owner}.verifier.{key}": rule for key, rule in VERIFIER_RULES.items()}
    of_dataset = {key.removeprefix("dataset."): rule for key, rule in rules.items() if key.startswith("dataset.")}
    return rules | {f"dataset.mix.{part}.{key}": rule for part in parts for key, rule in of_dataset.items()}
