"""Text of models and data made harmless to show: on a terminal, in a log and on a page."""

import re

# Control characters except for the line feed and the tab (a terminal obeys them), separators of lines that only some
# programs know, marks that change the direction in which text is shown, and halves of surrogate pairs, which cannot be
# encoded.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""`text` with every character that is obeyed instead of shown written as its code, such as `\u001b`.

    In a string of JSON the code means the same character, so that JSON stays what it was.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
