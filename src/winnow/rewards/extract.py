r"""The answer of a response: the content of its last closed `\boxed{…}`."""

import re

_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(response: str) -> str | None:
    r"""Content of the box that opens last among those that close; None if there is none or if it is blank.

    Braces are matched with LaTeX's escapes (`\{` opens nothing). Of nested boxes the inner one counts. `\boxed 5` and
    `\fbox{5}` are not boxes: 2 and 0 of the 7,620 boxes in MATH's training solutions, and each further spelling is one
    more thing that a policy can find. One pass whatever the text holds: 20,000 unclosed boxes cost what their length costs.
    """
    opened: list[re.Match[str]] = []
    last, content = -1, ""
    for token in _TOKEN.finditer(response):
        if token[0].endswith("{") and token[0] != r"\{":
            opened.append(token)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start[0] != "{" and start.start() > last:
                last, content = start.start(), response[start.end() : token.start()]
    return content.strip() or None
