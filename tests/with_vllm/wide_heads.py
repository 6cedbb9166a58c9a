"""Models of the embedded one's shape with heads that vLLM's attention on a CPU takes: three of 32, not four of 24."""

import subprocess
import sys
from pathlib import Path

from winnow.models.language_model import FreshTiny, LanguageModel
from winnow.models.lora import Lora
from winnow.models.templates import Plain

ROOT = Path(__file__).parents[2]


def random_model(lora: Lora | None = None) -> LanguageModel:
    return FreshTiny(
        "random", Plain(), 0, layers=3, width=96, heads=3, kv_heads=1, intermediate=256, positions=256, lora=lora
    ).load()


def typed(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`python PROGRAM.py …` from the root of the repository."""
    command = [sys.executable, f"{program}.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
