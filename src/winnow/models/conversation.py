"""Conversations: the messages of a chat, or a problem as the one message of a user."""

from collections.abc import Sequence
from typing import NamedTuple


class Message(NamedTuple):
    """One message of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


Conversation = Sequence[Message]
"""Messages of which the last is the user's: `[Message("user", "1+1?")]` is a problem that is only a text."""
