"""Imports run one way through every package and module, and the operations know nothing but torch."""

import ast
from pathlib import Path

import pytest

from benchmarks.structure import LAYER_OF, OPENS_WITH_A_QUESTION, circles, hydra_files, import_graph, read_tree
from benchmarks.structure import upward_imports as imports_against_the_order

ROOT = Path(__file__).parent.parent
SOURCE = read_tree(ROOT / "src")
PACKAGE = {name: module for name, module in SOURCE.items() if module.room is not None}
"""Every module of the package except `winnow` itself."""
KNOW_HYDRA = {"config", "launch", "assemble"}


def test_every_package_and_module_has_its_place_in_the_order():
    assert {module.room for module in PACKAGE.values()} == LAYER_OF.keys()


def test_imports_run_one_way():
    """Imports inside functions count like those at the top of a file."""
    assert imports_against_the_order(SOURCE) == []


def test_no_circle_of_modules():
    assert circles(import_graph(SOURCE)) == []


@pytest.mark.parametrize("name", [name for name, module in PACKAGE.items() if module.room == "ops"])
def test_the_operations_are_pure(name: str):
    allowed = {"torch", "jaxtyping", "math", "typing", "collections"}
    outside = [imported for imported in SOURCE[name].imports() if not imported.startswith("winnow.ops")]
    assert {imported.split(".")[0] for imported in outside} <= allowed


def test_only_configuration_launch_assembly_and_the_launcher_know_hydra():
    assert [name for name in hydra_files(PACKAGE) if PACKAGE[name].room not in KNOW_HYDRA] == []


def test_no_file_is_longer_than_400_lines():
    benchmarks = read_tree(ROOT / "benchmarks")
    assert [name for name, module in (SOURCE | benchmarks).items() if module.lines > 400] == []


def test_the_operations_stay_short():
    """`ops/` is what a reader of an algorithm opens: no function of more than 22 lines beside its docstring."""
    ops = {name: module for name, module in SOURCE.items() if name.startswith("winnow.ops.")}
    assert sum(module.lines for module in ops.values()) < 900
    functions = [node for module in ops.values() for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)]
    assert {node.name: length for node in functions if (length := lines_without_docstring(node)) > 22} == {}


def lines_without_docstring(node: ast.FunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_docstrings_say_what_a_thing_is_instead_of_asking():
    docstrings = {name: [str(string.value) for string in module.strings()] for name, module in SOURCE.items()}
    assert {
        name: text for name, texts in docstrings.items() for text in texts if OPENS_WITH_A_QUESTION.match(text)
    } == {}


def test_no_name_of_an_algorithm_is_compared_with():
    """No `if name == "grpo"`: an algorithm is its axes."""
    names = {path.stem for path in (ROOT / "conf" / "algo").glob("*.yaml")}
    for module in PACKAGE.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Compare):
                values = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                assert not values & names, f"{module.path}:{node.lineno}"
