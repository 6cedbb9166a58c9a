"""Export of a trained model: a Hugging Face folder with weights, configuration, tokenizer and model card."""

import json
import os
import shutil
from pathlib import Path

import yaml

from winnow.models.language_model import LanguageModel, require_finite_weights
from winnow.models.lora import merged_state

ADAPTER_CARD = """---
{front_matter}
---
Low-rank adapter of the model in the folder above, whose weights have it merged in. To load it onto the base model:
`PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), "adapter")`.
"""


def export_model(language_model: LanguageModel, directory: Path, card: str) -> None:
    """Write weights, configuration, tokenizer and model card to `directory`, which then is complete or absent.

    For a model with adapters the exported weights are merged, and `adapter/` holds the adapters alone; the model itself
    is not changed.

    Raises:
        ConfigError: a weight is not finite.
    """
    require_finite_weights(language_model.model, f"{directory} is not written")
    temporary = directory.with_name(f".tmp-{directory.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()  # transformers would make a run directory that is gone anew, and export there
        _write(language_model, temporary, card)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(language_model: LanguageModel, temporary: Path, card: str) -> None:
    if language_model.adapter is None:
        language_model.model.save_pretrained(temporary)
    else:
        language_model.model.save_pretrained(temporary, state_dict=merged_state(language_model.adapter))
        # "auto" would ask the hub whether the vocabulary was resized.
        language_model.adapter.save_pretrained(str(temporary / "adapter"), save_embedding_layers=False)
        base = str(language_model.adapter.peft_config["default"].base_model_name_or_path)
        (temporary / "adapter" / "README.md").write_text(_adapter_card(base), encoding="utf-8")
    language_model.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    for weights in temporary.rglob("*.safetensors"):
        weights.chmod(0o644)  # they are written with mode 600, which a server under another account could not read


def _adapter_card(base: str) -> str:
    front_matter = yaml.safe_dump({"library_name": "peft", "base_model": base}, sort_keys=False).strip()
    return ADAPTER_CARD.format(front_matter=front_matter, base=json.dumps(base))
