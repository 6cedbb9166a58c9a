"""Structure of a made-up tree of seven files, small enough to count by hand."""

from pathlib import Path

import pytest

from benchmarks.structure import (
    circles,
    import_graph,
    main,
    measured,
    modules_with_one_importer,
    read_tree,
    room_graph,
    upward_imports,
)

FILES = {
    "winnow/__init__.py": '"""Tiny package."""\n',
    "winnow/ops/__init__.py": "",
    "winnow/ops/clip.py": '''"""What clipping is.

It has two functions of 3 and 6 lines.
"""

import math  # a standard module


def clip(x):
    """Round down."""
    return math.floor(x)


def low(x):
    # The docstring of the inner function is prose, the text that it returns is code.
    def inner():
        return """a
text"""
    return inner()
''',
    "winnow/rewards/judge.py": "from winnow.data.rows import load\nfrom winnow.ops import clip\n",
    "winnow/data/rows.py": '''"""Rows."""


def load():
    """How rows are loaded."""
    from ..rewards import judge

    return judge
''',
    "winnow/config.py": "import hydra\nfrom omegaconf import DictConfig\nfrom winnow.ops import clip\n",
    "winnow/extra.py": 'from winnow import config, ops\nLENGTH: int = 3\n"""Whole metres."""\n',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_imports_are_resolved_to_modules(root: Path):
    assert import_graph(read_tree(root)) == {
        "winnow": set(),
        "winnow.ops": set(),
        "winnow.ops.clip": set(),
        "winnow.rewards.judge": {"winnow.data.rows", "winnow.ops.clip"},
        "winnow.data.rows": {"winnow.rewards.judge"},
        "winnow.config": {"winnow.ops.clip"},
        "winnow.extra": {"winnow.config", "winnow.ops"},
    }


def test_importers_circles_and_the_order(root: Path):
    tree = read_tree(root)
    assert set(modules_with_one_importer(tree)) == {"winnow.data.rows", "winnow.rewards.judge", "winnow.config"}
    assert circles(room_graph(tree)) == [{"data", "rewards"}]
    assert upward_imports(tree) == [("winnow.rewards.judge", "winnow.data.rows")]


def test_sets_of_three_and_two_are_separate_circles():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a", "f"}}
    assert circles(graph) == [{"a", "b", "c"}, {"d", "e"}]


def test_counts(root: Path):
    """Lines of code: clip.py 8 (import, 2 of clip, 5 of low), judge.py 2, rows.py 3, config.py 3, extra.py 2.

    Functions have 3 (clip), 6 (low), 3 (inner) and 5 (load) lines.
    """
    assert measured(read_tree(root)) == {
        "files": "7",
        "lines": "36",  # 1, 0, 19, 2, 8, 3 and 3
        "lines of a file, median": "3",
        "code lines": "18",
        "comments per 100 lines": "5.6",  # 2 of 36
        "lines of a function, median": "4",
        "lines of a function, 90th percentile": "5.7",  # 70 % of the way from 5 to 6
        "modules with exactly one importer": "3",
        "circles of packages": "1",
        "packages in circles": "2 of 5",
        "imports against the order": "1",
        "packages outside the order": "1",
        "files that import hydra or omegaconf": "1",
        "module docstrings that begin with What, Who or How": "1",
        "docstrings that begin with What, Who or How": "2",
    }


def test_two_trees_stand_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["structure", str(root), str(root / "winnow" / "ops"), "--list"])
    main()
    said = capsys.readouterr().out
    assert "| files | 7 | 2 |" in said
    assert "circle: data, rewards" in said
    monkeypatch.setattr("sys.argv", ["structure", str(root / "nowhere")])
    with pytest.raises(SystemExit):
        main()
    assert "no Python files" in capsys.readouterr().err
