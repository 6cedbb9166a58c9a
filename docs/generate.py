"""Write the tables of README.md and docs/, and the examples of explain.md; `--check` fails if they are outdated."""

import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from winnow.config.explanation import explain
from winnow.config.groups import option_at
from winnow.config.other_names import other_names

ROOT = Path(__file__).parent.parent
ALGO = ROOT / "conf" / "algo"
EXPLAIN = ROOT / "docs" / "explain.md"
COLUMNS = ("select", "advantage", "ratio", "clip", "aggregate", "kl")
"""The axes that algorithms differ in; of the last, every one has `none`."""
AXES = (*COLUMNS, "correction", "tokens", "preference", "divergence")
FAMILY = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")
"""The algorithms of the paper, and SFT, in the order of the table."""


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def summary(path: Path) -> str:
    """The first comment of a YAML."""
    return path.read_text().splitlines()[0].removeprefix("# ")


def choices(path: Path) -> dict[str, str]:
    """The axis values that an algorithm's defaults list names."""
    found: dict[str, str] = {}
    for entry in read(path)["defaults"]:
        found |= {axis: value for axis, value in entry.items() if axis in COLUMNS}
    return found


def algorithms() -> str:
    lines = [f"| `algo=` | {' | '.join(COLUMNS)} | |", f"|---|{'---|' * len(COLUMNS)}---|"]
    for name in FAMILY:
        path = ALGO / f"{name}.yaml"
        picked = choices(path)
        what = summary(path).split(": ", 1)[-1].rstrip(".")
        lines.append(f"| **{name}** | {' | '.join(picked.get(axis, '–') for axis in COLUMNS)} | {what} |")
    return "\n".join(lines)


def base_of(name: str) -> str | None:
    """The algorithm that another one's YAML changes."""
    return next((entry for entry in read(ALGO / f"{name}.yaml")["defaults"] if isinstance(entry, str)), None)


def changes(name: str) -> dict[str, str]:
    """The axis values by which an algorithm differs from the one that its YAML begins with."""
    own = [entry for entry in read(ALGO / f"{name}.yaml")["defaults"] if isinstance(entry, dict)]
    return {axis.removeprefix("override "): value for entry in own for axis, value in entry.items()}


def options(name: str) -> set[Path]:
    """The files of the options that an algorithm is made of, with those that they build on."""
    base = base_of(name)
    own = [ALGO / axis / f"{value}.yaml" for axis, value in changes(name).items() if axis in AXES]
    return {part for path in own for part in (path, *bases(path))} | (options(base) if base else set())


def bases(path: Path) -> list[Path]:
    """The files of its own folder that an option builds on, the nearest first."""
    own = [path.with_stem(entry) for entry in read(path).get("defaults", [])]
    return [part for base in own for part in (base, *bases(base))]


def functions(name: str) -> set[str]:
    """The functions that an algorithm is made of, by their dotted names."""
    return {target(path) for path in options(name)}


def since() -> str:
    """The algorithms since the paper: what each changes, the lines of its YAML and of the options and functions that it
    needed."""
    known = {dotted for name in FAMILY for dotted in functions(name)}
    present = {path for name in FAMILY for path in options(name)}
    lines = ["| `algo=` | is | with | YAML lines | Python lines | source |", "|---|---|---|---|---|---|"]
    for path in sorted(ALGO.glob("*.yaml")):
        name, base = path.stem, base_of(path.stem)
        if base is None:
            continue
        text = path.read_text()
        values = [f"{axis} {value}" for axis, value in changes(name).items()]
        new = sorted(functions(name) - known)
        added = sum(len(inspect.getsource(function_at(dotted)).splitlines()) for dotted in new)
        files = sum(len(part.read_text().splitlines()) for part in options(name) - present)
        yaml_lines = f"{len(text.splitlines())}{f' + {files}' if files else ''}"
        source = re.search(r"arXiv \S*\d", text)
        lines.append(
            f"| **{name}** | {base} | {', '.join(values) or '–'} | {yaml_lines} | {added or '–'} | "
            f"{source[0] if source else '–'} |"
        )
    return "\n".join(lines)


def function_at(dotted: str) -> Callable[..., object]:
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def target(path: Path) -> str:
    node = option_at(path)
    return node["estimator"]["_target_"] if "estimator" in node else node["_target_"]


def flat(node: dict, prefix: str = "") -> dict[str, object]:
    """The settings of a node by dotted key, those of nodes inside of it included."""
    found: dict[str, object] = {}
    for key, value in node.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        found |= {} if key.startswith("_") else inner
    return found


def settings(path: Path) -> str:
    node = {k: v for k, v in flat(option_at(path)).items() if not k.startswith("estimator")}
    return ", ".join(f"`{k}` {'–' if v is None else v}" for k, v in node.items()) or "–"


def thought(dotted: str) -> str:
    """The first paragraph of a function's docstring, on one line."""
    doc = inspect.getdoc(function_at(dotted)) or ""
    return " ".join(doc.split("\n\n")[0].split()).replace("|", "\\|")


def axis(name: str) -> str:
    lines = [f"| `algo/{name}=` | what it is | function | settings |", "|---|---|---|---|"]
    for path in sorted((ALGO / name).glob("*.yaml")):
        dotted = target(path)
        what = summary(path).replace("|", "\\|") if bases(path) else thought(dotted)
        lines.append(f"| **{path.stem}** | {what} | `{dotted.removeprefix('winnow.')}` | {settings(path)} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def names_of(tool: str) -> str:
    """The settings of another tool, and what to type here."""
    lines = ["| there | here | |", "|---|---|---|"]
    for other in other_names():
        if other.tool == tool:
            lines.append(f"| `{other.name}` | {f'`{other.type}`' if other.type else '–'} | {cell(other.note)} |")
    return "\n".join(lines)


TOOLS = list(dict.fromkeys(other.tool for other in other_names()))
BLOCKS = {
    "algorithms": algorithms,
    "since": since,
    **{f"names {tool}": (lambda tool=tool: names_of(tool)) for tool in TOOLS},
    **{f"axis {name}": (lambda name=name: axis(name)) for name in AXES},
}


def explained(command: str) -> str:
    """The command `winnow explain WORDS` with what it prints."""
    printed = explain(shlex.split(command)[2:])
    return re.sub(r"differ by at most \S+", "differ by at most 4e-16", f"{command}\n{printed}\n")


def filled(text: str) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- end -->` made anew."""
    for name, block in BLOCKS.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, b=block: f"{m[1]}{b()}\n{m[2]}", text, flags=re.DOTALL
        )
    examples = r"(^```text\n)(winnow explain [^\n]*)\n.*?(^```)"
    return re.sub(examples, lambda m: f"{m[1]}{explained(m[2])}{m[3]}", text, flags=re.DOTALL | re.MULTILINE)


def main() -> int:
    stale = []
    for path in (ROOT / "README.md", ROOT / "docs" / "algorithms.md", ROOT / "docs" / "migrating.md", EXPLAIN):
        before = path.read_text()
        after = filled(before)
        if before != after:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(after)
    print(f"{'out of date' if '--check' in sys.argv else 'rewritten'}: {', '.join(stale) or 'nothing'}")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
