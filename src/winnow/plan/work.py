"""Work of an iteration: tokens, and the floating-point operations that they cost."""

from dataclasses import dataclass

from winnow.models.shape import ModelShape
from winnow.plan.lengths import Lengths


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of some rows: `prompt` and `response` tokens that are computed, and the positions that they attend to.

    A prompt that several rows share is computed once.
    """

    prompt: float
    response: float
    context: float

    @property
    def all(self) -> float:
        return self.prompt + self.response

    def times(self, factor: float) -> "Tokens":
        """So many times the work."""
        return Tokens(self.prompt * factor, self.response * factor, self.context * factor)


def tokens_of(prompts: float, rows: float, lengths: Lengths) -> Tokens:
    """The tokens of `rows` responses to `prompts` prompts.

    A response of n tokens after a prompt of p attends to n · p + n² / 2 positions, a prompt to p² / 2.
    """
    p = lengths.prompt
    return Tokens(
        prompts * p,
        rows * lengths.mean,
        prompts * p * p / 2 + rows * (lengths.mean * p + lengths.mean_square / 2),
    )


def prompts_of(rows: float, samples: int, batches: int) -> float:
    """Prompts that are computed for `rows` responses, `samples` each, that are dealt into `batches` at random.

    A batch computes a prompt if one of the prompt's rows is in it: batches · (1 − (1 − 1 / batches)^samples).
    """
    return rows / samples * batches * (1 - (1 - 1 / batches) ** samples)


def multiplied(shape: ModelShape) -> float:
    """Parameters that a token of a response is multiplied by: the blocks and the output layer, not the embedding."""
    return shape.layers * shape.block + shape.table


def forward_flops(shape: ModelShape, tokens: Tokens) -> float:
    """FLOPs of a forward, as model FLOPs are counted (PaLM, arXiv 2204.02311, appendix B).

    2 per parameter of the blocks and token, 2 per number of the output layer and token of a response, and 4 per layer,
    query width and attended position (Q·K and A·V), of which causal attention computes the past only.
    """
    blocks = 2 * shape.layers * shape.block * tokens.all
    return blocks + 2 * shape.table * tokens.response + 4 * shape.layers * shape.query_width * tokens.context


def update_flops(shape: ModelShape, tokens: Tokens, recompute: bool, critic: bool) -> float:
    """FLOPs of forward and backward: three forwards of the blocks, or four with gradient checkpointing.

    The output layer is always computed again in the backward (`models.logprobs.head_scores`), which makes four. A
    critic is as much work again, without the output layer.
    """
    head = 2 * shape.table * tokens.response
    blocks = (4 if recompute else 3) * (forward_flops(shape, tokens) - head)
    return blocks * (2 if critic else 1) + 4 * head
