"""A Hugging Face folder of the trained model."""

import os
import shutil
from pathlib import Path

from winnow.models.language_model import LanguageModel
from winnow.models.lora import merged_state

CARD = """---
library_name: transformers
tags: [winnow, rlvr, {algo}]
---
# {model}, trained with {algo}

Post-trained on `{dataset}` by Winnow: {iterations} iterations, seed {seed}.
Held-out accuracy (avg@k, T = 1): {eval_first} before, {eval_last} after.
The resolved configuration is in `.hydra/config.yaml` of the run.
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
    language_model.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(card)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
