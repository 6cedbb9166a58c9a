"""Files of rows: what is a row, and one line with the file and the line for everything that is none."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from winnow import jsonl
from winnow.data import rows
from winnow.data.rows import rows_of_hub
from winnow.errors import ConfigError
from winnow.jsonl import rows_of_file

GOOD = '{"problem": "p", "answer": "1"}\n'


def read(tmp_path: Path, content: str | bytes) -> list[jsonl.SourceRow]:
    path = tmp_path / "f.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows_of_file(path, "dataset.path"))


def refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path, content)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + '{"problem": "q", "answer"\n', r"f\.jsonl:2: not a JSON object"),
        (GOOD + "\0" * 4096, r"f\.jsonl:2: not a JSON object"),  # a tail that a crash has left
        (GOOD + '{"n": 1' + "0" * 4300 + "}", r"f\.jsonl:2: a number of 4,301 digits"),
        (GOOD + '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}", r"f\.jsonl:2: lists or objects too deep"),
        (GOOD + '{"a": ' * 100_000 + "1" + "}" * 100_000, r"f\.jsonl:2: lists or objects too deep"),
        (GOOD + '{"answer": "1", "answer": "2"}', r"f\.jsonl:2: the field 'answer' occurs twice"),
        (GOOD + "[1]\n", r"f\.jsonl:2: a list, not a JSON object"),
        (GOOD + "null\n", r"f\.jsonl:2: a NoneType, not a JSON object"),
        (GOOD + "\xef\xbb\xbf" + GOOD, r"f\.jsonl:2: not a JSON object"),  # files that were joined
        (GOOD.encode() + b'{"problem": "\xff", "answer": "1"}\n', r"line 2 is not UTF-8 text \(.*, byte 14\)"),
        (GOOD.encode("utf-16"), "UTF-16 text"),
        (gzip.compress(GOOD.encode(), mtime=0), "a gzip archive, whatever its name"),
        (b"PK\x03\x04" + bytes(30), "a zip archive"),
        ("", "the file has no rows"),
        (" \n\t\n", "the file has no rows"),
        (b"\xef\xbb\xbf", "the file has no rows"),
    ],
)
def test_what_is_no_file_of_rows(tmp_path: Path, content: str | bytes, message: str):
    refused(tmp_path, content, message)


def test_lines_end_at_line_feeds_alone_and_blank_ones_count(tmp_path: Path):
    """JSON allows U+2028 inside a string; a byte order mark and carriage returns are of no account."""
    found = read(tmp_path, '\ufeff{"a": "b\u2028c"}\r\n\r\n{"a": "d"}')
    assert [(row.place, row.fields) for row in found] == [
        ("line 1", {"a": "b\u2028c"}),
        ("line 3", {"a": "d"}),
    ]


def test_numbers_that_json_writes_and_python_reads(tmp_path: Path):
    [row] = read(tmp_path, '{"n": ' + "9" * 4300 + ', "m": NaN, "x": -0}')
    assert row.fields["n"] == 10**4300 - 1


def test_a_line_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 64)
    assert len(read(tmp_path, '{"a": "' + "x" * 55 + '"}')) == 1
    refused(tmp_path, GOOD + '{"a": "' + "x" * 56 + '"}', r"f\.jsonl:2: a line of more than 64 bytes")


def test_names_that_are_no_file(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text(GOOD)
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, message in {
        "folder": r"a folder, which holds train\.jsonl",
        "nothing.jsonl": "no such file",
        "pipe.jsonl": "no such file",
        "x" * 5000: "no file has such a name",
        "a\0b": "(no such file|no file has such a name)",
    }.items():
        with pytest.raises(ConfigError, match=message):
            list(rows_of_file(tmp_path / name, "dataset.path"))


def test_a_damaged_parquet_file_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "train-0.parquet"
    parquet.write_table(pa.table({"problem": ["p"] * 1000}), path)
    monkeypatch.setattr(rows, "snapshot_download", lambda repository, **how: str(tmp_path))
    assert len(list(rows_of_hub("a/b", "*.parquet", "type x"))) == 1000
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:50], b"", b"\0" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"train-0\.parquet: not a readable Parquet file"):
            list(rows_of_hub("a/b", "*.parquet", "type x"))
