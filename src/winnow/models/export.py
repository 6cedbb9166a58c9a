"""A Hugging Face folder of the trained model."""

import os
import shutil
from pathlib import Path

from winnow.models.language_model import LanguageModel

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
    """Weights, configuration, tokenizer and a model card, complete or not there at all."""
    temporary = directory.with_name(f".tmp-{directory.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    language_model.model.save_pretrained(temporary)
    language_model.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(card)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
