"""Combinations of settings that cannot run, and the check of every setting by its rule.

Nothing here imports torch, so that these checks are made before the imports that take seconds.
"""

from omegaconf import DictConfig, OmegaConf

from winnow.config.heldout_files import OWN
from winnow.config.override_errors import close_matches, keys_of, target_nodes
from winnow.config.reward_functions import has_functions, penalises_length, problems_of, without_answers
from winnow.config.setting_rules import NODE, NODES, SEVERAL, rules_of
from winnow.config.value_rule import unusual
from winnow.errors import ConfigError

REWARD_ROUNDING = 8 * 2.0**-23
"""Relative difference up to which two rewards are the same number in float32, as in `ops.spread`, which needs torch."""

COMPARE_SAMPLES = tuple(
    f"advantage.{rule}" for rule in ("group", "batch", "length_weighted", "over_pass_rate", "pass_at_k", "each_reward")
)
"""Ends of the names of rules under which a prompt with one sample never has an advantage."""
LOGGING_CALLBACKS = ("timer", "device_stats", "learning_rate_monitor")
"""Callbacks of `conf/callbacks` that are of use only with a logger."""


def check_ranges(cfg: DictConfig) -> None:
    """Check the values of a training configuration, and their combinations once every value is allowed.

    Raises:
        ConfigError: all problems, joined by "; ".
    """
    _refuse(_values(cfg) or _combinations(cfg))


def check_evaluation_ranges(cfg: DictConfig) -> None:
    """Check what an evaluation reads, which is nothing of the algorithm: the run may have been made with another.

    Raises:
        ConfigError: all problems, joined by "; ".
    """
    problems = _values(cfg, algorithm=False)
    if cfg.hardware.devices not in (1, "auto"):
        problems.append(
            f"hardware.devices={cfg.hardware.devices}: an evaluation runs on one device; leave it out, "
            "and evaluate other sets on the other devices"
        )
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError("; ".join(problems))


def check_values(cfg: DictConfig, algorithm: bool = True) -> None:
    """Check the value of every setting by itself.

    Raises:
        ConfigError: all problems, joined by "; ".
    """
    _refuse(_values(cfg, algorithm))


def _values(cfg: DictConfig, algorithm: bool = True) -> list[str]:
    """The settings whose value their rule does not allow, and unknown or repeated evaluation sets."""
    if broken := _broken_nodes(cfg):
        return broken
    mixed = OmegaConf.select(cfg, "dataset.mix", throw_on_missing=False)
    parts = [str(name) for name in mixed] if isinstance(mixed, DictConfig) else []
    rules = rules_of([str(name) for name in cfg.benchmarks], algorithm, parts)
    of_others = tuple(f"{path}." for path, node in target_nodes(cfg) if not is_ours(node))
    problems = []
    for key in [key for key in keys_of(cfg) if algorithm or not key.startswith("algo.")]:
        rule = None if key.startswith(of_others) else rules.get(key)
        value = OmegaConf.select(cfg, key)
        problem = unusual(value) if rule is None else rule.problem(value)
        if problem is not None:
            problems.append(f"{key}={_shown(value)}: {problem}")
    known, sets = [*map(str, cfg.benchmarks), OWN], list(cfg.eval.sets)
    for name in dict.fromkeys(sets):
        if name not in known:
            hint = "".join(f"did you mean {near}? " for near in close_matches(name, known)[:1])
            problems.append(f"eval.sets: no benchmark {name}; {hint}there are {', '.join(known)}")
        if sets.count(name) > 1:
            problems.append(f"eval.sets: {name} is named twice")
    files = cfg.eval.get("files")
    for name in files if isinstance(files, DictConfig) else ():  # anything else is told above
        if name in known:
            problems.append(f"eval.files.{name}: is the name of another evaluation set; choose another name")
    return problems


def is_ours(node: DictConfig) -> bool:
    """Whether the class of a node is Winnow's or Lightning's, so that Winnow knows its settings."""
    return str(node["_target_"]).startswith(("winnow.", "pytorch_lightning."))


def _shown(value: object) -> str:
    if type(value) is int and value.bit_length() > 1000:  # Python does not write numbers of many digits
        return f"(a number of {value.bit_length():,} bits)"
    return "null" if value is None else str(value)


def _broken_nodes(cfg: DictConfig) -> list[str]:
    """The nodes from which nothing can be built, because a file put something else in their place."""
    nodes = {key: OmegaConf.select(cfg, key, throw_on_missing=False) for key in NODES}
    problems = [
        f"{key}: must be {NODE.words}; type {key.replace('.', '/')}=NAME"
        for key, node in nodes.items()
        if not NODE.holds(node)
    ]
    several = [(group, name, node) for group in SEVERAL for name, node in (cfg.get(group) or {}).items()]
    for group, name, node in several:
        if not NODE.holds(node):
            problems.append(f"{group}.{name}: must be {NODE.words}; type {group}=NAME, or {group}=[NAME,NAME]")
    benchmarks = cfg.get("benchmarks")
    if not isinstance(benchmarks, DictConfig) or not all(map(NODE.holds, benchmarks.values())):
        problems.append("benchmarks: must be a group of benchmarks, each with its class (`_target_`)")
    return problems


