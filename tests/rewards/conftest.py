from collections.abc import Iterator

import pytest

from winnow.rewards.verifier import Verifier


@pytest.fixture(scope="session")
def verifier() -> Iterator[Verifier]:
    """One verifier for all tests, because starting its workers imports sympy."""
    with Verifier(workers=2, timeout=1.0) as shared:
        yield shared
