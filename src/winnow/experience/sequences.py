"""Prompt and response as one sequence of tokens."""

from typing import NamedTuple

from winnow.types import Rollouts


class TokenSequence(NamedTuple):
    token_ids: tuple[int, ...]
    prompt_length: int

    @property
    def response_length(self) -> int:
        return len(self.token_ids) - self.prompt_length


def sequences_of(rollouts: Rollouts) -> list[TokenSequence]:
    """All N rows, prompt by prompt."""
    return [
        TokenSequence(prompt.token_ids + completion.token_ids, len(prompt.token_ids))
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]
