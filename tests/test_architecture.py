"""Imports run one way through every package and module, and the operations know nothing but torch."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "winnow"
LAYERS = (
    ("errors", "files", "packed", "rng", "verdict", "ops"),
    ("distributed", "types"),
    ("objectives",),
    ("algorithm",),
    ("models", "rewards"),
    ("data", "engines"),
    ("run_logs",),
    ("experience",),
    ("evaluation",),
    ("study", "training"),
    ("config",),
    ("assemble",),
    ("launch",),
    ("doctor",),
    ("cli",),
)
"""From low to high. A module imports from its own package, or from a lower layer; neighbours in a layer do not know each other."""
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
KNOWS_HYDRA = {"config", "launch", "assemble"}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if "conf" not in path.parts)


def room_of(path: Path) -> str:
    """The package or module directly under `winnow` that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def dotted_name(path: Path) -> str:
    parts = ("winnow", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted_name(path): path for path in modules()}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function: `from winnow.ops import clip` is `winnow.ops.clip`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{name.name}" for name in node.names}
            known = inside & MODULES.keys()
            found |= known | ({node.module} if inside - known else set())
    return found


def test_every_package_and_module_has_a_layer():
    assert {room_of(path) for path in modules()} - {"__init__"} == LAYER_OF.keys()


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) != "__init__"], ids=dotted_name)
def test_imports_run_one_way(path: Path):
    mine = room_of(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("winnow.")}
    upward = {room for room in rooms - {mine} if LAYER_OF[room] >= LAYER_OF[mine]}
    assert not upward


def test_no_circle_of_modules():
    graph = {name: (imports(path) & MODULES.keys()) - {name} for name, path in MODULES.items()}
    done: set[str] = set()
    while ready := {name for name in graph.keys() - done if graph[name] <= done}:
        done |= ready
    assert not graph.keys() - done


@pytest.mark.parametrize("path", sorted((SOURCE / "ops").glob("*.py")), ids=lambda path: path.stem)
def test_the_operations_are_pure(path: Path):
    allowed = {"torch", "jaxtyping", "math", "typing", "collections"}
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_only_the_edge_knows_hydra():
    inside = [path for path in modules() if room_of(path) not in KNOWS_HYDRA]
    knowing = [
        dotted_name(path) for path in inside if {n.split(".")[0] for n in imports(path)} & {"hydra", "omegaconf"}
    ]
    assert not knowing


def test_no_file_is_longer_than_one_noun_needs():
    assert not [dotted_name(path) for path in modules() if len(path.read_text().splitlines()) > 400]


def test_no_name_of_an_algorithm_is_compared_with():
    """No `if name == "grpo"`: an algorithm is its axes."""
    names = {path.stem for path in (SOURCE.parent.parent / "conf" / "algo").glob("*.yaml")}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                assert not values & names, f"{path}:{node.lineno}"
