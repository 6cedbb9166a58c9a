"""Model card of an exported model, its README.md: training, accuracy with intervals, prompt and configuration."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, Template

from winnow.run_logs.run_files import Summary

PACKAGES = ("torch", "transformers", "pytorch-lightning", "math-verify", "peft")
"""Packages whose versions the card names."""


def model_card(summary: Summary, config: Mapping[str, object], rows: Sequence[Mapping[str, float]]) -> str:
    """The card as Markdown with YAML front matter, rendered from `model_card.md.j2`.

    `config` is the run's resolved configuration and `rows` are the rows of its `metrics.jsonl`. Accuracies before and
    after training are shown with 95 % intervals over prompts.
    """
    template = Template(
        files("winnow.run_logs").joinpath("model_card.md.j2").read_text(encoding="utf-8"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    evaluated = {name: [row for row in rows if f"eval/{name}/acc" in row] for name in summary.verifiers}
    return template.render(
        summary=summary,
        config=config,
        front_matter=_front_matter(summary, config),
        evaluations=[(name, of_set[0], of_set[-1]) for name, of_set in evaluated.items() if of_set],
        template=_entry(config, "model", "template"),
        to_yaml=_to_yaml,
        python=platform.python_version(),
        packages=[f"{name} {metadata.version(name)}" for name in PACKAGES],
    )


def _front_matter(summary: Summary, config: Mapping[str, object]) -> dict[str, object]:
    front: dict[str, object] = {"library_name": "transformers", "tags": ["winnow", "rlvr", summary.algo]}
    base, data = _entry(config, "model", "path"), _entry(config, "dataset", "repository")
    return (
        front | ({"base_model": base} if _is_hub_id(base) else {}) | ({"datasets": [data]} if _is_hub_id(data) else {})
    )


def _entry(config: Mapping[str, object], section: str, key: str) -> object:
    node = config.get(section)
    return node.get(key) if isinstance(node, Mapping) else None


def _is_hub_id(value: object) -> bool:
    """Whether a hub would know it: `owner/name` that is no local path."""
    return isinstance(value, str) and value.count("/") == 1 and not Path(value).exists()


def _to_yaml(value: Mapping[str, object]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip()
