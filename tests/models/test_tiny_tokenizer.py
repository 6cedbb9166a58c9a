"""The embedded model's tokenizer."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.models.language_model import TOKENS, LanguageModel, Pretrained, tiny_tokenizer
from winnow.models.templates import Plain

WORKED = r"47+38=85,85-21=64;\boxed{64}"


def test_a_token_a_character_and_one_for_the_box():
    ids = tiny_tokenizer().encode(WORKED)
    assert [TOKENS[i] for i in ids] == [*"47+38=85,85-21=64;", r"\boxed{", *"64}"]


def test_auto_tokenizer_reads_the_same_from_the_embedded_model():
    """AutoTokenizer rebuilds the tokenizer of every Qwen2 model as Qwen2's own class."""
    embedded = Pretrained("tiny", "embedded", Plain()).load()
    ids = embedded.encode(WORKED)
    assert list(ids) == tiny_tokenizer().encode(WORKED)
    assert embedded.decode((*ids, embedded.eos_ids[0])) == WORKED


def test_and_from_a_saved_copy(tmp_path: Path, small: LanguageModel):
    small.model.save_pretrained(tmp_path)
    small.tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode(WORKED) == tiny_tokenizer().encode(WORKED)


@pytest.mark.parametrize("path", ["embedded", "fresh"])
def test_a_prompt_that_the_vocabulary_cannot_represent_is_refused(path: str, small: LanguageModel):
    model = Pretrained("tiny", "embedded", Plain()).load() if path == "embedded" else small
    assert render(Problem("a", "12+30=", "42"), model.tokenizer, Plain()).text == "12+30="
    with pytest.raises(ConfigError, match=r"prompt of a: .*cannot represent 'what is 12\+30\?'"):
        render(Problem("a", "what is 12+30?", "42"), model.tokenizer, Plain())


def test_no_token_has_an_id_beyond_the_embedding(tmp_path):
    """AutoTokenizer would otherwise add Qwen2's own unknown token, and exports would contain it."""
    model = Pretrained("tiny", "embedded", Plain()).load()
    model.tokenizer.save_pretrained(tmp_path)
    for tokenizer in (tiny_tokenizer(), model.tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert len(tokenizer) == model.model.config.vocab_size == len(TOKENS)
