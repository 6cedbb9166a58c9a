"""Text of models and data made harmless to show: on a terminal, in a log and on a page."""

import re

# Control characters except for the line feed and the tab (a terminal obeys them), separators of lines that only some
# programs know, marks that change the direction in which text is shown, and halves of surrogate pairs, which cannot be
# encoded.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_WORD = 400
LONGEST_MESSAGE = 6000
"""Characters of the longest word, and of the longest message, that are printed whole."""


def visible(text: str) -> str:
    r"""`text` with every character that is obeyed instead of shown written as its code, such as `\u001b`.

    In a string of JSON the code means the same character, so that JSON stays what it was.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def message(text: str) -> str:
    """`text` on one line of a readable length: a path or a number of thousands of characters is cut in its middle."""
    words = (_cut(word, LONGEST_WORD) for word in visible(" ".join(text.split())).split(" "))
    return _cut(" ".join(words), LONGEST_MESSAGE)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 4
    return f"{text[:half]}…({len(text) - 2 * half:,} more characters)…{text[-half:]}"
