r"""Special tokens of a tokenizer, and the encoding of prompts in which only the template's are special.

A tokenizer reads `<|im_end|>` as the end of a turn wherever it stands, so that the text of a problem could end its turn
and forge the next one. Here texts of data are shielded before the template is applied; the special tokens that are
found in the rendered prompt are then the template's own, and all others are encoded as the characters that they are.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

SHIELDED = re.compile("\ufdd0([0-9a-f]+)\ufdd1")
"""A shielded character: the hexadecimal digits of its code between two noncharacters of Unicode, which are set aside
for the internal use of programs and which no data may hold (`winnow.data.fields`)."""
ALIAS = "\ufdd2{}\ufdd3"
"""The name of special token number {} in the tokenizer that knows no special token by its own name."""
PROBE = "forty-two"


class EncodedText(NamedTuple):
    """A text and its token ids. It is faithful if the special tokens among the ids are exactly those of the template,
    so that neither a special nor an unknown token stands for characters of the text."""

    text: str
    token_ids: tuple[int, ...]
    is_faithful: bool


@dataclass(frozen=True, eq=False)
class SpecialTokens:
    """The special tokens of `tokenizer`: those that it calls special, and those by which its chat template marks turns.

    Other added tokens, such as `<think>`, are text that a model reads and writes. So are tokens of one character, as a
    tokenizer whose padding is `!` has.
    """

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each special token."""
        added = {str(token): i for i, token in self.tokenizer.added_tokens_decoder.items()}
        named = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        named |= {str(token) for token in self.tokenizer.all_special_tokens} | self._turn_marks(added)
        return {token: i for token, i in added.items() if token in named and len(token.strip()) > 1}

    def shield(self, text: str) -> str:
        """The text, in which a character of each special token is replaced by its code.

        A token that only begins at the end of the text, or ends at its beginning, is shielded as well.
        """
        if not self.ids:
            return text
        shielded = self._openings.sub(_code, text)
        starts, ends = self._parts
        if shielded.lstrip().startswith(ends):
            shielded = re.sub(r"\S", _code, shielded, count=1)
        if shielded.rstrip().endswith(starts):
            last = len(shielded.rstrip()) - 1
            shielded = shielded[:last] + f"\ufdd0{ord(shielded[last]):x}\ufdd1" + shielded[last + 1 :]
        return shielded

    def encode(self, prompt: str) -> EncodedText:
        """The encoding of a prompt that a template rendered from shielded texts."""
        text, wanted = unshielded(prompt), [self.ids[found] for found in self._anywhere.findall(prompt)]
        token_ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        if self._among(token_ids) != wanted:
            token_ids = self._encode_apart(prompt)
        return EncodedText(text, token_ids, self._among(token_ids) == wanted)

    def _among(self, token_ids: Sequence[int]) -> list[int]:
        special = set(self.ids.values())
        return [i for i in token_ids if i in special]

    def _encode_apart(self, prompt: str) -> tuple[int, ...]:
        """Token ids, by a tokenizer that recognises special tokens by their aliases alone."""
        if self._renamed is not None:
            aliased = self._anywhere.sub(lambda found: ALIAS.format(self.ids[found[0]]), prompt)
            return tuple(self._renamed.encode(unshielded(aliased), add_special_tokens=False).ids)
        # A tokenizer that is written in Python: it can leave special tokens unrecognised, in a text without them.
        token_ids: list[int] = []
        for part in re.split(f"({self._anywhere.pattern})", prompt) if self.ids else [prompt]:
            special = self.ids.get(part)
            text = unshielded(part)
            token_ids += (
                self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
                if special is None
                else [special]
            )
        return tuple(token_ids)

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return re.compile(_alternatives(self.ids) if self.ids else r"(?!)")

    @cached_property
    def _openings(self) -> re.Pattern[str]:
        """The first character of every special token, also of those that overlap."""
        return re.compile(f"(?={_alternatives(self.ids)}).", re.DOTALL)

    @cached_property
    def _parts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Proper beginnings and proper ends of special tokens."""
        starts = {token[:n] for token in self.ids for n in range(1, len(token))}
        ends = {token[n:] for token in self.ids for n in range(1, len(token))}
        return tuple(starts), tuple(ends)

    @cached_property
    def _renamed(self) -> Tokenizer | None:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return renamed(backend, self.ids) if isinstance(backend, Tokenizer) else None

    def _turn_marks(self, added: Mapping[str, int]) -> set[str]:
        """The added tokens that the chat template writes around the messages of a conversation."""
        if self.tokenizer.chat_template is None or not added:
            return set()
        roles = ("user", "assistant", "user")
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": role, "content": PROBE} for role in roles], tokenize=False
            )
        except (TemplateError, ValueError, TypeError, LookupError):  # a template for conversations of another kind
            return set()
        return set(re.findall(_alternatives(added), str(text)))


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, template: str | None, size: int) -> SpecialTokens:
    return SpecialTokens(tokenizer)


def special_tokens_of(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens of the tokenizer, found once for each of its chat templates and numbers of tokens."""
    return _special_tokens(tokenizer, str(tokenizer.chat_template), len(tokenizer))


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase) -> EncodedText:
    """The encoding of a text of data, such as a demonstration, in which no token is special."""
    special = special_tokens_of(tokenizer)
    return special.encode(special.shield(text))


def unshielded(text: str) -> str:
    """The text with every shielded character as it was."""
    return SHIELDED.sub(lambda found: chr(int(found[1], 16)), text)


def renamed(backend: Tokenizer, special: Mapping[str, int]) -> Tokenizer:
    """A copy of `backend` in which the tokens `special` are called by their aliases; ids and all else are the same.

    They are renamed in the model's vocabulary as well, because Unigram, WordPiece and WordLevel models find a token of
    the vocabulary in any text.
    """
    names = {token: ALIAS.format(i) for token, i in special.items()}
    copy: dict[str, Any] = json.loads(backend.to_str())
    copy |= {"post_processor": None, "truncation": None, "padding": None}
    for token in copy["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False, "single_word": False}
    model = copy["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if not _makes(pair, names)]
    return Tokenizer.from_str(json.dumps(copy))


def _makes(pair: str | list[str], tokens: Mapping[str, str]) -> bool:
    """Whether a merge joins two tokens to one of `tokens`, or continues one of them."""
    left, right = pair.split(" ") if isinstance(pair, str) else pair
    return left + right in tokens or left in tokens or right in tokens


def _alternatives(tokens: Mapping[str, int]) -> str:
    # The longest first, as tokenizers take the longest of the tokens that begin at one place.
    return "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))


def _code(found: re.Match[str]) -> str:
    return f"\ufdd0{ord(found[0]):x}\ufdd1"
