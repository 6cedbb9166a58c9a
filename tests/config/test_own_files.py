"""A folder of one's own YAML files that cannot be read: one line with the path of the file."""

from pathlib import Path

import pytest

from winnow.config.compose import composed
from winnow.config.data_check import check_data
from winnow.errors import ConfigError


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({"experiment/x": b"# @package _global_\ndefaults: [x]\n"}, "experiment=x", r"lead back to it \(x -> x\)"),
        (
            {"experiment/x": b"defaults: [y]\n", "experiment/y": b"defaults: [x]\n"},
            "experiment=x",
            r"lead back to it \(x -> y -> x\)",
        ),
        ({"algo/x": b"a: &a [*a]\n"}, "algo=x", "holds itself"),
        ({"algo/x": b"\xff\xfe"}, "algo=x", "not UTF-8 text"),
        ({"algo/x": b"defaults: 5\n"}, "algo=x", "`defaults` is 5; write a list"),
        ({"algo/x": b"- a\n"}, "algo=x", "a list, not settings; write KEY: VALUE"),
        ({"experiment/x": b"- a\n", "algo/a": b"- a\n"}, "experiment=x", "a list, not settings"),
        ({"mine": b"- a\n"}, "--config-name=mine", "a list, not settings"),
        ({"schema/train": b"seed: 1\n"}, "algo=grpo", "has the name of a schema"),
        ({"hydra/launcher/processes": b"x: 1\n"}, "algo=grpo", "has the name of a schema"),
        ({"algo/grpo": b"_target_: mine.Algorithm\n"}, "algo=grpo", "such as my_grpo.yaml"),
    ],
)
def test_a_file_that_cannot_be_composed(tmp_path: Path, files: dict[str, bytes], words: str, message: str):
    for name, content in files.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        composed("train", ["--config-dir", str(tmp_path), words])
    assert str(error.value).startswith(f"{tmp_path}/{next(iter(files))}.yaml: ")
    assert "\n" not in str(error.value)


def test_the_gold_is_computed_by_a_function_of_a_text(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": "p", "answer": "1"}\n' * 3)
    words = ["dataset=file", f"dataset.path={path}", "dataset.gold._target_=winnow.cli.main", "dataset.heldout_size=1"]
    with pytest.raises(ConfigError, match=r"dataset\.gold\._target_=winnow\.cli\.main: cannot be called with a text"):
        check_data(composed("train", words))
