"""A choice of tokens in whole runs: its statistic is that of the iteration, whatever a forward holds."""

from pathlib import Path

import pytest

from running import metrics, run


@pytest.mark.parametrize(
    ("algo", "choice"), [("grpo", "top_entropy"), ("ppo", "top_entropy"), ("grpo", "low_covariance")]
)
def test_micro_batches_do_not_change_which_tokens_are_chosen(tmp_path: Path, algo: str, choice: str):
    """The update check of the runs holds the advantages of single rows against the choice, too."""
    words = (f"algo={algo}", f"algo/tokens={choice}", "algo.tokens.share=0.25", "iterations=2", "eval.every=0")
    for budget in (200, 4000):
        run(tmp_path / str(budget), *words, f"hardware.token_budget={budget}")
    small, large = (metrics(tmp_path / str(budget)) for budget in (200, 4000))
    expected = 0.25 if choice == "top_entropy" else 0.75
    assert small[1]["train/tokens/chosen_frac"] == pytest.approx(expected, abs=0.02)
    for key in ("train/tokens/chosen_frac", "train/gradient_mass/tokens_frac", "train/loss/policy", "train/grad_norm"):
        assert [row[key] for row in small[1:]] == pytest.approx([row[key] for row in large[1:]], rel=1e-4), key
