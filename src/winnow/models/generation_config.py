"""Generation configs of models: the ids that end a response, and the settings that can be saved again.

Sampling reads nothing else of a generation config. Transformers loads some that it refuses to save, such as a
temperature without `do_sample`; a trained model must not fail to be exported over them.
"""

import copy
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

PROBE_ANSWER = "forty-two"
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
MODES = ("do_sample", "num_beams", "return_dict_in_generate", "use_cache")
"""Settings that decide which others make sense. They are kept before others are tried."""


def embedding_rows(model: PreTrainedModel) -> int:
    """The number of token ids that the model has an embedding for."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])


def mend(model: PreTrainedModel) -> tuple[str, ...]:
    """Leave out of the model's generation config, and of its config, the settings that transformers refuses to save.

    Ids of no token are left out as well. Returns the names; the rest is as much as can be saved together.
    """
    names = list(model.config._get_generation_parameters())  # old checkpoints have them in config.json
    for name in names:
        delattr(model.config, name)
    given = model.generation_config
    if given is None:
        return tuple(names)
    rows = embedding_rows(model)
    settings = {name: value for name, value in given.to_diff_dict().items() if value is not None}
    strange = [name for name in IDS if not all(_is_token(i, rows) for i in _listed(settings.get(name)))]
    if not strange and _can_be_saved(given):
        return tuple(names)
    kept = GenerationConfig(_from_model_config=given._from_model_config)
    order = sorted(settings.keys() - {*strange, "transformers_version"}, key=lambda name: (name not in MODES, name))
    left = [name for name in order if not _set_if_valid(kept, name, settings)]
    # Once more, because a setting may make sense only together with one that came after it.
    left = [name for name in left if not _set_if_valid(kept, name, settings)]
    model.generation_config = kept
    return tuple(sorted({*names, *strange, *left}))


def _listed(ids: Any) -> list[Any]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _is_token(value: Any, rows: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < rows


def _set_if_valid(config: GenerationConfig, name: str, settings: Mapping[str, Any]) -> bool:
    """Set `name` in `config` if it then still can be saved; whether it is set."""
    before = getattr(config, name, None)
    setattr(config, name, copy.deepcopy(settings[name]))
    if _can_be_saved(config):
        return True
    setattr(config, name, before)
    return False


def _can_be_saved(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
        config.to_json_string()
    except Exception:  # any, because a setting of the wrong type fails where it is first used
        return False
    return True


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every end-of-sequence id of the generation config, the tokenizer and the chat template, in ascending order.

    Each may name one that the others do not: Qwen2.5-Math's config names <|endoftext|>, but its chat turns end with
    <|im_end|>.
    """
    given = None if model.generation_config is None else model.generation_config.eos_token_id
    rows = embedding_rows(model)
    named = [*_listed(given), tokenizer.eos_token_id, turn_end(tokenizer)]
    return tuple(sorted({i for i in named if _is_token(i, rows)}))


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template puts after an assistant's message, found by rendering one."""
    if tokenizer.chat_template is None:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE_ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, ValueError):  # the template is for conversations of another kind
        return None
    assert isinstance(text, str)
    _, said, after = text.rpartition(PROBE_ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False) if said else []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in ids if i in special), None)