def _combinations(cfg: DictConfig) -> list[str]:
    """Combinations that cannot run, of settings whose values are allowed."""
    algorithm, advantage, select = (
        str(OmegaConf.select(cfg, f"algo{axis}._target_")) for axis in ("", ".advantage", ".select")
    )
    supervised = algorithm.endswith("Supervised")
    rollout, budget, problems = cfg.rollout, cfg.budget, []
    if rollout.problems is not None and rollout.problems < rollout.prompts:
        problems.append(
            f"rollout.problems={rollout.problems}: an iteration takes {rollout.prompts} different ones; type "
            f"rollout.prompts={rollout.problems}"
        )
    if cfg.hardware.offload and cfg.hardware.strategy != "fsdp":
        problems.append(
            "hardware.offload=true: moves shards to main memory, and this run has none; type hardware=fsdp, or leave "
            "it out"
        )
    parts = len(cfg.dataset.get("mix") or ())
    if rollout.problems is not None and rollout.problems < parts:
        problems.append(
            f"rollout.problems={rollout.problems}: dataset.mix has {parts} parts, and each needs one; type "
            f"rollout.problems={parts}, or leave out a part"
        )
    unseen = [name for name in LOGGING_CALLBACKS if name in cfg.callbacks and not cfg.logger]
    if unseen:
        problems.append(f"callbacks={unseen[0]}: its figures go to the loggers, and there is none; type logger=csv")
    if rollout.samples == 1 and advantage.endswith(COMPARE_SAMPLES):
        problems.append("rollout.samples=1: a group advantage compares samples of one prompt; type rollout.samples=8")
    elif advantage.endswith("advantage.pass_at_k") and (k := cfg.algo.advantage.k) >= rollout.samples:
        problems.append(
            f"algo.advantage.k={k}: must be below rollout.samples={rollout.samples}, as all samples are one choice "
            f"and say nothing of each; type rollout.samples={2 * k}, or algo.advantage.k={rollout.samples // 2}"
        )
    if select.endswith("select.negative") and advantage.endswith(("advantage.reward", "advantage.signed")):
        problems += _without_signal(cfg)
    if str(OmegaConf.select(cfg, "algo.clip._target_")).endswith("clip.cpgd") and cfg.algo.clip.low == 1:
        problems.append(
            "algo.clip.low=1: must be below 1, as algo/clip=cpgd takes log(1 − low); type algo.clip.low=0.2"
        )
    if rollout.samples == 1 and select.endswith(("select.mixed_prompts", "select.extremes")):
        problems.append("rollout.samples=1: one sample cannot disagree with itself; type rollout.samples=8")
    if has_functions(cfg):
        problems += problems_of(cfg, supervised)
    else:
        problems += _scale_problems(cfg.reward)
        if without_answers(cfg) and not supervised:
            problems.append(
                "dataset.answer_field=null: without answers every verdict is the same; name the field, or type "
                "reward=function reward.functions=[module:name]"
            )
    curriculum = str(OmegaConf.select(cfg, "curriculum._target_"))
    if rollout.staleness and supervised:
        problems.append(f"rollout.staleness={rollout.staleness}: demonstrations are not sampled; leave it out")
    if rollout.staleness and curriculum.endswith("ByPassRate"):
        problems.append(
            f"rollout.staleness={rollout.staleness}: curriculum=pass_rate chooses problems by the results of the "
            "iteration before, which are not there yet; type curriculum=column, or leave one of them out"
        )
    problems += [*collector_problems(cfg, supervised), *_reference_problems(cfg)]
    if supervised and curriculum.endswith("ByPassRate"):
        problems.append(
            "curriculum=pass_rate: demonstrations are not sampled, so that there are no pass rates; type "
            "curriculum=column or leave it out"
        )
    if curriculum.endswith("ByColumn") and cfg.curriculum.get("column") is None:
        problems.append("curriculum.column is not set; type curriculum.column=NAME, a column of the dataset")
    if supervised and not cfg.algo.get("shuffle", True) and not curriculum.endswith("NoCurriculum"):
        problems.append("algo.shuffle=false: the curriculum says what the order is; leave out one of the two")
    if (width := cfg.model.get("width")) is not None:
        heads, kv_heads = cfg.model.heads, cfg.model.kv_heads
        if width % (2 * heads) or heads % kv_heads:
            problems.append(
                f"model.width={width}: must be a multiple of twice model.heads ({heads}), and that one of "
                f"model.kv_heads ({kv_heads})"
            )
    rows = rollout.prompts * (1 if supervised else rollout.samples)
    minibatches = cfg["update"].minibatches  # `cfg.update` is a method of every mapping
    if minibatches > rows:
        problems.append(f"update.minibatches={minibatches}: an iteration has only {rows} rows")
    limits = [f"budget.{key}={value}" for key, value in budget.items() if value is not None]
    if limits and cfg.optim.schedule != "constant":
        problems.append(
            f"optim.schedule={cfg.optim.schedule}: falls over `iterations`, which {limits[0]} may cut short; "
            "type optim.schedule=constant, or leave out the budget"
        )
    if budget.sampled_tokens is not None and supervised:
        tokens = budget.sampled_tokens
        problems.append(
            f"budget.sampled_tokens={tokens}: demonstrations are not sampled; type budget.trained_tokens={tokens}"
        )
    return problems


