"""Samples of the torch engine: their log-probabilities are the training forward's, and only their seed decides them."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM, GenerationConfig, PreTrainedModel

from winnow.engines.base import OnCompletion, ignore_completion
from winnow.engines.torch_engine import COMPACT_AT, TorchEngine, draw_tokens
from winnow.errors import ConfigError
from winnow.models.attention import is_packed
from winnow.models.backbone import pack_where_exact
from winnow.types import Completion, Finish, Prompt, Sampling

from .models import STYLES, VOCAB, tiny

PROMPTS = [
    Prompt(f"p{n}", token_ids, "", "")
    for n, token_ids in enumerate([(5, 2, 9, 11, 4, 4, 8, 1, 3), (7,), (6, 6, 1), (3, 12, 9), (10, 2, 5, 8, 8)])
]
T = TypeVar("T")
NO_EOS = (VOCAB,)  # an id that no model here can draw
WAYS = [*((style, False) for style in STYLES), *((style, True) for style in STYLES if style != "qwen2_sliding")]
"""Model styles with transformers' own attention, and with packed attention where that is exact."""


def made(style: str, packed: bool, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    model = tiny(style, dtype, **changes).eval()
    if packed:
        pack_where_exact(model)
        assert is_packed(model)
    return model


def seeds_for(prompts: Sequence[Prompt], samples: int) -> list[list[int]]:
    """Seeds by the key of the prompt, so that they do not depend on its place."""
    return [[1000 * int(prompt.key[1:]) + sample for sample in range(samples)] for prompt in prompts]


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Prompt] = PROMPTS,
    samples: int = 3,
    temperature: float = 1.0,
    max_tokens: int = 12,
    eos_ids: Sequence[int] = (0, 4),
    max_rows: int | None = None,
    on_completion: OnCompletion = ignore_completion,
) -> list[list[Completion]]:
    engine = TorchEngine(eos_ids, max_rows=max_rows)
    engine.sync(model, 1)
    return engine.generate(prompts, seeds_for(prompts, samples), Sampling(temperature, max_tokens), on_completion)


def spy(model: PreTrainedModel, pick: Callable[[dict[str, Tensor]], T]) -> list[T]:
    """A list to which each forward from now on appends `pick` of its arguments."""
    seen: list[T] = []
    model.register_forward_pre_hook(lambda _module, _args, call: seen.append(pick(call)), with_kwargs=True)
    return seen


@torch.no_grad()
def fresh(model: PreTrainedModel, sequences: Sequence[tuple[int, ...]], temperature: float) -> list[Tensor]:
    """Log-probabilities (positions, vocabulary) of the token after each position, by one right-padded forward."""
    longest = max(len(ids) for ids in sequences)
    tokens = torch.tensor([ids + (0,) * (longest - len(ids)) for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences])
    logits = model.eval()(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    rows = (logits / temperature).log_softmax(-1)
    return [row[: len(ids)] for row, ids in zip(rows, sequences, strict=True)]


def check_against_fresh(
    model: PreTrainedModel, groups: list[list[Completion]], temperature: float, atol: float
) -> None:
    pairs = [(prompt, one) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]
    rows = fresh(model, [prompt.token_ids + one.token_ids for prompt, one in pairs], temperature)
    for (prompt, one), row in zip(pairs, rows, strict=True):
        said = row[len(prompt.token_ids) - 1 : -1]
        entropies = -(said.exp() * said).sum(-1)
        logprobs = said.gather(-1, torch.tensor(one.token_ids)[:, None]).squeeze(-1)
        torch.testing.assert_close(one.logprobs, logprobs, rtol=0, atol=atol, check_dtype=False)
        torch.testing.assert_close(one.entropies, entropies, rtol=0, atol=atol, check_dtype=False)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
@pytest.mark.parametrize(("style", "packed"), WAYS)
def test_logprobs_and_entropies_equal_a_fresh_forward(style: str, packed: bool, temperature: float) -> None:
    groups = sample(made(style, packed), samples=4, temperature=temperature)
    assert len({len(one.token_ids) for one in chain(*groups)}) > 2  # rows ended at different steps
    check_against_fresh(tiny(style), groups, temperature, atol=1e-4)


@pytest.mark.parametrize("style", [style for style, packed in WAYS if packed])
def test_packed_and_transformers_attention_draw_the_same(style: str) -> None:
    ours, theirs = (list(chain(*sample(made(style, packed, torch.float64)))) for packed in (True, False))
    assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]


