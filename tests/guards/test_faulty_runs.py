"""Whole runs into which a number that is not finite is put: what is left out, skipped, kept, dumped and replayed."""

import io
import json
import math
from pathlib import Path

import pytest
import torch

from injections import WORDS, Injection
from running import metrics, run
from winnow import cli
from winnow.assemble.replay import replay_dump
from winnow.errors import DONE, NOT_REPRODUCED, ConfigError, Diverged
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.templates import Plain
from winnow.training.checkpoint import newest_valid

QUICK = ("eval.every=0", "checkpoint.every=1", "eval.prompts=1")


def total(directory: Path, name: str) -> float:
    return sum(row.get(name) or 0 for row in metrics(directory))


def dumps(directory: Path) -> list[Path]:
    return sorted((directory / "faults").glob("*.pt"))


@pytest.mark.parametrize(
    ("algo", "site", "value", "rows", "skipped"),
    [
        ("grpo", "sampler", math.nan, 1, 0),
        ("grpo", "logprob", -math.inf, 1, 0),
        ("ppo", "value", math.inf, 1, 0),
        ("dpo", "loss", math.nan, 1, 0),
        ("grpo", "gradient", math.nan, 0, 1),
    ],
)
def test_one_number_costs_its_row_or_its_update_and_is_dumped(
    tmp_path: Path, algo: str, site: str, value: float, rows: int, skipped: int
):
    with Injection(algo, site, value)() as injection:
        run(tmp_path, *WORDS[algo], *QUICK, "iterations=2")
    assert injection.done == 1
    assert total(tmp_path, "train/nonfinite/rows") == rows
    assert total(tmp_path, "train/updates_skipped_nonfinite") == skipped
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "done"
    [dump] = dumps(tmp_path)
    assert replay_dump(dump, io.StringIO()) == DONE


@pytest.mark.parametrize("site", ["logprob", "gradient", "moment", "weight"])
def test_a_fault_that_stays_ends_the_run_with_an_intact_checkpoint(tmp_path: Path, site: str):
    with Injection("grpo", site, times=math.inf)(), pytest.raises(Diverged, match="last checkpoint is"):
        run(tmp_path, *WORDS["grpo"], *QUICK, "iterations=6")
    state = newest_valid(tmp_path / "checkpoints")
    assert state is not None
    weights = torch.load(state, weights_only=True)["state_dict"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert not (tmp_path / "export").exists()
    assert replay_dump(dumps(tmp_path)[0], io.StringIO()) == DONE


def test_a_dump_without_a_fault_is_not_reproduced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with Injection("grpo", "gradient")():
        run(tmp_path, *WORDS["grpo"], *QUICK, "iterations=2")
    [dump] = dumps(tmp_path)
    content = torch.load(dump, weights_only=True)
    torch.save(content | {"tensors": {}}, dump)
    assert cli.exit_code(["replay", str(dump)]) == NOT_REPRODUCED
    assert "not reproduced" in capsys.readouterr().out


def test_a_large_model_is_replayed_from_its_checkpoint(tmp_path: Path):
    with Injection("grpo", "loss")():
        run(tmp_path, *WORDS["grpo"], *QUICK, "iterations=2", "guards.weights_mb=0")
    [dump] = dumps(tmp_path)
    said = io.StringIO()
    assert replay_dump(dump, said) == DONE
    assert "iteration_000001, the last checkpoint before the fault" in said.getvalue()


def test_a_model_with_a_weight_that_is_not_finite_is_neither_loaded_nor_exported(tmp_path: Path, small: LanguageModel):
    with torch.no_grad():
        small.model.get_input_embeddings().weight[-1, 0] = math.nan  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="not finite"):
        export_model(small, tmp_path / "export", "")
    assert not (tmp_path / "export").exists()
    small.model.save_pretrained(tmp_path / "damaged")
    small.tokenizer.save_pretrained(tmp_path / "damaged")
    with pytest.raises(ConfigError, match="embed_tokens"):
        Pretrained("damaged", str(tmp_path / "damaged"), Plain()).load()


def test_weights_that_explode_in_the_first_iteration_end_the_run_as_diverged(tmp_path: Path):
    """No row of the checked micro-batch has finite numbers after the updates: there is no KL to compare."""
    sizes = ("rollout.prompts=4", "rollout.samples=4", "rollout.max_tokens=32", "eval.prompts=2", "eval.samples=1")
    words = ("logger=none", "hardware=cpu", "iterations=8", "eval.every=0", "algo=raftpp", "optim.lr=1e12")
    with pytest.raises(Diverged, match="not finite"):
        run(tmp_path / "run", *sizes, *words)
