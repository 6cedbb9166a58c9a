"""Mixtures of datasets: keys and sources of their problems, held-out sets, and one line for wrong settings."""

import json
from pathlib import Path

import pytest

from running import composed
from winnow.config.nodes import build_node
from winnow.data.mixture import Mixture
from winnow.errors import ConfigError


def mixture(tmp_path: Path, *words: str) -> Mixture:
    for name in "ab":
        rows = [{"problem": f"{name}{i}", "answer": str(i), "level": i} for i in range(10)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mix = f"dataset.mix={{a:{{path:{tmp_path}/a.jsonl}},b:{{path:{tmp_path}/b.jsonl,heldout_size:4}}}}"
    return build_node(composed("dataset=mix", mix, "dataset.heldout_size=2", *words).dataset)


def test_problems_of_all_parts_with_their_own_held_out_sets(tmp_path: Path):
    found = mixture(tmp_path, "dataset.weights={b:3}").load(lambda golds: [], True)
    assert found.shares == {"a": 1, "b": 3}
    assert {name: len(held) for name, held in found.heldout_sets.items()} == {"a": 2, "b": 4}
    assert len(found.train) == 8 + 6
    assert {(p.source, p.key[:7], p.text[0]) for p in found.train} == {("a", "a/line ", "a"), ("b", "b/line ", "b")}


def test_a_part_may_differ_from_the_others_in_any_setting(tmp_path: Path):
    found = mixture(tmp_path, "dataset.filter='level > 1'", "+dataset.mix.b.filter='level > 5'")
    assert [len(held) for held in found.load(lambda golds: [], False).heldout_sets.values()] == [0, 0]
    assert sorted(p.text for p in found.load(lambda golds: [], False).train) == [
        *(f"a{i}" for i in range(2, 10)),
        *(f"b{i}" for i in range(6, 10)),
    ]


def test_a_part_may_be_a_dataset_of_another_kind(tmp_path: Path):
    chains = (
        "{_target_:winnow.data.arithmetic.Arithmetic,seed:0,levels:[3],train_size:5,heldout_size:2,flawless:0,"
        "direct:0.0,slip:0.0}"
    )
    found = mixture(tmp_path, f"+dataset.mix.c={chains}").load(lambda golds: [], True)
    assert {name: len(held) for name, held in found.heldout_sets.items()} == {"a": 2, "b": 2 + 2, "c": 2}
    assert sum(problem.source == "c" for problem in found.train) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.mix=null"], r"dataset\.mix is empty; type"),
        (["dataset.weights={c:1}"], r"dataset\.weights\.c: no part of dataset\.mix; there are a, b"),
        (["+dataset.mix.a.pth=x"], r"dataset\.mix\.a\.pth: no such setting; did you mean path\?"),
        (["dataset.mix.a.path=gone.jsonl"], r"dataset\.mix\.a\.path=gone\.jsonl: no such file"),
        (["dataset.mix.b.heldout_size=99"], r"dataset\.mix\.b\.heldout_size=99: b has 10 rows"),
    ],
)
def test_wrong_settings(tmp_path: Path, words: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        mixture(tmp_path, *words).load(lambda golds: [], True)
