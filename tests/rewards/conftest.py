import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow.rewards.verifier import Verifier


@pytest.fixture(scope="session")
def verifier() -> Iterator[Verifier]:
    """One verifier for all tests, because starting its workers imports sympy."""
    with Verifier(workers=2, timeout=1.0) as shared:
        yield shared


@pytest.fixture
def their_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """`their_rewards` can be imported, as by a user whose PYTHONPATH names its folder."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.delitem(sys.modules, "their_rewards", raising=False)
