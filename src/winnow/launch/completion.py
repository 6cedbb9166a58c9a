"""Tab completion of the command `winnow`, by the scripts that Hydra has for bash, zsh and fish."""

import os
from collections.abc import Sequence

from winnow.errors import DONE
from winnow.launch import programs

WITH_OVERRIDES = ("train", "evaluate")


def complete(words: Sequence[str], commands: Sequence[str]) -> int:
    """Do what `words` say: `-sc install=SHELL` prints what a shell is to run, `-sc query=SHELL` what may follow the
    line in COMP_LINE, as the shell sets it: one of the `commands`, or an override of a program."""
    line = os.environ.get("COMP_LINE", "").lstrip()
    _, *typed = (line + "|").split(maxsplit=2)  # the mark keeps an empty last word
    if len(typed) == 2 and typed[0] in WITH_OVERRIDES:
        os.environ["COMP_LINE"] = f"winnow {typed[1][:-1]}"
        return programs.installed(typed[0]).exit_code(words)
    if not any("query=" in word for word in words):
        return programs.installed("train").exit_code(words)
    if len(typed) == 1:
        print(*(name for name in commands if name.startswith(typed[0][:-1])))
    return DONE
