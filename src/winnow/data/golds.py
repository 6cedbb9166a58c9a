r"""Where a dataset keeps its gold answer, and how its solutions become demonstrations.

A file that holds the bare answer passes through each of these unchanged, so that one setting serves the hub's rows and a
local copy that was tidied up.
"""

import re

from winnow.rewards.extract import last_boxed

_CALCULATOR = re.compile(r"<<[^<>]*>>")


def verbatim(text: str) -> str:
    """The field as it stands."""
    return text.strip()


def after_hashes(text: str) -> str:
    """What follows the last `####`, as GSM8K writes it: `…so 9*2=18\\n#### 1,018` gives `1018`."""
    _, hashes, answer = text.rpartition("####")
    return answer.strip().replace(",", "") if hashes else text.strip()


def last_box(text: str) -> str:
    r"""The content of the last `\boxed{…}`, as MATH's solutions have it."""
    return last_boxed(text) or text.strip()


def boxed_demonstration(solution: str) -> str:
    r"""A solution of GSM8K as a model should write it: without the calculator's `<<48/2=24>>`, and with its answer in a box.

    `…is <<1+1=2>>2.\n#### 2` gives `…is 2.\nThe answer is \boxed{2}.`
    """
    working, hashes, answer = _CALCULATOR.sub("", solution).rpartition("####")
    if not hashes:
        return answer.strip()
    return f"{working.strip()}\nThe answer is \\boxed{{{answer.strip().replace(',', '')}}}."
