from collections.abc import Iterator

import pytest

from winnow.rewards.pool import VerifierPool


@pytest.fixture(scope="session")
def verifier() -> Iterator[VerifierPool]:
    """The real thing, shared: starting its workers imports sympy."""
    with VerifierPool(workers=2, timeout=1.0) as pool:
        yield pool