def collector_problems(cfg: DictConfig, supervised: bool) -> list[str]:
    """The settings with which a collector cannot draw."""
    name, rollout = str(OmegaConf.select(cfg, "collector._target_")).rpartition(".")[2], cfg.rollout
    if name == "Fixed":
        return []
    word, problems = f"collector={name.lower()}", []
    if supervised:
        problems.append(f"{word}: demonstrations are not sampled; type collector=fixed")
    if rollout.staleness:
        problems.append(
            f"rollout.staleness={rollout.staleness}: {word} draws by the verdicts on the samples before, which are not "
            "there yet; type rollout.staleness=0 or collector=fixed"
        )
    if name == "Refill" and rollout.samples == 1:
        problems.append(f"rollout.samples=1: {word} looks for mixed prompts, and one sample is none; type more samples")
    drawn = cfg.collector.get("rounds", 0) * cfg.collector.get("samples", 0)
    if name == "Adaptive" and drawn < rollout.samples:
        problems.append(
            f"rollout.samples={rollout.samples}: {word} draws {drawn} samples of a prompt at most, and is to keep "
            f"that many of them; type rollout.samples={drawn}, or more collector.rounds"
        )
    if name == "Adaptive" and cfg.collector.goal == "balance" and cfg.collector.positives != 1:
        problems.append(
            f"collector.positives={cfg.collector.positives}: collector.goal=balance does not read it; type "
            "collector.goal=positives, or leave it out"
        )
    if name == "Adaptive" and cfg.collector.goal == "positives" and cfg.collector.positives > drawn:
        problems.append(
            f"collector.positives={cfg.collector.positives}: {word} draws {drawn} samples of a prompt at most; type "
            f"collector.positives={drawn} or fewer, or more collector.rounds"
        )
    if name == "Budgets" and cfg.hardware.strategy == "fsdp":
        problems.append(
            f"hardware.strategy=fsdp: {word} reads gradients of single responses, which sharded weights do not have; "
            "type hardware=ddp, or another collector"
        )
    adapters = "rank" in (cfg.model.get("lora") or {})
    if name == "Budgets" and adapters and cfg.collector.get("gradient") == "embeddings":
        problems.append(
            "collector.gradient=embeddings: with model/lora=adapter the embeddings are not trained; type "
            "collector.gradient=all"
        )
    return problems


def _reference_problems(cfg: DictConfig) -> list[str]:
    """Reference policies that cannot follow the policy, because they are its own frozen weights."""
    adapters = "rank" in (cfg.model.get("lora") or {})
    return [
        f"{key}=synced: with model/lora=adapter the reference is the model without its adapters, which has no weights "
        f"of its own to move; type {key}=initial, or leave the adapters out"
        for key in ("algo.reference", "algo.kl.reference")
        if adapters and OmegaConf.select(cfg, key) == "synced"
    ]


def _without_signal(cfg: DictConfig) -> list[str]:
    """Only samples that are not correct are kept, and each has a reward of 0."""
    if has_functions(cfg) or penalises_length(cfg) or cfg.algo.kl.get("place") == "reward":
        return []
    if (cfg.reward.wrong, cfg.reward.no_answer) != (0, 0):
        return []
    return [
        "algo/select=negative: keeps only samples whose reward is 0, so that none has an advantage; type "
        "reward=plus_minus_one"
    ]


def _scale_problems(reward: DictConfig) -> list[str]:
    other = max(reward.wrong, reward.no_answer)
    if reward.correct - other > REWARD_ROUNDING * max(abs(reward.correct), abs(other)):
        return []
    return [
        f"reward.correct={reward.correct}: must be above reward.wrong and reward.no_answer ({other}) "
        "by more than rounding in float32"
    ]
