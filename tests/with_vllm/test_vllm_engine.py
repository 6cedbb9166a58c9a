"""vLLM's CPU build beside the torch engine; `make test-vllm` makes its environment."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from wide_heads import random_model

from winnow.engines import vllm_engine
from winnow.engines.torch_engine import TorchEngine
from winnow.engines.vllm_engine import VllmEngine
from winnow.errors import ConfigError
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.lora import Lora
from winnow.models.templates import Plain
from winnow.rng import seed_of
from winnow.types import Completion, Finish, Prompt, Sampling

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: type make test-vllm")

PROMPTS = [Prompt("a", (3, 4, 5, 12), "", ""), Prompt("b", (6, 7), "", ""), Prompt("c", (8, 9, 3), "", "")]
SEEDS = [[seed_of("vllm", p.key, g) for g in range(4)] for p in PROMPTS]


def engine_for(language_model: LanguageModel) -> VllmEngine:
    return VllmEngine(
        language_model.eos_ids,
        dtype="float32",
        tensor_parallel_size=1,
        gpu_memory_utilization=0.01,
        max_model_len=None,
        enforce_eager=True,
    )


@pytest.fixture(scope="module")
def pair() -> tuple[LanguageModel, VllmEngine]:
    language_model = random_model()
    return language_model, engine_for(language_model)


def stir(language_model: LanguageModel, amount: float = 0.1) -> None:
    """Other weights, in place, as an optimiser leaves them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in language_model.model.parameters():
            if parameter.requires_grad:
                parameter.add_(amount * torch.randn(parameter.shape, generator=generator))


def logprobs_of(
    language_model: LanguageModel, prompt: Prompt, completion: Completion, temperature: float
) -> torch.Tensor:
    """By one plain forward of transformers."""
    ids = torch.tensor([prompt.token_ids + completion.token_ids])
    with torch.no_grad():
        logits = language_model.model(input_ids=ids, use_cache=False).logits[0]
    start = len(prompt.token_ids) - 1
    logs = (logits / temperature).log_softmax(-1)[start:-1]
    return logs.gather(1, ids[0, start + 1 :, None])[:, 0]


def gap(language_model: LanguageModel, engine: VllmEngine, temperature: float = 1.0) -> float:
    """The largest difference of a log-probability."""
    drawn = engine.generate(PROMPTS, SEEDS, Sampling(temperature, 24))
    return max(
        float((completion.logprobs - logprobs_of(language_model, prompt, completion, temperature)).abs().max())
        for prompt, group in zip(PROMPTS, drawn, strict=True)
        for completion in group
    )


def test_log_probabilities_are_the_models_at_every_version_and_temperature(pair: tuple[LanguageModel, VllmEngine]):
    language_model, engine = pair
    for version in range(3):
        stir(language_model)
        engine.sync(language_model.model, version)
        assert engine.version == version
        assert gap(language_model, engine) < 3e-5
        assert gap(language_model, engine, temperature=0.7) < 3e-5


def test_the_likeliest_tokens_are_those_of_the_torch_engine(warm: Path):
    """At a temperature of 0.01 both are as good as greedy."""
    language_model = Pretrained("warm", str(warm), Plain()).load()
    cold = Sampling(0.01, 24)
    prompts = [Prompt(text, language_model.encode(text), text, "") for text in ("47+38=", "9-4=", "60+21=", "88-79=")]
    seeds = [[seed_of("cold", p.key)] for p in prompts]
    ours, theirs = TorchEngine(language_model.eos_ids), engine_for(language_model)
    for engine in (ours, theirs):
        engine.sync(language_model.model, 0)
    pairs = zip(ours.generate(prompts, seeds, cold), theirs.generate(prompts, seeds, cold), strict=True)
    for [a], [b] in pairs:
        assert a.token_ids == b.token_ids
        assert a.finish is b.finish
        torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-5, rtol=0)


