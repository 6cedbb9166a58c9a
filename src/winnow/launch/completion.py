"""Tab completion of the command `winnow`, by the scripts that Hydra has for bash, zsh and fish."""

import os
from collections.abc import Sequence

from winnow.errors import DONE
from winnow.launch import programs

WITH_OVERRIDES = ("train", "evaluate")
FOR_ZSH = """\
if [ -n "${ZSH_VERSION-}" ]; then
    autoload -Uz compinit bashcompinit
    whence compdef > /dev/null || compinit
    whence complete > /dev/null || bashcompinit
fi"""
"""Lines that let zsh understand a completion written for bash, which is all that Hydra has for it."""


def complete(words: Sequence[str], commands: Sequence[str]) -> int:
    """Do what `words` say: `-sc install=SHELL` prints what a shell is to run, `-sc query=SHELL` what may follow the
    line in COMP_LINE, as the shell sets it: one of the `commands`, or an override of a program."""
    line = os.environ.get("COMP_LINE", "").lstrip()
    _, *typed = (line + "|").split(maxsplit=2)  # the mark keeps an empty last word
    if len(typed) == 2 and typed[0] in WITH_OVERRIDES:
        os.environ["COMP_LINE"] = f"winnow {typed[1][:-1]}"
        return programs.installed(typed[0]).exit_code(words)
    if not any("query=" in word for word in words):
        if any(word in ("install=bash", "install=zsh") for word in words):
            print(FOR_ZSH, flush=True)
        return programs.installed("train").exit_code(words)
    if len(typed) == 1:
        print(*(name for name in commands if name.startswith(typed[0][:-1])))
    return DONE
