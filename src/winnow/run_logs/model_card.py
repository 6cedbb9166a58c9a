"""The README.md of an exported model: what it is, how it was made, how good it is and how sure that is."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import yaml

from winnow.run_logs.run_files import Summary

SECTIONS = (
    "algo",
    "model",
    "dataset",
    "reward",
    "rollout",
    "update",
    "optim",
    "eval",
    "hardware",
    "seed",
    "iterations",
)
PACKAGES = ("torch", "transformers", "pytorch-lightning", "math-verify", "peft")


def model_card(summary: Summary, config: Mapping[str, object], rows: Sequence[Mapping[str, float]]) -> str:
    """`config` is the run's, resolved; `rows` are those of `metrics.jsonl`."""
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_front(summary, config), sort_keys=False, allow_unicode=True).strip(),
            "---",
            f"# {summary.model}, trained with {summary.algo}",
            "",
            f"Post-trained on `{summary.dataset}` with verifiable rewards by Winnow: "
            f"{summary.iterations} iterations, {summary.sampled_tokens:,} tokens sampled, {summary.trained_tokens:,} trained on, "
            f"seed {summary.seed}.",
            "",
            *_evaluations(summary, config, rows),
            "",
            "## Prompt",
            "",
            f"{_template(config)} SHA-256 of the first training problem's rendered prompt and ids: `{summary.prompt_hash}` "
            "(`winnow prompt` prints it). Weights are float32.",
            "",
            "## Configuration",
            "",
            "```yaml",
            yaml.safe_dump(
                {key: config[key] for key in SECTIONS if key in config}, sort_keys=False, allow_unicode=True
            ).strip(),
            "```",
            "",
            f"Python {platform.python_version()}; {', '.join(f'{name} {metadata.version(name)}' for name in PACKAGES)}.",
            "",
            "## Limits",
            "",
            "Trained to give answers that a verifier accepts, and evaluated on nothing else; one seed says little about another.",
            "",
        ]
    )


def _template(config: Mapping[str, object]) -> str:
    model = config.get("model")
    node = model.get("template") if isinstance(model, Mapping) else None
    if not isinstance(node, Mapping) or "instruction" not in node:
        return "The bare problem."
    system = f", after the system message `{node['system']}`" if node["system"] else ""
    return f"The tokenizer's chat template around the problem and `{node['instruction']}`{system}."


def _front(summary: Summary, config: Mapping[str, object]) -> dict[str, object]:
    front: dict[str, object] = {"library_name": "transformers", "tags": ["winnow", "rlvr", summary.algo]}
    base, data = (_hub_id(config, *keys) for keys in (("model", "path"), ("dataset", "repository")))
    return front | ({"base_model": base} if base else {}) | ({"datasets": [data]} if data else {})


def _hub_id(config: Mapping[str, object], section: str, key: str) -> str | None:
    """What a hub would know: `owner/name` that is no folder here."""
    node = config.get(section)
    value = node.get(key) if isinstance(node, Mapping) else None
    return value if isinstance(value, str) and value.count("/") == 1 and not Path(value).exists() else None


def _evaluations(summary: Summary, config: Mapping[str, object], rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Before and after, each with its 95 % interval over prompts."""
    ask = config["eval"]
    assert isinstance(ask, Mapping)
    lines = [
        f"## Accuracy, avg@{ask['samples']} at T = {ask['temperature']}, at most {ask['max_tokens']} tokens",
        "",
        "| set | verifier | before | after | iteration |",
        "|---|---|---|---|---|",
    ]
    for name, verifier in summary.verifiers.items():
        evaluated = [row for row in rows if f"eval/{name}/acc" in row]
        if evaluated:
            first, last = evaluated[0], evaluated[-1]
            lines.append(
                f"| {name} | {verifier} | {_accuracy_cell(first, name)} | {_accuracy_cell(last, name)} | {last['iteration']:.0f} |"
            )
    return lines


def _accuracy_cell(row: Mapping[str, float], name: str) -> str:
    centre, low, high = (100 * row[f"eval/{name}/{key}"] for key in ("acc", "acc_low", "acc_high"))
    return f"{centre:.1f} % ({low:.1f}–{high:.1f})"
