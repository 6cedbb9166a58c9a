"""Cache of unreadable golds: a long list is checked once, and again for another rule or list or an unusable cache."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from winnow.rewards.verifier import MIN_CACHED_GOLDS, cached_bad_golds

GOLDS = [f"x^{{{i}}}" for i in range(MIN_CACHED_GOLDS)]
RULE = {"name": "numeric", "relative": 1e-4}


class Asked:
    def __init__(self, final: bool = True) -> None:
        self.times, self.final = 0, final

    def __call__(self, golds: Sequence[str]) -> tuple[list[str], bool]:
        self.times += 1
        return [golds[3]], self.final


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_second_start_does_not_ask(cache: Path):
    asked = Asked()
    assert cached_bad_golds(GOLDS, RULE, asked) == cached_bad_golds(GOLDS, RULE, asked) == {"x^{3}"}
    assert asked.times == 1
    assert len(list(cache.rglob("*.json"))) == 1


def test_other_golds_or_settings_are_asked_about(cache: Path):
    asked = Asked()
    for golds, rule in ((GOLDS, RULE), (GOLDS[::-1], RULE), (GOLDS, {**RULE, "relative": 1e-3})):
        cached_bad_golds(golds, rule, asked)
    assert asked.times == 3


def test_a_result_that_is_not_final_is_not_cached(cache: Path):
    asked = Asked(final=False)
    assert cached_bad_golds(GOLDS, RULE, asked) == cached_bad_golds(GOLDS, RULE, asked) == {"x^{3}"}
    assert asked.times == 2


def test_few_golds_are_not_cached_and_an_unusable_cache_is_ignored(cache: Path, monkeypatch: pytest.MonkeyPatch):
    asked = Asked()
    cached_bad_golds(GOLDS[:9], RULE, asked)
    assert not cache.exists()
    cached_bad_golds(GOLDS, RULE, asked)
    [file] = cache.rglob("*.json")
    file.write_text("[")
    assert cached_bad_golds(GOLDS, RULE, asked) == {"x^{3}"}
    monkeypatch.setenv("WINNOW_CACHE", "/dev/null/nowhere")
    assert cached_bad_golds(GOLDS, RULE, asked) == {"x^{3}"}
    assert asked.times == 4
