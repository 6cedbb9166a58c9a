"""Token ids as text: numbers of variable length (LEB128, as in Protocol Buffers) in base64, 2 to 4 characters each."""

from base64 import b64decode, b64encode
from collections.abc import Iterable


def encoded(ids: Iterable[int]) -> str:
    """Each id in groups of 7 bits, lowest first, the top bit set on all but its last byte; all of them in base64.

    `encoded([5, 300])` is "BawC": 5 is the byte 05, and 300 is AC 02. An id below 128 is one byte, below 16,384 two.
    """
    found = bytearray()
    for number in ids:
        while number >= 128:
            found.append(number % 128 + 128)
            number //= 128
        found.append(number)
    return b64encode(found).decode()


def decoded(text: str) -> tuple[int, ...]:
    """The ids that `encoded` wrote.

    Raises:
        ValueError: the text is not base64, or ends inside a number.
    """
    ids, number, place = [], 0, 0
    for byte in b64decode(text, validate=True):
        number += (byte % 128) << place
        place += 7
        if byte < 128:
            ids.append(number)
            number, place = 0, 0
    if place:
        raise ValueError("the text ends inside a token id")
    return tuple(ids)
