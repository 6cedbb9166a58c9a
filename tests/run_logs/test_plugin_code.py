"""The recorded code of plug-ins: which files it covers, and which edits it tells of."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow.files import sha256_of
from winnow.run_logs.plugin_code import code_of, edited_code, edited_modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of which two modules are imported, and a third is not."""
    folder = tmp_path / "mine_too"
    folder.mkdir()
    for name in ("__init__", "rewards", "unused"):
        (folder / f"{name}.py").write_text(f"name = {name!r}")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("mine_too.rewards")
    yield folder
    for name in [name for name in sys.modules if name.startswith("mine_too")]:
        del sys.modules[name]


def test_every_imported_module_of_a_package_has_the_hash_of_its_file(package: Path):
    expected = {"mine_too": package / "__init__.py", "mine_too.rewards": package / "rewards.py"}
    assert code_of(["mine_too.rewards", "mine_too"]) == {name: sha256_of(file) for name, file in expected.items()}
    assert code_of(["mine"]) == {}  # another package, though its name begins alike


def test_an_installed_package_has_its_version():
    assert code_of(["pytest"]) == {"pytest": pytest.__version__}


def test_modules_beside_a_plug_in_that_it_imports_are_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of what lies beside it: what it imports, by whatever form, and what that imports; not what somebody else does."""
    texts = {
        "mine_alone": "import json, pytest\nfrom mine_beside import LIMIT\nimport mine_folder.part",
        "mine_beside": "import mine_beyond\nLIMIT = 3",
        "mine_beyond": "",
        "mine_folder/__init__": "",
        "mine_folder/part": "from .other import NUMBER",
        "mine_folder/other": "import mine_lost\nNUMBER = 3",
        "mine_lost": "",
        "mine_elsewhere": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine_alone", "mine_elsewhere"):
        __import__(name)
    (tmp_path / "mine_lost.py").unlink()
    names = {name.removesuffix("/__init__").replace("/", "."): name for name in texts}
    covered = names.keys() - {"mine_elsewhere", "mine_lost"}
    assert code_of(["mine_alone"]) == {name: sha256_of(tmp_path / f"{names[name]}.py") for name in sorted(covered)}
    for name in names:
        del sys.modules[name]


def test_an_edit_is_told_and_a_module_that_only_one_has_is_not(package: Path):
    before = code_of(["mine_too"])
    assert edited_modules(before, before) == []
    (package / "rewards.py").write_text("name = 'other'")
    after = {**code_of(["mine_too"]), "mine_too.unused": "ab"}
    assert edited_modules(before, after) == ["mine_too.rewards"]
    was, now = before["mine_too.rewards"], after["mine_too.rewards"]
    assert edited_code(before, after) == [f"the code of mine_too.rewards was {was[:12]} and is {now[:12]}"]
