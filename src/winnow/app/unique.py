"""A name that no other run has."""

import secrets


def unique() -> str:
    """Six hexadecimal digits: of 100 runs that start in one second, two share them once in 3,000 such seconds."""
    return secrets.token_hex(3)
