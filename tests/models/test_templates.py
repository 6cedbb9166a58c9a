"""Prompt templates: the family's own chat template, and a prompt that depends on the problem alone."""

from datetime import date

import pytest
from transformers import PreTrainedTokenizerFast

from models.checkpoints import llama_tokenizer, qwen_tokenizer
from winnow.errors import ConfigError
from winnow.models.conversation import Message
from winnow.models.templates import Chat, Plain


def asked(problem: str) -> list[Message]:
    return [Message("user", problem)]


EXAMPLE = [Message("user", "1+1"), Message("assistant", "2"), Message("user", "2+2")]


@pytest.fixture(scope="module")
def llama() -> PreTrainedTokenizerFast:
    return llama_tokenizer()


@pytest.fixture(scope="module")
def qwen() -> PreTrainedTokenizerFast:
    return qwen_tokenizer()


def test_qwens_prompt_with_and_without_a_system_message(qwen: PreTrainedTokenizerFast):
    assert Chat("Think.", "Box it.").render(asked("1+1"), qwen) == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n1+1 Box it.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (
        Chat(None, "Box it.")
        .render(asked("1+1"), qwen)
        .startswith(
            "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        )
    )


def test_llamas_prompt_carries_its_templates_own_date(llama: PreTrainedTokenizerFast):
    assert Chat(None, "Box it.").render(asked("1+1"), llama) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n1+1 Box it.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_no_chat_template_sees_the_clock(llama: PreTrainedTokenizerFast):
    """Llama's template writes today's date unless it is given one."""
    today = date.today().strftime("%d %b %Y")
    turn = [{"role": "user", "content": "1+1"}]
    assert today in llama.apply_chat_template(turn, tokenize=False)
    assert today not in Chat(None, "Box it.").render(asked("1+1"), llama)


def test_no_instruction_leaves_no_trace(qwen: PreTrainedTokenizerFast):
    assert "user\n1+1<|im_end|>" in Chat("Think.", "").render(asked("1+1"), qwen)


def test_plain_begins_as_the_tokenizer_does(qwen: PreTrainedTokenizerFast, llama: PreTrainedTokenizerFast):
    assert Plain().render(asked("1+1"), qwen) == "1+1"
    assert Plain().render(asked("1+1"), llama) == "<|begin_of_text|>1+1"


def test_a_chat_template_that_cannot_be_used_is_a_one_line_error():
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(
        ConfigError, match=r"refuses the messages \(System role not supported\); type model\.template\.system=null"
    ):
        Chat("Think.", "").render(asked("1+1"), tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"no chat template; type model/template=plain"):
        Chat(None, "").render(asked("1+1"), tokenizer)


def test_a_chat_is_prompted_as_that_chat(qwen: PreTrainedTokenizerFast):
    """The template's system message stands for one that the chat has not; the instruction follows the last message."""
    turns = (
        "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\n2+2 Box it.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert Chat("Think.", "Box it.").render(EXAMPLE, qwen) == f"<|im_start|>system\nThink.<|im_end|>\n{turns}"
    with_system = [Message("system", "Be brief."), *EXAMPLE]
    assert Chat("Think.", "Box it.").render(with_system, qwen) == f"<|im_start|>system\nBe brief.<|im_end|>\n{turns}"


def test_a_chat_needs_a_template_with_roles(qwen: PreTrainedTokenizerFast):
    with pytest.raises(ConfigError, match=r"a chat of 3 messages.*type model/template=boxed"):
        Plain().render(EXAMPLE, qwen)
