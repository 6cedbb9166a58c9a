"""Imports run one way, and the maths knows nothing but torch."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "winnow"
FLOORS = ("ops", "objectives", "algorithm", "experience", "evaluation", "study", "training", "build", "bench")
"""From the ground up; a module imports from its own floor or one below."""
KNOWS_HYDRA = (
    "schema.py",
    "limits.py",
    "validation.py",
    "instantiation.py",
    "describe.py",
    "build",
    "cli.py",
    "doctor.py",
    "app",
)


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return found | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def modules() -> list[Path]:
    return [path for path in SOURCE.rglob("*.py") if "conf" not in path.parts]


def floor(dotted: str) -> int:
    parts = dotted.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[0] == "winnow" and parts[1] in FLOORS else -1


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if floor(f"winnow.{p.relative_to(SOURCE).parts[0].removesuffix('.py')}") >= 0],
    ids=str,
)
def test_imports_run_one_way(path: Path):
    mine = floor(f"winnow.{path.relative_to(SOURCE).parts[0].removesuffix('.py')}")
    above = {name for name in imports(path) if floor(name) > mine}
    assert not above


@pytest.mark.parametrize("path", sorted((SOURCE / "ops").glob("*.py")), ids=lambda p: p.stem)
def test_the_maths_is_pure(path: Path):
    allowed = {"torch", "jaxtyping", "math", "typing", "collections"}
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_only_the_edge_knows_hydra():
    inside = [p for p in modules() if p.relative_to(SOURCE).parts[0] not in KNOWS_HYDRA]
    knowing = [p.name for p in inside if {n.split(".")[0] for n in imports(p)} & {"hydra", "omegaconf"}]
    assert not knowing


def test_no_name_of_an_algorithm_is_compared_with():
    """No `if name == "grpo"`: an algorithm is its axes."""
    names = {path.stem for path in (SOURCE.parent.parent / "conf" / "algo").glob("*.yaml")}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                assert not values & names, f"{path}:{node.lineno}"
