"""Domains that formulas sum over, and the sums, means, deviations, … over them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from winnow.explain.expression import Domain, Expression, Number, Over, Symbol, expression

Quantities = Mapping[str, Tensor]
View = tuple[Tensor, Tensor, tuple[int, ...], bool]


def _everywhere(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def _response(x: Tensor, given: Quantities) -> View:
    mask = given["response"]
    return x.expand(mask.shape), mask, (1,), True


def _group(x: Tensor, given: Quantities) -> View:
    mask = given.get("usable", _everywhere(x))
    return x, mask if x.dim() == mask.dim() else mask[..., None], (1,), True


def _iteration(x: Tensor, given: Quantities) -> View:
    mask = given.get("usable", _everywhere(x))
    return x, mask if x.dim() == mask.dim() else mask[..., None], (0, 1), True


def _parts(x: Tensor, given: Quantities) -> View:
    return x, _everywhere(x), (2,), False


def _same_prompt(x: Tensor, given: Quantities) -> View:
    """Row i of an (N, N) matrix holds the rows of i's prompt."""
    prompts = given["prompts"]
    return x.reshape(1, -1).expand(len(prompts), -1), prompts[:, None] == prompts[None, :], (1,), x.dim() == 2


def _rows(x: Tensor, given: Quantities) -> View:
    if not x.dim():  # a number that is the same for every row
        x = x.expand(len(given["response"]), 1)
    return x, _everywhere(x), tuple(range(x.dim())), True


def _others(x: Tensor, given: Quantities) -> View:
    """Sample i's row i of a (P, G, G) tensor holds the samples j of its prompt, of which i itself is not one."""
    size = x.shape[1]
    square = x[:, None, :].expand(-1, size, -1)
    usable = given.get("usable", _everywhere(x))[:, None, :].expand(-1, size, -1)
    return square, ~torch.eye(size, dtype=torch.bool) & usable, (2,), False


def _tokens_of_the_iteration(x: Tensor, given: Quantities) -> View:
    mask = given["response"]
    return x.expand(mask.shape), mask, (0, 1), True


TOKENS = Domain("t", "t", "t: the tokens of a response", _response)
GROUP = Domain("G", "G", "G: the samples of a prompt", _group)
OTHERS = Domain("j≠i", r"j \ne i", "j≠i: the other samples of the prompt", _others)
ITERATION = Domain("N", "N", "N: all samples of the iteration", _iteration)
PARTS = Domain("m", "m", "m: the reward functions", _parts)
BATCH = Domain("a∈D", r"a \in D", "a∈D: the samples of the optimiser batch", _rows)
SAME_PROMPT = Domain("a'∈x", "a' \\in x", "a'∈x: the samples of D of the same prompt", _same_prompt)
PAIR_BATCH = Domain("pairs", r"\mathrm{pairs}", "pairs: the pairs of the optimiser batch", _rows)
EVERY_TOKEN = Domain("T", "T", "T: all response tokens of the iteration", _tokens_of_the_iteration)


def total(body: Number, over: Domain, where: Expression | None = None) -> Expression:
    return Over("sum", over, expression(body), where)


def mean(body: Number, over: Domain, where: Expression | None = None) -> Expression:
    return Over("mean", over, expression(body), where)


def std(body: Number, over: Domain) -> Expression:
    """The unbiased standard deviation, which divides by the number of members less 1."""
    return Over("std", over, expression(body))


def var(body: Number, over: Domain) -> Expression:
    """The unbiased variance."""
    return Over("var", over, expression(body))


def highest(body: Number, over: Domain, where: Expression | None = None) -> Expression:
    return Over("max", over, expression(body), where)


def lowest(body: Number, over: Domain, where: Expression | None = None) -> Expression:
    return Over("min", over, expression(body), where)


def some(body: Expression, over: Domain) -> Expression:
    return Over("any", over, body)


def every(body: Expression, over: Domain) -> Expression:
    return Over("all", over, body)


def later(body: Expression, factor: float) -> Expression:
    """Σ_{l≥0} factor^l · body_{t+l} over the later tokens of the response, of which the token itself is the first."""

    def view(x: Tensor, given: Quantities) -> View:
        steps = torch.arange(x.shape[1])
        ahead = steps[None, :] - steps[:, None]
        weights = float(factor) ** ahead.clamp(min=0).double()
        mask = given["response"][:, None, :] & (ahead >= 0)
        return x[:, None, :] * weights, mask, (2,), False

    power = "" if factor == 1 else f"{factor:.12g}"
    shifted = Symbol(
        f"{power}^l·δ_{{t+l}}" if power else "δ_{t+l}",
        f"{power}^{{l}}\\,\\delta_{{t+l}}" if power else r"\delta_{t+l}",
        "",
        "",
        body,
    )
    return total(shifted, Domain("l≥0", r"l \ge 0", "l≥0: the token and those after it in the response", view))
