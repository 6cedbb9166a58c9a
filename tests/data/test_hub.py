"""Datasets of a hub: which files are read, what is downloaded and when, and what is said where that fails."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from fake_hub import FakeHub, running_hub
from running import composed
from winnow.config.nodes import build_node
from winnow.data.collection import TrainingCollection
from winnow.data.hub_splits import Choice, chosen_files
from winnow.errors import ConfigError

NAME = "maths/sums"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(tmp_path, monkeypatch) as found:
        yield found


def rows(*answers: int) -> list[dict[str, object]]:
    return [{"question": f"{answer - 1}+1?", "answer": str(answer)} for answer in answers]


def jsonl(*answers: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(*answers)).encode()


def table(*answers: int) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows(*answers)), sink)
    return sink.getvalue()


def dataset(*words: str) -> TrainingCollection:
    return build_node(composed("dataset=hub", f"dataset.repository={NAME}", *words).dataset)


def answers(*words: str) -> list[str]:
    return [problem.answer for problem in dataset(*words).load(lambda golds: [], False).train]


def test_shards_are_read_in_order_and_only_those_of_the_split(hub: FakeHub):
    hub.commit(
        NAME,
        {
            "README.md": b"# Sums",
            "data/train-00001-of-00002.parquet": table(3),
            "data/train-00000-of-00002.parquet": table(1, 2),
            "data/test-00000-of-00001.parquet": table(4),
        },
    )
    assert answers() == ["1", "2", "3"]
    assert not any("test-00000" in path for path in hub.asked)
    assert answers("dataset.split=test") == ["4"]


def test_what_is_cached_is_read_without_the_hub_and_stays_as_it_was(hub: FakeHub):
    first = hub.commit(NAME, {"train.jsonl": jsonl(1, 2), "test.jsonl": jsonl(9)})
    assert answers() == ["1", "2"]
    second = hub.commit(NAME, {"train.jsonl": jsonl(5)})
    before = len(hub.asked)
    assert answers() == ["1", "2"]
    assert len(hub.asked) == before
    hub.refuse = 503
    assert answers() == ["1", "2"]
    assert dataset().hub.commit == first  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(ConfigError, match=r"dataset maths/sums could not be downloaded: not cached, hub unreachable"):
        answers("dataset.split=test")  # of which nothing has been downloaded
    hub.refuse = None
    assert answers(f"dataset.revision={second}") == ["5"]
    assert answers(f"dataset.revision={first}") == ["1", "2"]
    assert answers() == ["1", "2"]


def test_an_interrupted_download_is_no_smaller_dataset(hub: FakeHub):
    """One of two shards is in the cache, as after a kill: the other one is downloaded, or the hub is missed."""
    hub.commit(NAME, {f"train-0000{n}-of-00002.parquet": table(n + 1) for n in (0, 1)})
    assert answers() == ["1", "2"]
    [shard] = Path(constants.HF_HUB_CACHE).glob("**/snapshots/*/train-00001-of-00002.parquet")
    shard.unlink()
    hub.refuse = 503
    with pytest.raises(ConfigError, match="could not be downloaded"):
        answers()
    hub.refuse = None
    assert answers() == ["1", "2"]


def test_a_card_names_subsets_and_splits(hub: FakeHub):
    card = b"""---
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: main/first-*
  - split: test
    path: [main/second.jsonl]
- config_name: words
  data_dir: words
---
# Sums
"""
    hub.commit(
        NAME,
        {
            "README.md": card,
            "main/first-0.jsonl": jsonl(1),
            "main/first-1.csv": b"question,answer\n1+1?,2\n",
            "main/second.jsonl": jsonl(3),
            "words/train.json": json.dumps(rows(4)).encode(),
            "words/dev.json": json.dumps(rows(5)).encode(),
        },
    )
    assert answers() == ["1", "2"]
    assert answers("dataset.split=test") == ["3"]
    assert answers("dataset.subset=words") == ["4"]
    assert answers("dataset.subset=words", "dataset.split=validation") == ["5"]
    split = dataset("dataset.heldout_split=test").load(lambda golds: [], True)
    assert ([p.answer for p in split.train], [p.answer for p in split.heldout]) == (["1", "2"], ["3"])


def test_what_is_not_there_is_named_with_what_is(hub: FakeHub):
    hub.commit(NAME, {"a/train.jsonl": jsonl(1), "b/train.jsonl": jsonl(2), "b/extra.txt": b""})
    for words, message in {
        (): r"has the subsets a, b; type one, such as dataset\.subset=a",
        ("dataset.subset=bb",): r"no subset bb; did you mean b\? there are a, b",
        ("dataset.subset=b", "dataset.split=test"): "no split test; there are train",
        ("dataset.files='c/*'",): r"no data file matches 'c/\*'; it has a/train\.jsonl, b/train\.jsonl",
        ("dataset.revision=v2",): "its hub page has no revision v2",
        ("dataset.repository=maths/none",): "dataset maths/none could not be downloaded: not cached, not on the hub",
    }.items():
        with pytest.raises(ConfigError, match=message) as error:
            answers(*words)
        assert "\n" not in str(error.value)
    assert answers("dataset.subset=b") == ["2"]
    assert answers("dataset.files='b/*'") == ["2"]


def test_equal_names_in_two_folders_give_different_keys(hub: FakeHub):
    hub.commit(NAME, {"train/a.jsonl": jsonl(1), "train/b/a.jsonl": jsonl(2), "train/c.jsonl": jsonl(3)})
    found = dataset("dataset.files='train/**'").load(lambda golds: [], False).train
    assert [problem.key for problem in found] == ["train/a.jsonl line 1", "b/a.jsonl line 1", "c line 1"]


@pytest.mark.parametrize(
    ("names", "choice", "expected"),
    [
        (["all.jsonl"], Choice(), ["all.jsonl"]),
        (["eval.jsonl"], Choice(), ["eval.jsonl"]),  # the only split
        (["train.jsonl.gz", "valid.jsonl.gz"], Choice(split="validation"), ["valid.jsonl.gz"]),
        (["pretraining.csv", "test.csv"], Choice(split="train"), ["pretraining.csv"]),  # `training` is no word of it
        (["data/train.json", "data/extra/train.json"], Choice(), ["data/train.json"]),
        (["data/train.json", "data/extra/train.json"], Choice(subset="extra"), ["data/extra/train.json"]),
        (["x/train/1.csv", "x/test/1.csv"], Choice(), ["x/train/1.csv"]),
        (["a.jsonl", "picture.png"], Choice(files="**"), ["a.jsonl"]),
        (["a/b/train-1.jsonl", "train-2.jsonl"], Choice(files="**/train-*"), ["a/b/train-1.jsonl", "train-2.jsonl"]),
    ],
)
def test_splits_and_subsets_without_a_card(names: list[str], choice: Choice, expected: list[str]):
    assert chosen_files("a/b", names, "---\nconfigs: [broken\n---\n", choice) == expected
