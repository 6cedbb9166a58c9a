"""A report replaces reports alone, stands alone if it is asked to, and reads damaged runs as one line each."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from study.report.conftest import read_page
from study.report.dressed import HOSTILE, write_samples
from study.studies import ACCURACY, rows, write_run
from winnow.cli import exit_code
from winnow.errors import CONFIG, DONE
from winnow.study.report.write import write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    table = rows({ACCURACY: lambda i: 0.5 + i / 20, "train/entropy": 0.1})
    return write_run(tmp_path / "runs" / "run", "grpo", 0, table, correct={0: [1, 2], 8: [2, 4]})


def state(top: Path) -> dict[str, str]:
    """The hash of every file below `top`, and every directory."""
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(top.rglob("*"))
    }


def refused(capsys, top: Path, *words: object) -> str:
    """The one line with which `winnow report WORDS` refuses, having written nothing below `top`."""
    before = state(top)
    assert exit_code(["report", *map(str, words)]) == CONFIG
    assert state(top) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_file_is_no_place_for_a_report(run, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    for out in (readme, readme / "inside", tmp_path / "new.md", tmp_path / "page.html"):
        assert str(out) in refused(capsys, tmp_path, run, "--out", out)
    assert str(readme) in refused(capsys, tmp_path, run, "--self-contained", "--out", readme)


@pytest.mark.parametrize("name", ["report.html", "report.md", "figures/drawn_by_hand.png"])
def test_files_that_no_report_wrote_are_kept(run, tmp_path, capsys, name):
    path = tmp_path / "docs" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert "kept" in refused(capsys, tmp_path, run, "--out", tmp_path / "docs")
    (run / "report.html").write_text("mine")
    assert "kept" in refused(capsys, tmp_path, run)


def test_a_page_of_its_own_has_its_pictures_and_no_file_beside_it(run, tmp_path):
    write_samples(run, 8)
    page = tmp_path / "mail" / "grpo.html"
    for _ in range(2):  # a report may be written again
        assert exit_code(["report", str(run), "--self-contained", "--out", str(page)]) == DONE
    assert list(page.parent.iterdir()) == [page]
    links = [one.attributes["href"] for one in read_page(page).named("a") if "href" in one.attributes]
    pictures = [link for link in links if not link.startswith("#")]
    assert pictures
    for picture in pictures:
        kind, _, content = picture.partition("base64,")
        assert kind == "data:image/png;"
        assert base64.b64decode(content).startswith(b"\x89PNG")
    assert not re.search(r"https?:", page.read_text())


DAMAGES = {
    "metrics.jsonl": [
        "{",
        "[]",
        '{"reward": 1}',
        '{"iteration": "1"}',
        '{"iteration": 9, "a": "b"}',
        '{"iteration": 1}',
    ],
    "evaluations.jsonl": ["{", "[]", '{"iteration": 1}'],
    "summary.json": ["{", "[]"],
    "samples/iteration_000001.jsonl": ["{", "[]", '{"prompt": 1}'],
    ".hydra/hydra.yaml": ["{", "[]"],
    ".hydra/config.yaml": ["{", "seed: zero"],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in DAMAGES.items() for line in lines])
def test_a_bad_line_is_named_and_nothing_is_written(run, tmp_path, capsys, name, line):
    path = run / name
    path.parent.mkdir(exist_ok=True)
    text = path.read_text() if path.suffix == ".jsonl" and path.exists() else ""
    path.write_text(f"{text}{line}\n")
    assert name in refused(capsys, tmp_path, run)


def test_bytes_that_are_no_text_are_named(run, tmp_path, capsys):
    (run / "metrics.jsonl").write_bytes(b'{"iteration": 0}\n\xff\xfe\n')
    assert "metrics.jsonl" in refused(capsys, tmp_path, run)


def test_the_line_of_a_bad_row_is_named(run, tmp_path, capsys):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:3], "oops", *lines[3:]]) + "\n")
    assert "metrics.jsonl, line 4" in refused(capsys, tmp_path, run)


def test_runs_without_an_update_or_below_their_start_come_first(tmp_path):
    for seed in range(2):
        still = rows({ACCURACY: 0.5, "train/updates": 0.0, "train/entropy": 0.1 + seed})
        write_run(tmp_path / f"raft{seed}", "raft", seed, still)
        fall = rows({ACCURACY: lambda i, s=seed: 0.5 - (1 - s) * i / 32 + s * i / 80, "train/updates": 4.0})
        write_run(tmp_path / f"grpo{seed}", "grpo", seed, fall)
    told = write_report([tmp_path], None, "iterations").splitlines()
    assert told[0].startswith("RAFT: no update was made in 2 of 2 runs")
    assert told[1] == "GRPO: held-out accuracy ended below its start in 1 of 2 runs (seed 0: 50.0 → 25.0 %)."
    box = read_page(tmp_path / "report.html").classed("box")[0]
    assert box.attributes["role"] == "alert"
    for line in told[:2]:
        assert line in box.text.replace("\u00a0", " ")
        assert line in (tmp_path / "report.md").read_text()


def test_named_rewards_are_panels_whatever_their_names(tmp_path):
    table = rows({ACCURACY: 0.5, "train/reward/mean": 0.1, "train/reward/my.module:length/mean": -3.5})
    write_run(tmp_path / "run", "grpo", 0, table)
    write_report([tmp_path / "run"], None, "iterations")
    figure = read_page(tmp_path / "run" / "report.html").at("rewards")
    assert figure.text.count("my.module:length") == 1
    assert "−4" in figure.text  # the axis shows negative values


def test_hostile_names_stay_text_in_both_forms(tmp_path):
    in_yaml = HOSTILE.replace("\ud800", "")  # no setting, and so no reward's name, may hold half a pair
    for seed in range(2):
        table = rows({ACCURACY: lambda i, s=seed: 0.5 + (1 + s) * i / 100, f"train/reward/{in_yaml}/mean": 1.0})
        write_run(tmp_path / str(seed), "grpo", seed, table, overrides=[f"dataset.path={in_yaml}"])
    write_report([tmp_path], None, "iterations")
    page = read_page(tmp_path / "report.html")
    assert not page.named("script")
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "<script>" not in text.split("```")[0]


def test_a_summary_may_be_missing_but_not_be_something_else(run, tmp_path, capsys):
    (run / "summary.json").write_text(json.dumps("done"))
    assert "summary.json" in refused(capsys, tmp_path, run)