@pytest.mark.parametrize("packed", [True, False])
def test_prompts_of_equal_length_have_no_padding_and_the_same_samples(packed: bool) -> None:
    model = made("llama", packed)
    masks = spy(model, lambda call: call["attend"].visible if packed else call["attention_mask"])
    even = [PROMPTS[2], PROMPTS[3]]
    groups = sample(model, even)
    assert set(masks) == {None}
    uneven = sample(model, [*even, PROMPTS[0]])
    assert [one.token_ids for one in chain(*groups)] == [one.token_ids for one in chain(*uneven[:2])]


@pytest.mark.parametrize(("style", "packed"), WAYS)
def test_a_seed_gives_the_same_sample_in_any_batch(style: str, packed: bool) -> None:
    # transformers normalises (RMSNorm) and rotates in float32 even in a float64 model, GPT-2 does neither
    atol = 1e-12 if style == "gpt2" else 1e-5
    model = made(style, packed, torch.float64)
    together = dict(zip(PROMPTS, sample(model), strict=True))
    others = {
        "alone": {prompt: sample(model, [prompt])[0] for prompt in PROMPTS},
        "reversed": dict(zip(PROMPTS[::-1], sample(model, PROMPTS[::-1]), strict=True)),
        "fewer samples": dict(zip(PROMPTS, sample(model, samples=1), strict=True)),
        "six rows at once": dict(zip(PROMPTS, sample(model, max_rows=6), strict=True)),
        "ten rows at once": dict(zip(PROMPTS, sample(model, max_rows=10), strict=True)),
        "one row at once": dict(zip(PROMPTS, sample(model, samples=1, max_rows=1), strict=True)),
    }
    for batch, groups in others.items():
        for prompt, group in groups.items():
            for one, same in zip(group, together[prompt], strict=False):
                assert (one.token_ids, one.finish) == (same.token_ids, same.finish), (batch, prompt.key)
                assert one.logprobs.dtype == torch.float64
                torch.testing.assert_close(one.logprobs, same.logprobs, rtol=0, atol=atol)


def test_samples_follow_the_distribution_that_is_trained() -> None:
    """16,384 pairs of tokens, counted against the model's own joint probabilities of 8 × 8 pairs."""
    model, temperature, count = tiny("qwen2", vocab_size=8), 1.3, 16_384
    prompt = PROMPTS[2]
    group = sample(model, [prompt], count, temperature, max_tokens=2, eos_ids=NO_EOS)[0]
    continued = fresh(model, [(*prompt.token_ids, token) for token in range(8)], temperature)
    joint = torch.stack([row[-2, token] + row[-1] for token, row in enumerate(continued)]).double().exp()
    counts = torch.zeros(8, 8, dtype=torch.float64)
    for one in group:
        counts[one.token_ids] += 1
    likely = joint * count > 5  # the usual condition of the chi-square test; the rest is one cell
    expected = torch.cat([joint[likely], joint[~likely].sum()[None]]) * count
    observed = torch.cat([counts[likely], counts[~likely].sum()[None]])
    assert likely.sum() > 20
    assert chisquare(observed.numpy(), (expected * count / expected.sum()).numpy()).pvalue > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_never_impossible_and_reach_the_last_token(dtype: torch.dtype) -> None:
    never = -torch.inf
    logits = torch.tensor([[never, 0.0, never, 0.0, never], [never, never, 3.0, never, never]], dtype=dtype)
    for uniform, expected in [(0.0, [1, 2]), (0.25, [1, 2]), (0.5, [3, 2]), (1 - 2**-53, [3, 2])]:
        token, logprob, entropy = draw_tokens(logits, torch.full((2,), uniform, dtype=torch.float64))
        assert token.tolist() == expected
        assert logprob.tolist() == pytest.approx([-0.6931471805599453, 0.0])
        assert entropy.tolist() == pytest.approx([0.6931471805599453, 0.0])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("vocabulary", [10, 64, 65, 4096])
