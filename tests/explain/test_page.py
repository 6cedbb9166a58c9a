"""docs/explain.md shows what the command prints."""

import re
import shlex
from pathlib import Path

import pytest

from winnow.config.explanation import explain

PAGE = Path(__file__).parent.parent.parent / "docs" / "explain.md"
EXAMPLES = re.findall(r"^```text\n(winnow explain [^\n]*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def without_rounding(text: str) -> str:
    return re.sub(r"differ by at most \S+", "differ by at most …", text)


@pytest.mark.parametrize(("command", "printed"), EXAMPLES)
def test_the_page_shows_what_the_command_prints(command: str, printed: str):
    assert without_rounding(explain(shlex.split(command)[2:])) == without_rounding(printed.strip("\n"))


def test_the_page_has_an_example():
    assert EXAMPLES
