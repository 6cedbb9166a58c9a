from html import escape

VOID = frozenset({"br", "hr", "img", "meta", "wbr"})


class Html(str):
    """Text that is markup already. Whatever is a plain `str` is not, and gets escaped."""

    __slots__ = ()


def join(*parts: str) -> Html:
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def tag(name: str, *inside: str, **attributes: str | None) -> Html:
    """`tag("a", "b<c", href="#d")` is `<a href="#d">b&lt;c</a>`.

    Attributes of None are left out; `class_` and `aria_label` lose and change their underscores.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{words}>" if name in VOID else f"<{name}{words}>{join(*inside)}</{name}>")


def table(head: list[str], rows: list[list[str]], numeric: frozenset[int] = frozenset()) -> Html:
    """A table in a box of its own that scrolls sideways. The columns in `numeric` are set flush right."""

    def cells(name: str, row: list[str]) -> Html:
        return tag("tr", *(tag(name, cell, class_="n" if i in numeric else None) for i, cell in enumerate(row)))

    return tag(
        "div",
        tag("table", tag("thead", cells("th", head)), tag("tbody", *(cells("td", row) for row in rows))),
        class_="scroll",
        tabindex="0",
    )
