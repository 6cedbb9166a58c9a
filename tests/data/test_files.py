"""Files of rows: what is a row, and one line with the file and the line for everything that is none."""

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from running import composed
from winnow import jsonl
from winnow.config.nodes import build_node
from winnow.data.files import rows_of_data_file
from winnow.errors import ConfigError
from winnow.jsonl import BadRow, SourceRow, rows_of_file

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
        (GOOD + '{"x": ' + "[" * 900 + "]" * 900 + "}", r"f\.jsonl:2: lists or objects too deep"),
        (GOOD + '{"answer": "1", "answer": "2"}', r"f\.jsonl:2: the field 'answer' occurs twice"),
        (GOOD + "[1]\n", r"f\.jsonl:2: a list, not a JSON object"),
        (GOOD + "null\n", r"f\.jsonl:2: a NoneType, not a JSON object"),
        (GOOD + "\xef\xbb\xbf" + GOOD, r"f\.jsonl:2: not a JSON object"),  # files that were joined
        (GOOD.encode() + b'{"problem": "\xff", "answer": "1"}\n', r"f\.jsonl:2: not UTF-8 text \(.*, byte 14\)"),
        (GOOD.encode("utf-16"), "UTF-16 text"),
        (gzip.compress(GOOD.encode(), mtime=0), r"a gzip archive, whatever its name; name it f\.jsonl\.gz"),
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
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    for name, message in {
        "folder": r"a folder, which holds train\.jsonl",
        "nothing.jsonl": "no such file",
        "pipe.jsonl": "not a regular file",
        "circle.jsonl": "a link that leads to no file",
        "x" * 5000: "no file has such a name",
        "a\0b": "(no such file|no file has such a name)",
    }.items():
        with pytest.raises(ConfigError, match=message):
            list(rows_of_file(tmp_path / name, "dataset.path"))


def test_a_damaged_parquet_file_names_itself(tmp_path: Path):
    path = tmp_path / "train-0.parquet"
    parquet.write_table(pa.table({"problem": ["p"] * 1000}), path)
    assert len(list(rows_of_data_file(path))) == 1000
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:50], b"", b"\0" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"train-0\.parquet: not a readable Parquet file"):
            list(rows_of_data_file(path))


def test_columns_of_a_parquet_file_that_python_has_no_values_for(tmp_path: Path):
    path, nine = tmp_path / "a.parquet", pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    parquet.write_table(
        pa.table({"at": nine, "all": pa.array([[{"t": nine[0]}]], pa.list_(pa.struct([("t", nine.type)])))}), path
    )
    row = next(rows_of_data_file(path))
    assert isinstance(row, SourceRow)
    at = row.fields["at"]
    assert str(at) == "2023-11-14 22:13:20.123456"
    assert row.fields["all"] == [{"t": at}]
    parquet.write_table(pa.table({"problem": ["p"], "at": pa.array([2**60], pa.timestamp("us"))}), path)
    with pytest.raises(ConfigError, match=r"the column 'at' \(timestamp\[us\]\) cannot be read"):
        list(rows_of_data_file(path))
    parquet.write_table(pa.table([pa.array(["p"]), pa.array(["q"])], names=["problem", "problem"]), path)
    with pytest.raises(ConfigError, match="the column 'problem' twice"):
        list(rows_of_data_file(path))


ROWS: list[dict] = [
    {"id": "a", "problem": "1+1?", "answer": "x=2", "level": 3, "share": 0.5, "note": None},
    {
        "id": "b",
        "problem": 'Sum, "quoted",\nof 2 and 2',
        "answer": "x=4",
        "level": 12,
        "share": 1.0,
        "note": "é\u2028x",
    },
]
HEADER = ["id", "problem", "answer", "level", "share", "note"]


