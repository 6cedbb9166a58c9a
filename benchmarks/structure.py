"""Structure of a source tree: sizes, imports, circles of packages, docstrings and functions, counted from its files.

`python -m benchmarks.structure [SRC_DIR …]` prints a Markdown table with one column per directory (default src), and
with `--list` also the modules and imports behind the counts. Imports inside functions and under TYPE_CHECKING count
like those at the top of a file; references from outside the tree (tests, `_target_` in YAML) do not count.
"""

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGE = "winnow"
LAYERS = (
    ("_version", "errors"),
    (
        "columns",
        "files",
        "installed",
        "packed",
        "finite",
        "process_group",
        "rng",
        "signals",
        "source_files",
        "verdict",
        "visible_text",
        "ops",
    ),
    ("distributed", "jsonl", "tensor_files", "types"),
    ("rule",),
    ("objectives",),
    ("algorithm",),
    ("explain", "models", "rewards"),
    ("data", "engines"),
    ("run_logs",),
    ("experience",),
    ("evaluation", "guards"),
    ("conformance", "oracle", "plan", "study", "training"),
    ("config",),
    ("assemble",),
    ("launch",),
    ("doctor", "new_project"),
    ("cli",),
    ("__main__", "library"),
)
"""The order of imports under `winnow`, from low to high. A package or module imports only from itself and from lower
layers, so that neighbours in a layer do not import each other."""
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
OPENS_WITH_A_QUESTION = re.compile(r"\s*(What|Who|How)\b")
LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclass(frozen=True)
class Module:
    """A parsed file of a source tree, with its dotted name."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def room(self) -> str | None:
        """The package or module directly under `winnow` that the file belongs to; None for all other files."""
        return room_of(self.name)

    def strings(self) -> Iterator[ast.Constant]:
        """Docstrings in the wide sense: every string that is a statement of its own, also below an attribute."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield node.value

    def tokens(self) -> Iterator[tokenize.TokenInfo]:
        return tokenize.generate_tokens(io.StringIO(self.text).readline)

    def comments(self) -> int:
        """Comments, those that are directives to tools included."""
        return sum(token.type == tokenize.COMMENT for token in self.tokens())

    def code_lines(self) -> int:
        """Lines that hold code: no blank lines, no lines of comments or docstrings alone."""
        prose = {line for string in self.strings() for line in range(string.lineno, (string.end_lineno or 0) + 1)}
        code = {
            line
            for token in self.tokens()
            if token.type != tokenize.COMMENT and token.type not in LAYOUT
            for line in range(token.start[0], token.end[0] + 1)
        }
        return len(code - prose)

    def function_lengths(self) -> list[int]:
        """Lines of every function, from `def` to its end with its docstring; a nested function counts in both."""
        functions = (n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        return [(function.end_lineno or 0) - function.lineno + 1 for function in functions]

    def imports(self, known: Mapping[str, object] | None = None) -> set[str]:
        """Dotted names of the imported modules; `from winnow.ops import clip` is `winnow.ops.clip` if that is in
        `known`."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                inside = {f"{base}.{alias.name}" for alias in node.names}
                modules = inside & (known or {}).keys()
                found |= modules | ({base} if inside - modules else set())
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        """The module after `from`, with a relative one made absolute."""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        return ".".join([*above, *([node.module] if node.module else [])])


def room_of(name: str) -> str | None:
    """`ops` for `winnow.ops.clip`; None outside the package and for the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def read_tree(root: Path) -> dict[str, Module]:
    """All Python files below `root`, by dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def import_graph(tree: Mapping[str, Module]) -> dict[str, set[str]]:
    """For each module the other modules of the tree that it imports."""
    return {name: (module.imports(tree) & tree.keys()) - {name} for name, module in tree.items()}


def modules_with_one_importer(tree: Mapping[str, Module]) -> list[str]:
    """Modules, not packages, that exactly one other module of the tree imports."""
    imported = [name for names in import_graph(tree).values() for name in names]
    return [name for name, m in tree.items() if m.path.name != "__init__.py" and imported.count(name) == 1]


def room_graph(tree: Mapping[str, Module]) -> dict[str, set[str]]:
    """For each package or module directly under `winnow` the others that it imports."""
    graph: dict[str, set[str]] = {module.room: set() for module in tree.values() if module.room}
    for name, names in import_graph(tree).items():
        if (mine := room_of(name)) is not None:
            graph[mine] |= {room for each in names if (room := room_of(each)) not in (None, mine)}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected sets of two or more nodes, largest first."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set[str](), [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        reached[start] = seen
    found = {frozenset(other for other in reached[node] if node in reached[other]) for node in graph}
    return sorted((set(circle) for circle in found if len(circle) > 1), key=lambda circle: (-len(circle), min(circle)))


def upward_imports(tree: Mapping[str, Module]) -> list[tuple[str, str]]:
    """Pairs of importing and imported module that break the order of `LAYERS`; packages outside it are left out."""
    return [
        (name, other)
        for name, names in import_graph(tree).items()
        for other in sorted(names)
        if (mine := room_of(name)) in LAYER_OF
        and (room := room_of(other)) in LAYER_OF
        and room != mine
        and LAYER_OF[room] >= LAYER_OF[mine]
    ]


def hydra_files(tree: Mapping[str, Module]) -> list[str]:
    """Modules that import Hydra or OmegaConf."""
    return [n for n, m in tree.items() if {each.split(".")[0] for each in m.imports()} & {"hydra", "omegaconf"}]


def _percentile(values: Sequence[int], percent: int) -> str:
    """Interpolated linearly between the two nearest values, as numpy does."""
    return f"{np.percentile(values, percent):g}" if values else "–"


def measured(tree: Mapping[str, Module]) -> dict[str, str]:
    """The rows of the table, as texts."""
    modules = tree.values()
    lines = [module.lines for module in modules]
    lengths = [length for module in modules for length in module.function_lengths()]
    opening = [bool(OPENS_WITH_A_QUESTION.match(ast.get_docstring(module.tree) or "")) for module in modules]
    strings = [str(string.value) for module in modules for string in module.strings()]
    comments = sum(module.comments() for module in modules)
    graph = room_graph(tree)
    return {
        "files": f"{len(tree)}",
        "lines": f"{sum(lines)}",
        "lines of a file, median": _percentile(lines, 50),
        "code lines": f"{sum(module.code_lines() for module in modules)}",
        "comments per 100 lines": f"{100 * comments / max(sum(lines), 1):.1f}",
        "lines of a function, median": _percentile(lengths, 50),
        "lines of a function, 90th percentile": _percentile(lengths, 90),
        "modules with exactly one importer": f"{len(modules_with_one_importer(tree))}",
        "circles of packages": f"{len(circles(graph))}",
        "packages in circles": f"{sum(map(len, circles(graph)))} of {len(graph)}",
        "imports against the order": f"{len(upward_imports(tree))}",
        "packages outside the order": f"{len(graph.keys() - LAYER_OF.keys())}",
        "files that import hydra or omegaconf": f"{len(hydra_files(tree))}",
        "module docstrings that begin with What, Who or How": f"{sum(opening)}",
        "docstrings that begin with What, Who or How": f"{sum(map(bool, map(OPENS_WITH_A_QUESTION.match, strings)))}",
    }


def listed(tree: Mapping[str, Module]) -> Iterator[str]:
    """The names behind the counts, one per line."""
    yield from (f"one importer: {name}" for name in modules_with_one_importer(tree))
    yield from (f"circle: {', '.join(sorted(circle))}" for circle in circles(room_graph(tree)))
    yield from (f"against the order: {name} imports {other}" for name, other in upward_imports(tree))
    yield from (f"outside the order: {room}" for room in sorted(room_graph(tree).keys() - LAYER_OF.keys()))
    yield from (f"hydra or omegaconf: {name}" for name in hydra_files(tree))


def main() -> None:
    """Print the table of the directories on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description="Structure of source trees.")
    parser.add_argument("directories", nargs="*", type=Path, default=[Path("src")], metavar="SRC_DIR")
    parser.add_argument("--list", action="store_true", help="also the modules and imports behind the counts")
    args = parser.parse_args()
    trees = [read_tree(directory) for directory in args.directories]
    for directory, tree in zip(args.directories, trees, strict=True):
        if not tree:
            parser.error(f"{directory}: no Python files; name a directory that holds packages, such as src")
    columns = [measured(tree) for tree in trees]
    print(f"| | {' | '.join(map(str, args.directories))} |\n|---{'|---:' * len(columns)}|")
    for row in columns[0]:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")
    if args.list:
        for directory, tree in zip(args.directories, trees, strict=True):
            print(f"\n{directory}", *listed(tree), sep="\n")


if __name__ == "__main__":
    main()
