"""README.md and docs/: generated tables, names of functions and files, commands, links and the site."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from running import run
from test_evaluation_sets import two_sets
from winnow import cli
from winnow.config.command_line import read_command_line
from winnow.config.compose import CONF, Composer, register_unique_name
from winnow.launch.sweep_plan import jobs_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.glob("*.md") if path.name != "log.md")]
"""The pages whose commands must work. The lab book is a record: its commands were right on their day."""


def test_generated_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}: type make docs"


NAME = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def logged(directory: Path) -> set[str]:
    """Keys of a run's rows, as the page writes them: `eval/{set}/pass@k`."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    keys = {re.sub("eval/(?!average/)[a-z0-9_]+/", "eval/{set}/", key) for row in rows for key in row}
    keys = {re.sub("train/reward/accuracy/", "train/reward/{function}/", key) for key in keys}
    return {re.sub(r"pass@\d+", "pass@k", key) for key in keys}


def test_metrics_page_names_what_runs_log_and_nothing_else(tmp_path: Path):
    found: set[str] = set()
    inexact = ("hardware.precision=bf16-mixed", "algo/correction=truncated", "algo/tokens=top_entropy")
    of_functions = ("algo=ppo", "reward=function", "algo/entropy=adaptive")
    ahead = ("algo=raftpp", "rollout.staleness=1")
    pairs = ("algo=dpo", "collector=adaptive", "collector.samples=4", *two_sets(tmp_path))
    for words in (("algo=grpo", "algo/kl=k3", *inexact), of_functions, pairs, ahead):
        run(tmp_path / words[0], *words, "iterations=2", "checkpoint.every=1")
        found |= logged(tmp_path / words[0])
    page = (DOCS / "metrics.md").read_text().split("## Other files")[0]
    rare = {"train/updates_skipped_nonfinite", "train/nonfinite/rows", "train/reward_log/{metric}"}
    assert set(NAME.findall(page)) - rare == found


PLACE = re.compile(r"`([\w/]+\.py)`\s+·\s+((?:`[\w.]+`(?:,\s+)?)+)")
"""A file and the functions to read in it: `src/winnow/rng.py` · `seed_of`, `permutation`."""


def defined_in(path: Path) -> set[str]:
    """Functions, classes and methods of a module: `Plan`, `Plan.micro_batches`, `deal`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def test_functions_that_the_walk_through_an_iteration_names_exist():
    page = (DOCS / "iteration.md").read_text()
    places = [(file, name) for file, names in PLACE.findall(page) for name in re.findall(r"`([\w.]+)`", names)]
    assert not [f"{file} has no {name}" for file, name in places if name not in defined_in(ROOT / file)]
    assert {file for file, _ in places} == set(re.findall(r"`([\w/]+\.py)`", page))


TEST = re.compile(r"`(test_\w+)`\s+in\s+`(tests/[\w/]+\.py)`")


@pytest.mark.parametrize("name", ["security.md", "faults.md"])
def test_every_row_names_a_test_that_exists(name: str):
    page = (DOCS / name).read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| What", "| Fault"))]
    assert [row for row in rows if not TEST.search(row)] == []
    assert [f"{file} has no {test}" for test, file in TEST.findall(page) if test not in defined_in(ROOT / file)] == []


def test_every_module_and_package_has_a_page_of_reference():
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    found = {path.stem for path in (ROOT / "src" / "winnow").iterdir() if path.suffix == ".py" or path.is_dir()}
    documented = {name.split(".")[1] for name in re.findall(r"^::: (winnow\.\S+)", text, re.MULTILINE)}
    assert documented == {name for name in found if not name.startswith("_")} - {"assets", "conf"}


def commands(text: str) -> list[list[str]]:
    """The commands of a page, as words: lines of its code blocks, and code inside its text that begins like one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    lines += re.findall(r"`((?:python (?:train|evaluate)\.py|winnow|make) [^`]+)`", text)
    whole = [part for line in lines for part in line.split("&&")]
    # A command of the text may go on in the next line; two spaces begin the explanation of a command in a block.
    return [words for part in whole if (words := shlex.split(part.split("  ")[0], comments=True))]


def is_placeholder(word: str) -> bool:
    return "=" not in word and re.fullmatch(r"…|[A-Z]+", word) is not None


def one_job_per_choice(jobs: list[list[str]], typed: set[str]) -> list[list[str]]:
    """Of a sweep's jobs, enough to have every typed choice in one of them. Seeds are no choices."""
    chosen, seen = [], set()
    for job in jobs:
        new = {word for word in job if word.split("=")[0] in typed - {"seed"}} - seen
        if new or not chosen:
            chosen.append(job)
            seen |= new
    return chosen


def compose_all(program: str, words: list[str]) -> None:
    """Compose what `python PROGRAM.py WORDS` would run, without the run that it would read or continue."""
    command = read_command_line([word for word in words if not word.startswith(("resume=", "run="))])
    composer = Composer(program, CONF, command)
    cfg = composer.compose(command.overrides, command.multirun)
    jobs = [list(command.overrides)]
    if command.multirun:
        typed = {override.get_key_element() for override in composer.parse(command.overrides)}
        jobs = one_job_per_choice(jobs_of(composer, cfg, command.overrides), typed)
    for job in jobs:
        composer.for_task(composer.compose(job))


ALL_COMMANDS = sorted({tuple(words) for page in PAGES for words in commands(page.read_text())})
PROGRAMS = [words for words in ALL_COMMANDS if words[:2] in (("python", "train.py"), ("python", "evaluate.py"))]


@pytest.mark.parametrize("words", [words for words in PROGRAMS if not words[-1].startswith("-")], ids=" ".join)
def test_programs_that_the_pages_start_compose(words: tuple[str, ...]):
    register_unique_name()
    compose_all(words[1].removesuffix(".py"), [word for word in words[2:] if not is_placeholder(word)])


def test_targets_and_subcommands_that_the_pages_name_exist(capsys: pytest.CaptureFixture[str]):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in ALL_COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word}
    assert named <= targets
    for subcommand in {words[1] for words in ALL_COMMANDS if words[0] == "winnow"}:
        try:
            code = cli.exit_code([subcommand, "--help"])
        except SystemExit as end:
            code = end.code
        assert code == 0, subcommand


LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)


def test_site_builds_without_a_broken_link_and_requests_nothing(tmp_path: Path):
    words = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path))
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    assert not [path.name for path in pages if LOADED.search(path.read_text())]