def _csv(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(HEADER)
    writer.writerows([["" if row[name] is None else row[name] for name in HEADER] for row in ROWS])
    return text.getvalue().encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
MARK = b"\xef\xbb\xbf"
CONTENTS = {
    "rows.jsonl": JSONL,
    "marked.jsonl": MARK + JSONL,
    "rows.ndjson": JSONL,
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "marked.json": MARK + json.dumps(ROWS).encode(),
    "object.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "lines.json": JSONL,
    "rows.csv": _csv(","),
    "marked.csv": MARK + _csv(","),
    "rows.tsv": _csv("\t"),
    "rows.parquet": _parquet(),
    "ROWS.CSV": _csv(","),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_same_rows_give_the_same_problems_in_every_format(tmp_path: Path, name: str, packed: bool):
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(CONTENTS[name], mtime=0) if packed else CONTENTS[name])
    found = build_node(composed("dataset=file", f"dataset.path={path}").dataset).load(lambda golds: [], False).train
    assert [(p.key, p.text, p.answer) for p in found] == [(r["id"], r["problem"], r["answer"]) for r in ROWS]
    assert [dict(p.columns) for p in found] == ROWS


def test_numbers_of_a_csv_are_those_whose_text_json_would_write(tmp_path: Path):
    """`007`, `1.50` and `true` stay text, and so does a whole column with one such cell."""
    path = tmp_path / "n.csv"
    path.write_text("a,b,c,d\n7,007,1.5,true\n-8,8,1.50,false\n,9,2,\n")
    rows = [row.fields for row in rows_of_data_file(path) if isinstance(row, SourceRow)]
    assert [row["a"] for row in rows] == [7, -8, None]
    assert [row["b"] for row in rows] == ["007", "8", "9"]
    assert [row["c"] for row in rows] == ["1.5", "1.50", "2"]
    assert [row["d"] for row in rows] == ["true", "false", None]


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", GOOD + '{"problem"\n' + GOOD + "[1]\n", ["a.jsonl:2", "a.jsonl:4"]),
        ("a.jsonl", GOOD.encode() + b'{"problem": "\xff"}\n' + GOOD.encode(), ["a.jsonl:2"]),
        ("a.json", '[{"problem": "p"}, 3, {"problem": "q"}]', ["a.json, row 2"]),
        ("a.csv", 'problem,answer\n"p\nq",1\nr\ns,1,2\nt,3\n', ["a.csv:4", "a.csv:5"]),
        ("a.csv", b"problem,answer\np,\xff\nq,1\n", ["a.csv:2"]),
        ("a.csv", 'problem,answer\np,1\n"q,2\n', ["a.csv:3"]),
    ],
)
def test_bad_rows_are_named_by_their_line_and_the_others_are_read(
    tmp_path: Path, name: str, content: str | bytes, places: list[str]
):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(rows_of_data_file(path))
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [error.fault.split(": ")[0] for error in bad] == [f"{tmp_path}/{place}" for place in places]
    assert len(found) > len(bad)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"problem": "p"},\n {"problem" 3}]', r"a\.json:2: not JSON"),
        ("a.json", b'[{"problem": "p"},\n {"problem": "\xff"}]', "line 2 is not UTF-8"),
        ("a.json", '{"a": [], "b": []}', "an object with the lists a, b"),
        ("a.json", '{"problem": "p"}', "a dict without a list"),
        ("a.json", "3", "a int without a list"),
        ("a.json", "[]", "the file has no rows"),
        ("a.csv", "", "the file has no rows"),
        ("a.csv", "problem,answer\n", "the file has no rows"),
        ("a.csv", "problem,problem\np,q\n", "the column 'problem' twice"),
        ("a.csv", "problem,\np,q\n", "a column without a name"),
        ("a.csv", _parquet(), r"a Parquet file, .*name it a\.parquet"),
        ("a.parquet", GOOD, "not a readable Parquet file"),
        ("a.jsonl.gz", GOOD, r"no gzip archive, whatever its name; name it a\.jsonl"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode() * 999, mtime=0)[:-30], "a damaged gzip archive"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode("utf-16"), mtime=0), "UTF-16"),
        ("a.parquet.gz", gzip.compress(b"x", mtime=0), "not a readable Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as error:
        list(rows_of_data_file(path, "dataset.path"))
    assert "\n" not in str(error.value)