def test_a_sample_does_not_depend_on_its_company(pair: tuple[LanguageModel, VllmEngine]):
    language_model, engine = pair
    engine.sync(language_model.model, 10)
    together = engine.generate(PROMPTS, SEEDS, Sampling(1.0, 24))
    for p in range(3):
        [alone] = engine.generate(PROMPTS[p : p + 1], [[SEEDS[p][2]]], Sampling(1.0, 24))
        assert alone[0].token_ids == together[p][2].token_ids
    assert len({c.token_ids for group in together for c in group}) == 12


def test_a_response_ends_with_the_first_end_token_or_with_the_budget(pair: tuple[LanguageModel, VllmEngine]):
    language_model, engine = pair
    engine.sync(language_model.model, 11)
    drawn = engine.generate(PROMPTS * 8, [[seed_of("end", i)] for i in range(24)], Sampling(1.0, 16))
    ended = [c for [c] in drawn if c.finish is Finish.EOS]
    cut = [c for [c] in drawn if c.finish is Finish.LENGTH]
    assert ended
    assert cut
    eos = set(language_model.eos_ids)
    assert all(c.token_ids[-1] in eos and not eos & set(c.token_ids[:-1]) for c in ended)
    assert all(len(c.token_ids) == 16 and not eos & set(c.token_ids) for c in cut)
    assert all(torch.equal(c.entropies, -c.logprobs) for [c] in drawn)


def test_each_sample_is_told_of_once_as_it_ends(pair: tuple[LanguageModel, VllmEngine]):
    language_model, engine = pair
    engine.sync(language_model.model, 12)
    told: dict[tuple[int, int], Completion] = {}
    drawn = engine.generate(PROMPTS, SEEDS, Sampling(1.0, 24), lambda p, g, c: told.setdefault((p, g), c))
    assert told == {(p, g): drawn[p][g] for p in range(3) for g in range(4)}


def test_weights_are_pushed_once_a_version(pair: tuple[LanguageModel, VllmEngine], monkeypatch: pytest.MonkeyPatch):
    language_model, engine = pair
    pushed: list[int] = []
    push = VllmEngine._push
    monkeypatch.setattr(VllmEngine, "_push", lambda self, llm, model: (pushed.append(1), push(self, llm, model)))
    for version in (20, 20, 21, 21, 21):
        engine.sync(language_model.model, version)
        engine.generate(PROMPTS, SEEDS, Sampling(1.0, 2))
    assert len(pushed) == 2


def test_tokens_of_another_version_are_refused(pair: tuple[LanguageModel, VllmEngine]):
    """vLLM labels what it draws with the weights that it drew from."""
    language_model, engine = pair
    engine.sync(language_model.model, 30)
    assert engine._llm is not None
    engine._llm.update_weight_version("29")
    with pytest.raises(RuntimeError, match=r"policies \{'29'\}, not from 30"):
        engine.generate(PROMPTS, SEEDS, Sampling(1.0, 2))


def test_a_tied_head_that_is_not_packed_anew_is_far_off(
    pair: tuple[LanguageModel, VllmEngine], monkeypatch: pytest.MonkeyPatch
):
    """The case that `repack_output` exists for."""
    language_model, engine = pair
    stir(language_model)
    monkeypatch.setattr(vllm_engine, "repack_output", lambda model: None)
    engine.sync(language_model.model, 40)
    assert gap(language_model, engine) > 0.1
    monkeypatch.undo()
    engine.sync(language_model.model, 41)
    assert gap(language_model, engine) < 3e-5


def test_adapters_are_merged_on_the_way():
    language_model = random_model(Lora(rank=4, alpha=8, target_modules="all-linear"))
    engine = engine_for(language_model)
    for version in range(2):
        stir(language_model)
        engine.sync(language_model.model, version)
        assert gap(language_model, engine) < 3e-5


def test_torch_keeps_its_threads(pair: tuple[LanguageModel, VllmEngine]):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


def test_heads_that_the_cpu_build_has_no_attention_for_are_refused():
    embedded = Pretrained("tiny", "embedded", Plain()).config()
    with pytest.raises(ConfigError, match=r"heads of 32, 64, .* this model's have 24; type engine=torch"):
        VllmEngine.require(embedded, cuda=False)
    VllmEngine.require(random_model().model.config, cuda=False)
