"""In which settings runs differ."""

from collections.abc import Mapping, Sequence

from winnow.study.arms import IDLE, key_of, title
from winnow.study.runs import StudyRun

NO_EFFECT = IDLE | {"seed", "hardware"}
"""Parts of a configuration that are not what is compared: seeds are repetitions, the rest is where and how it ran."""


def differing(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The dotted keys in which two configurations differ, without those of `NO_EFFECT`; a key that is not there is null."""
    flat_a, flat_b = flat(a), flat(b)
    return [key for key in dict.fromkeys([*flat_a, *flat_b]) if flat_a.get(key) != flat_b.get(key)]


def differences(by_label: Mapping[str, Sequence[StudyRun]]) -> tuple[str, ...]:
    """A line for each setting that varies between arms outside `algo`, or within an arm, and that no label names."""
    told = {key_of(typed).replace("/", ".") for label in by_label for typed in label.split(" ")[1:]}
    configs = [(label, flat(run.config)) for label, runs in by_label.items() for run in runs]
    keys = dict.fromkeys(key for _, config in configs for key in config)
    lines = (
        _line(key, [(label, config.get(key)) for label, config in configs]) for key in keys if not _under(key, told)
    )
    return tuple(line for line in lines if line)


def flat(node: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """`{"rollout": {"prompts": 64}}` to `{"rollout.prompts": 64}`; lists are values."""
    leaves: dict[str, object] = {}
    for key, value in node.items():
        if not prefix and key in NO_EFFECT:
            continue
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return leaves


def _line(key: str, values: Sequence[tuple[str, object]]) -> str | None:
    """`rollout.samples: 8 in Iterative DPO, 4 elsewhere`."""
    within = [label for label in dict.fromkeys(label for label, _ in values) if len(_distinct(values, label)) > 1]
    if within:
        told = "; ".join(f"{' and '.join(_distinct(values, label))} within {title(label)}" for label in within)
        return f"{key}: {told}"
    if key.split(".")[0] == "algo" or len(_distinct(values)) == 1:
        return None
    by_value = {
        value: dict.fromkeys(title(label) for label, x in values if _text(x) == value) for value in _distinct(values)
    }
    *few, (common, _) = sorted(by_value.items(), key=lambda item: len(item[1]))
    return f"{key}: " + ", ".join(
        [*(f"{value} in {', '.join(titles)}" for value, titles in few), f"{common} elsewhere"]
    )


def _distinct(values: Sequence[tuple[str, object]], of: str | None = None) -> list[str]:
    return list(dict.fromkeys(_text(value) for label, value in values if of in (None, label)))


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _under(key: str, told: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in told)
