"""A Hugging Face folder of the trained model."""

import os
import shutil
from pathlib import Path

from winnow.models.language_model import LanguageModel
from winnow.models.lora import merged_state

ADAPTER_CARD = """---
library_name: peft
base_model: {base}
---
Low-rank adapter of the model in the folder above, which has it merged into its weights. Onto the base model:
`PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "adapter")`.
"""


def export(language_model: LanguageModel, directory: Path, card: str) -> None:
    """Weights, configuration, tokenizer and a model card, complete or not there at all.

    Of an adapted model the weights are merged, and its adapters alone are in `adapter/`; the model itself stays as it is.
    """
    temporary = directory.with_name(f".tmp-{directory.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    if language_model.adapter is None:
        language_model.model.save_pretrained(temporary)
    else:
        language_model.model.save_pretrained(temporary, state_dict=merged_state(language_model.adapter))
        # "auto" would ask the hub whether the vocabulary was resized.
        language_model.adapter.save_pretrained(str(temporary / "adapter"), save_embedding_layers=False)
        base = language_model.adapter.peft_config["default"].base_model_name_or_path
        (temporary / "adapter" / "README.md").write_text(ADAPTER_CARD.format(base=base))
    language_model.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(card)
    for weights in temporary.rglob("*.safetensors"):
        weights.chmod(0o644)  # written 600, which a server under another account could not read
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
