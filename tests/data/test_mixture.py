"""Mixtures of datasets: keys and sources of their problems, held-out sets, and one line for wrong settings."""

import json
from collections import Counter
from pathlib import Path

import pytest

from running import composed
from winnow.config.mixture_parts import dataset_node
from winnow.config.nodes import build_node
from winnow.config.targets import check_nodes
from winnow.data.mixture import Mixture, first_problems
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


def test_the_first_problems_of_a_mixture_are_in_its_shares(tmp_path: Path):
    """Six of eight and six problems at 1 : 3, and all of a part that has fewer than its share."""
    found = mixture(tmp_path, "dataset.weights={b:3}").load(lambda golds: [], True)
    counts = {n: Counter(p.source for p in first_problems(found.train, n, found.shares)) for n in (2, 6, 8, 13, 99)}
    assert counts == {
        2: {"a": 1, "b": 1},
        6: {"a": 1, "b": 5},
        8: {"a": 2, "b": 6},
        13: {"a": 7, "b": 6},
        99: {"a": 8, "b": 6},
    }
    chosen = first_problems(found.train, 8, found.shares)
    assert [p.key for p in chosen if p.source == "a"] == [p.key for p in found.train if p.source == "a"][:2]
    assert first_problems(found.train, 3, {}) == found.train[:3]


def test_a_part_may_be_the_name_of_a_dataset(tmp_path: Path):
    """Of Winnow's, or of a user's own folder, with the settings that `dataset=` gives it."""
    own = tmp_path / "conf/dataset/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "# @package _global_\ndataset:\n  _target_: winnow.data.collection.TrainingCollection\n"
        f"  path: {tmp_path}/a.jsonl\n  heldout_size: 3\n  problem_field: problem\n  answer_field: level\n"
        "  solution_field: solution\n  gold: {_target_: winnow.data.collection.verbatim, _partial_: true}\n"
        "  demonstration: {_target_: winnow.data.collection.verbatim, _partial_: true}\n"
        "  bad_rows: refuse\n  overlap: drop\n"
    )
    mixture(tmp_path)
    words = ["dataset=mix", f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "dataset.heldout_size=2"]
    assert dataset_node(composed(*words, "dataset.mix={d:arithmetic}")).mix.d.levels == [3, 4, 5, 6]
    cfg = composed(*words, f"dataset.mix={{b:{{path:{tmp_path}/b.jsonl}},c:mine}}")
    found = build_node(dataset_node(cfg)).load(lambda golds: [], True)
    assert {name: len(held) for name, held in found.heldout_sets.items()} == {"b": 2, "c": 3}
    assert {p.answer for p in found.train if p.source == "c"} <= set(map(str, range(10)))


def test_the_class_behind_a_name_has_to_be_trusted(tmp_path: Path):
    own = tmp_path / "conf/dataset/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\ndataset: {_target_: os.system, command: 'true'}\n")
    cfg = composed("dataset=mix", "dataset.mix={a:mine}", f"hydra.searchpath=[file://{tmp_path / 'conf'}]")
    with pytest.raises(ConfigError, match=r"dataset\.mix\.a\._target_=os\.system: not part of winnow"):
        check_nodes(cfg, "dataset")


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


@pytest.mark.parametrize("part", ["mix", "{_target_:winnow.data.mixture.Mixture,mix:{b:gsm8k}}"])
def test_a_mixture_holds_no_mixture(part: str):
    with pytest.raises(ConfigError, match=r"^dataset\.mix\.a: a mixture cannot hold a mixture; give each of its parts"):
        check_nodes(composed("dataset=mix", f"dataset.mix={{a:{part}}}"), "dataset")