def test_draw_inverts_the_cumulative_distribution(vocabulary: int, temperature: float) -> None:
    """Except for uniforms so close to a boundary between two tokens that rounding may decide either way."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 2 * torch.randn(2000, vocabulary, generator=generator) / temperature
    uniform = torch.rand(2000, generator=generator, dtype=torch.float64)
    reach = logits.double().softmax(-1).cumsum(-1)
    plain = torch.searchsorted(reach, uniform[:, None], right=True).squeeze(-1)
    clear = (reach - uniform[:, None]).abs().amin(-1) > 1e-6
    assert clear.float().mean() > 0.98
    token, logprob, entropy = draw_tokens(logits, uniform)
    assert torch.equal(token[clear], plain[clear])
    assert len(token.unique()) > vocabulary / 4 or vocabulary == 4096
    logs = logits.double().log_softmax(-1)
    torch.testing.assert_close(logprob.double(), logs.gather(-1, token[:, None]).squeeze(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(entropy.double(), -(logs.exp() * logs).sum(-1), rtol=0, atol=1e-5)


def test_draw_reaches_the_last_of_a_large_vocabulary() -> None:
    """Float32 probabilities of 150,000 tokens do not sum to 1, but a uniform just below 1 draws the last token."""
    logits = torch.randn(4, 150_000, generator=torch.Generator().manual_seed(0))
    token, _, _ = draw_tokens(logits, torch.full((4,), 1 - 2**-53, dtype=torch.float64))
    assert token.tolist() == [149_999] * 4


def test_every_eos_ends_a_row_and_belongs_to_it() -> None:
    eos = (0, 4, 13)
    rows = list(chain(*sample(tiny("gpt2"), samples=40, temperature=1.5, eos_ids=eos)))
    ended = [one for one in rows if one.finish is Finish.EOS]
    assert {one.token_ids[-1] for one in ended} == set(eos)
    for one in rows:
        assert len(one.logprobs) == len(one.entropies) == len(one.token_ids) <= 12
        assert not set(one.token_ids[:-1]) & set(eos)
        assert (one.finish is Finish.EOS) == (one.token_ids[-1] in eos)


def test_without_an_eos_the_budget_ends_every_row() -> None:
    for budget in (1, 7):
        rows = list(chain(*sample(tiny("llama"), max_tokens=budget, eos_ids=NO_EOS)))
        assert {(len(one.token_ids), one.finish) for one in rows} == {(budget, Finish.LENGTH)}


def test_a_generation_config_has_no_effect() -> None:
    model = tiny("qwen2")
    before = sample(model, samples=40)
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_p=0.8,
        top_k=2,
        temperature=0.3,
        repetition_penalty=2.0,
        eos_token_id=5,
        max_length=3,
    )
    after = sample(model, samples=40)
    assert [one.token_ids for one in chain(*after)] == [one.token_ids for one in chain(*before)]
    firsts = {one.token_ids[0] for one in after[0]}
    assert len(firsts) > 2  # more than top_k
    check_against_fresh(model, after, 1.0, atol=1e-4)


@pytest.mark.parametrize("packed", [True, False])
def test_prompts_are_prefilled_once_and_finished_rows_leave(packed: bool) -> None:
    model, samples, budget = made("llama", packed), 16, 40
    shapes = spy(model, lambda call: tuple(call["input_ids"].shape))
    rows = list(chain(*sample(model, samples=samples, max_tokens=budget, eos_ids=(0, 1, 2))))
    prefill, *steps = shapes
    assert prefill == (len(PROMPTS), 9)  # five prompts, the longest of nine tokens: not times 16
    assert {positions for _, positions in steps} == {1}
    lengths = [len(one.token_ids) for one in rows]
    needed = [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert len(steps) == len(needed)
    for (forwarded, _), unfinished in zip(steps, needed, strict=True):
        assert unfinished <= forwarded <= unfinished / (1 - COMPACT_AT)
    assert sum(forwarded for forwarded, _ in steps) < 0.5 * len(rows) * (budget - 1)


def test_max_rows_bounds_the_rows_of_every_forward() -> None:
    model = tiny("llama")
    shapes = spy(model, lambda call: tuple(call["input_ids"].shape))
    sample(model, samples=3, max_rows=7, max_tokens=2, eos_ids=NO_EOS)
    assert shapes == [(2, 9), (6, 1), (2, 3), (6, 1), (1, 5), (3, 1)]  # two prompts, two, and the fifth


MANY = [Prompt(f"p{n}", tuple((3 * n + k) % VOCAB for k in range(2 + n % 7)), "", "") for n in range(24)]
"""Prompts of 2 to 8 tokens, so that a forward over more than one position is a prefill."""


def shapes_of(model: PreTrainedModel, prompts: Sequence[Prompt], max_rows: int | None) -> list[tuple[int, int]]:
    """(rows, positions) of each forward that samples two responses of up to 40 tokens to each prompt."""
    shapes = spy(model, lambda call: tuple(call["input_ids"].shape))
    sample(model, prompts, samples=2, max_tokens=40, max_rows=max_rows)
    return shapes  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(("style", "packed"), [way for way in WAYS if way[0] != "qwen2_sliding"])
def test_prompts_join_as_rows_end(style: str, packed: bool) -> None:
    """Sampling in four parts of six prompts takes more steps: each part as many as its longest row needs."""
    shapes = shapes_of(made(style, packed), MANY, max_rows=12)
    steps = [rows for rows, positions in shapes if positions == 1]
    prefills = [rows for rows, positions in shapes if positions > 1]
    assert 6 < max(steps) <= 12
    assert sum(prefills) == len(MANY)
    assert len(prefills) > 4
    parts = [shapes_of(made(style, packed), MANY[n : n + 6], max_rows=12) for n in range(0, 24, 6)]
    assert len(steps) < sum(positions == 1 for part in parts for _, positions in part)
    # All but the first join rows that are being decoded: the steps before and after are of several rows.
    first = [place for place, (_, positions) in enumerate(shapes) if positions > 1]
    assert all(shapes[place + 1][0] > 2 * shapes[place][0] for place in first[1:])


def test_with_a_sliding_window_no_prompt_joins_a_running_batch() -> None:
    """Its layer drops the first keys, so that each part runs to its end before the next begins."""
    parts = [shapes_of(made("qwen2_sliding", False), MANY[n : n + 6], max_rows=12) for n in range(0, 24, 6)]
    assert shapes_of(made("qwen2_sliding", False), MANY, max_rows=12) == list(chain(*parts))


@pytest.mark.parametrize(("style", "packed"), WAYS)
def test_joining_a_running_batch_changes_no_sample(style: str, packed: bool) -> None:
    model = made(style, packed, torch.float64)
    together = [one.token_ids for one in chain(*sample(model, MANY))]
    assert len(set(map(len, together))) > 5
    for max_rows in (3, 9, 20):
        assert [one.token_ids for one in chain(*sample(model, MANY, max_rows=max_rows))] == together


def test_positions_end_where_the_longest_row_does() -> None:
    """A row that has ended but is not dropped yet must not run past a table of learned positions."""
    longest = max(len(prompt.token_ids) for prompt in MANY)
    model = tiny("gpt2", n_positions=longest + 12)
    for max_rows in range(9, 13):
        rows = list(chain(*sample(model, MANY * 3, samples=1, max_rows=max_rows, eos_ids=(0,))))
        assert any(one.finish is Finish.LENGTH for one in rows)


@pytest.mark.parametrize("max_rows", [None, 12])
def test_each_row_is_reported_once_when_it_has_ended(max_rows: int | None) -> None:
    model = tiny("llama")
    forwards = spy(model, lambda _call: None)
    reported: list[tuple[int, int, Completion]] = []
    when: list[int] = []

    def on_completion(prompt: int, sample: int, completion: Completion) -> None:
        reported.append((prompt, sample, completion))
        when.append(len(forwards))

    groups = sample(model, MANY, samples=2, max_rows=max_rows, on_completion=on_completion)
    assert sorted((prompt, number) for prompt, number, _ in reported) == [(p, g) for p in range(24) for g in range(2)]
    assert all(groups[prompt][number] is completion for prompt, number, completion in reported)
    assert when == sorted(when)
    assert when[0] < len(forwards) / 2  # long before the last row ended


def test_without_prompts_or_seeds_nothing_is_drawn() -> None:
    """A rank may have no prompt, and a prompt no sample."""
    assert sample(tiny("llama"), []) == []
    engine = TorchEngine((0,))
    engine.sync(tiny("llama"), 1)
    assert engine.generate(PROMPTS[:2], [[], []], Sampling(1.0, 4)) == [[], []]


def test_dropout_is_off_in_sampling_and_modes_are_restored() -> None:
    model = tiny("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5).train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)).eval()
    groups = sample(model)
    assert not frozen.training
    assert all(module.training for module in model.modules() if module is not frozen)
    check_against_fresh(model, groups, 1.0, atol=1e-4)
    model.register_forward_pre_hook(lambda *_: pytest.fail("no forward"))
    with pytest.raises(pytest.fail.Exception):
        sample(model.train())
    assert model.training


def test_groups_may_differ_in_size() -> None:
    engine = TorchEngine((0,))
    engine.sync(tiny("qwen2", torch.float64), 3)
    assert engine.version == 3
    groups = engine.generate(PROMPTS[:3], [[1], [1, 2, 3], [1, 2]], Sampling(1.0, 6))
    assert [len(group) for group in groups] == [1, 3, 2]
    again = engine.generate(PROMPTS[1:2], [[3]], Sampling(1.0, 6))
    assert again[0][0].token_ids == groups[1][2].token_ids


def test_training_goes_on_with_what_was_sampled() -> None:
    model = tiny("qwen2")
    one = sample(model)[0][0]
    ids = torch.tensor([PROMPTS[0].token_ids + one.token_ids])
    logprobs = model(input_ids=ids).logits.log_softmax(-1)[0, 8:-1].gather(-1, ids[0, 9:, None]).squeeze(-1)
    ((logprobs - one.logprobs).exp() * one.logprobs).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("packed", [True, False])
def test_under_autocast_logprobs_are_float32_of_bfloat16_logits(packed: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        groups = sample(made("llama", packed))
        check_against_fresh(tiny("llama"), groups, 1.0, atol=0.1)
    assert {one.logprobs.dtype for one in chain(*groups)} == {torch.float32}


def test_misuse_is_an_error_with_a_reason() -> None:
    with pytest.raises(RuntimeError, match="before sync"):
        TorchEngine((0,)).generate(PROMPTS, seeds_for(PROMPTS, 1), Sampling(1.0, 4))
    bloom = BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="BloomForCausalLM takes no position_ids"):
        TorchEngine((0,)).sync(bloom, 0)
    with pytest.raises(ConfigError, match="max_rows=0"):
        TorchEngine((0,), max_rows=0)
