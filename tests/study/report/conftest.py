"""A report of a small study of three arms in which one job failed, written once, and a parser for its page."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from study.report.dressed import write_dressed, write_failed_job
from winnow.study.report.write import write_report

ARMS = ("raft", "raftpp", "raftpp_no_clip")
VOID = frozenset({"br", "hr", "img", "meta", "wbr"})
"""Elements without an end tag."""


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Elements of a page in the order of their start tags. An element's `text` includes the text of those within it."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def named(self, name: str) -> list[Element]:
        return [element for element in self.elements if element.name == name]

    def classed(self, word: str) -> list[Element]:
        return [element for element in self.elements if word in element.attributes.get("class", "").split()]

    def at(self, place: str) -> Element:
        (found,) = [element for element in self.elements if element.attributes.get("id") == place]
        return found


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert not page.open
    return page


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """Directory of a study of three arms with three seeds and one failed job, with its report."""
    top = tmp_path_factory.mktemp("small")
    write_dressed(top, ARMS, range(3))
    write_failed_job(top, "seed=3 arm=raft", "RuntimeError: <b>out of memory</b>")
    write_report([top], None, "iterations")
    return top


@pytest.fixture(scope="session")
def page(small) -> Page:
    return read_page(small / "report.html")
