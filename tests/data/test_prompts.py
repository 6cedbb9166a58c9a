"""Detection of prompts that are too long, without tokenizing the others."""

import pytest

from winnow.data.problems import Problem
from winnow.data.prompts import longer_than
from winnow.models.language_model import Pretrained
from winnow.models.templates import Chat, Plain, Template


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
