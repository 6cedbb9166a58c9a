"""Qwen2.5 and Llama 3.2 end to end, with random weights: prompt ids, ends of responses, masks, and export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.engines.torch_engine import TorchEngine
from winnow.experience.batching import collate
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.policy import Policy
from winnow.models.templates import Chat, Plain, Template
from winnow.packed import pack
from winnow.types import Completion, Finish, Row, Sampling

from .checkpoints import llama, qwen

BOXED = "Let's think step by step and output the final answer within \\boxed{}"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
DATE = "26 Jul 2024"
PROBLEM = Problem("p", "Natalia sold 48 clips. How many are left of 1234?\n\\boxed{} ", "1186")
FAMILIES = ("qwen tied", "qwen untied", "llama")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Pretrained:
    folder = tmp_path / "checkpoint"
    template: Template = Chat(None, BOXED)
    path = llama(folder) if request.param == "llama" else qwen(folder, tied=request.param == "qwen tied")
    return Pretrained(request.param, str(path), template)


def names(loaded: LanguageModel) -> list[str]:
    return [str(loaded.tokenizer.convert_ids_to_tokens(i)) for i in loaded.eos_ids]


def test_the_architecture_options_are_those_of_the_family(family: Pretrained):
    loaded = family.load()
    config = loaded.model.config
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    shared = loaded.model.get_input_embeddings().weight is loaded.model.get_output_embeddings().weight
    assert shared == config.tie_word_embeddings == (family.name != "qwen untied")
    assert config.rope_parameters["rope_type"] == ("llama3" if family.name == "llama" else "default")


def test_the_chat_templates_end_token_is_one_of_the_eos_ids(family: Pretrained):
    """Qwen's generation config names only <|endoftext|>; without <|im_end|> a response would continue into another
    turn."""
    qwens, llamas = ["<|endoftext|>", "<|im_end|>"], ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    assert names(family.load()) == (llamas if family.name == "llama" else qwens)


def test_a_demonstration_ends_as_an_assistants_turn_does(family: Pretrained):
    loaded = family.load()
    ends = {"llama": "<|eot_id|>"}.get(family.name, "<|im_end|>")
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.end_id) == ends


@pytest.mark.parametrize("system", [None, SYSTEM])
def test_prompt_ids_are_those_of_apply_chat_template(family: Pretrained, system: str | None):
    loaded = family.load()
    prompt = render(PROBLEM, loaded.tokenizer, Chat(system, BOXED))
    turns = [{"role": "user", "content": f"{PROBLEM.text} {BOXED}"}]
    turns = [{"role": "system", "content": system}, *turns] if system else turns
    pinned: dict[str, Any] = {"date_string": DATE} if family.name == "llama" else {}
    theirs = loaded.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, **pinned)
    assert list(prompt.token_ids) == theirs["input_ids"]
    bos = loaded.tokenizer.bos_token_id
    assert prompt.token_ids.count(bos) == (0 if bos is None else 1)


def test_a_plain_prompt_is_what_the_tokenizer_makes_of_the_problem(family: Pretrained):
    """Llama's begins with one <|begin_of_text|>, and a problem that holds its name says only that; Qwen's has none."""
    loaded = family.load()
    prompt = render(PROBLEM, loaded.tokenizer, Plain())
    assert list(prompt.token_ids) == loaded.tokenizer(PROBLEM.text)["input_ids"]
    named = render(Problem("q", "<|begin_of_text|>1186", "1186"), loaded.tokenizer, Plain())
    assert named.token_ids.count(loaded.tokenizer.bos_token_id) == (1 if family.name == "llama" else 0)
    assert (loaded.tokenizer.convert_ids_to_tokens(prompt.token_ids[0]) == "<|begin_of_text|>") == (
        family.name == "llama"
    )


def drawn(loaded: LanguageModel, template: Template, seed: int = 0, samples: int = 1) -> list[Completion]:
    engine = TorchEngine(loaded.eos_ids, loaded.pad_id)
    engine.sync(loaded.model, 0)
    prompt = render(PROBLEM, loaded.tokenizer, template)
    [group] = engine.generate([prompt], [range(seed, seed + samples)], Sampling(temperature=1.0, max_tokens=8))
    return group


def test_every_end_ends_a_response(family: Pretrained):
    loaded = family.load()
    for end in loaded.eos_ids:
        head = loaded.model.get_output_embeddings()
        only = torch.tensor([end])
        hook = head.register_forward_hook(lambda _module, _args, logits, only=only: logits.index_fill(-1, only, 1e4))
        [one] = drawn(loaded, family.template)
        hook.remove()
        assert (one.token_ids, one.finish) == ((end,), Finish.EOS)


def test_the_mask_is_the_response_with_its_end(family: Pretrained):
    loaded = family.load()
    prompt = render(PROBLEM, loaded.tokenizer, family.template).token_ids
    rows, expected = [], []
    for one in drawn(loaded, family.template, samples=12):
        rows.append(Row(prompt + one.token_ids, len(prompt)))
        expected.append([False] * len(prompt) + [True] * len(one.token_ids))
    width = max(map(len, expected))
    batch = collate(rows, torch.ones(len(rows)), 1.0, 1)
    assert batch.terms.response.tolist() == [row + [False] * (width - len(row)) for row in expected]
    rewritten = [Row((*prompt, 7, end), len(prompt)) for end in loaded.eos_ids]
    for row, end in zip(rewritten, loaded.eos_ids, strict=True):
        ended = collate([row], torch.ones(1), 1.0, 1)
        assert ended.rows.targets.tolist() == [7, end]


def test_a_sample_has_the_training_forwards_probability_despite_the_generation_config(family: Pretrained):
    """The generation config asks for top-k 1 or top-p 0.1, under which every sample would be the likeliest one."""
    loaded = family.load()
    wants = loaded.model.generation_config
    assert wants is not None
    assert wants.do_sample
    assert (wants.top_p or 1) < 1
    prompt = render(PROBLEM, loaded.tokenizer, family.template).token_ids
    group = drawn(loaded, family.template, samples=8)
    assert len({one.token_ids for one in group}) == 8
    for one in group:
        rows = pack([Row(prompt + one.token_ids, len(prompt))])
        with torch.no_grad():
            said = Policy(loaded.model, 1.0)(rows).logprobs[0, len(prompt) :]
        torch.testing.assert_close(one.logprobs, said, rtol=0, atol=1e-5)


def test_an_export_gives_the_same_logits(family: Pretrained, tmp_path: Path):
    loaded = family.load()
    export_model(loaded, tmp_path / "export", "card")
    tokens = torch.tensor([render(PROBLEM, loaded.tokenizer, family.template).token_ids])
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, loaded.model(tokens).logits)
    reloaded = Pretrained("again", str(tmp_path / "export"), family.template).load()
    assert (reloaded.eos_ids, reloaded.pad_id) == (loaded.eos_ids, loaded.pad_id)
    assert AutoTokenizer.from_pretrained(tmp_path / "export").encode("1234 é") == loaded.tokenizer.encode("1234 é")
