import json
import re
import subprocess
import sys
from pathlib import Path

from running import run
from test_evaluation_sets import two_sets

ROOT = Path(__file__).parent.parent


def test_generated_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}: type make docs"


NAME = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def logged(directory: Path) -> set[str]:
    """Keys of a run's rows, as the page writes them: `eval/{set}/pass@k`."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    keys = {re.sub("eval/(?!average/)[a-z0-9_]+/", "eval/{set}/", key) for row in rows for key in row}
    return {re.sub(r"pass@\d+", "pass@k", key) for key in keys}


def test_metrics_page_names_what_runs_log_and_nothing_else(tmp_path: Path):
    found: set[str] = set()
    inexact = ("hardware.precision=bf16-mixed", "algo/correction=truncated")
    for words in (("algo=grpo", "algo/kl=k3", *inexact), ("algo=ppo",), ("algo=dpo", *two_sets(tmp_path))):
        run(tmp_path / words[0], *words, "iterations=2", "checkpoint.every=1")
        found |= logged(tmp_path / words[0])
    page = (ROOT / "docs" / "metrics.md").read_text().split("## Other files")[0]
    assert set(NAME.findall(page)) - {"train/updates_skipped_nonfinite"} == found
