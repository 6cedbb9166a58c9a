"""Detection of prompts that are too long, without tokenizing the others."""

import json
from pathlib import Path

import pytest

from models.checkpoints import llama_tokenizer, qwen_tokenizer
from running import composed
from winnow.config.nodes import build_node
from winnow.data.problems import Problem
from winnow.data.prompts import longer_than, render
from winnow.models.language_model import Pretrained
from winnow.models.templates import TEMPLATE_DATE, Chat, Plain, Template


@pytest.mark.parametrize("limit", range(1, 40))
def test_long_prompts_are_those_that_tokenizing_all_prompts_finds(limit: int):
    """Each digit is one token of one byte, the case in which the bound on tokens is tight."""
    tokenizer = Pretrained("tiny", "embedded", Plain()).tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content | trim }}>{% endfor %}="
    problems = [Problem(str(n), "7" * n + " " * (n % 3), "1") for n in range(40)]
    for template in (Plain(), Chat(None, "42"), Chat("1+1", "")):
        assert longer_than(limit, problems, tokenizer, template) == [
            tokens(problem, tokenizer, template) > limit for problem in problems
        ]


def tokens(problem: Problem, tokenizer, template: Template) -> int:
    return len(tokenizer.encode(template.render(problem.conversation, tokenizer), add_special_tokens=False))


CHATS = [
    [{"role": "user", "content": "1+1?"}],
    [{"role": "system", "content": "Box it."}, {"role": "user", "content": "1+1?"}],
    [
        {"role": "system", "content": "Box it."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "\\boxed{2}"},
        {"role": "user", "content": " é 2+2?\n"},
    ],
]


@pytest.mark.parametrize("field", ["problem", "prompt", "messages"])
@pytest.mark.parametrize("make", [qwen_tokenizer, llama_tokenizer])
def test_a_chat_in_a_file_is_rendered_as_apply_chat_template_does(tmp_path: Path, make, field: str):
    """Text and token ids, for a system prompt and for turns of few-shot examples; llama's template reads a date."""
    path, tokenizer = tmp_path / "chats.jsonl", make()
    path.write_text("".join(json.dumps({field: chat, "answer": "4"}) + "\n" for chat in CHATS))
    found = build_node(composed("dataset=file", f"dataset.path={path}").dataset).load(lambda golds: [], False).train
    for problem, chat in zip(found, CHATS, strict=True):
        prompt = render(problem, tokenizer, Chat(None, ""))
        options = {"add_generation_prompt": True, "strftime_now": TEMPLATE_DATE.strftime}
        assert prompt.text == tokenizer.apply_chat_template(chat, tokenize=False, **options)
        assert list(prompt.token_ids) == tokenizer.apply_chat_template(chat, return_dict=False, **options)
