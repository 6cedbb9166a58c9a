"""The Dockerfile: its commands are the README's and the Makefile's, and both devices can be asked for."""

import json
import re

from running import CONF

ROOT = CONF.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(word: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [line.removeprefix(word).strip() for line in joined.splitlines() if line.startswith(f"{word} ")]


def test_it_runs_the_two_commands_of_the_readme():
    block = (ROOT / "README.md").read_text().split("```")[1]
    first, activate, second = [line.split("#")[0].strip() for line in block.strip().splitlines()]
    assert json.loads(instructions("CMD")[0]) == first.split()
    assert f"`{activate}`" in DOCKERFILE
    assert instructions("ENV")[0].startswith("PATH=/winnow/.venv/bin:")
    assert f"winnow-cuda {second}\n" in DOCKERFILE


def test_it_installs_by_a_target_of_the_makefile():
    [target] = [line.removeprefix("make ") for line in instructions("RUN") if line.startswith("make ")]
    makefile = (ROOT / "Makefile").read_text()
    assert f"INSTALLED := {target}\n" in makefile
    assert "$(INSTALLED): pyproject.toml constraints.txt" in makefile


def test_the_device_is_an_argument_and_its_default_needs_no_gpu():
    assert "DEVICE=cpu" in instructions("ARG")
    assert any("gcc" in line and '"$DEVICE" != cuda' in line for line in instructions("RUN"))


def test_what_runs_have_left_is_not_copied_into_it():
    assert {".git", ".venv*", "outputs", "multirun"} <= set((ROOT / ".dockerignore").read_text().splitlines())
