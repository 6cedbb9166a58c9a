"""`experiment=paper/grpo model=qwen_7b` is the paper's experiment, setting by setting."""

from typing import NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf

from running import composed


class Setting(NamedTuple):
    """`reading` is the value chosen where the source is silent or has two meanings; empty where it says the value."""

    key: str
    value: object
    source: str
    reading: str = ""


SILENT = "not stated"
PAPER = "arXiv 2504.11343v2 "
RELEASE = "RLHFlow/Minimal-RL "
GRPO = [
    Setting("model.path", "Qwen/Qwen2.5-Math-7B", PAPER + "§4"),
    Setting("model.template._target_", "winnow.models.templates.Chat", PAPER + "§4: default chat template"),
    Setting("model.template.system", None, PAPER + "§4", "none is named, so the template's own default"),
    Setting(
        "model.template.instruction",
        "Let's think step by step and output the final answer within \\boxed{}",
        PAPER + "§4",
        "after the problem and a space, as in the release's numina_math.py",
    ),
    Setting("model.lora", {"_target_": "winnow.models.lora.no_adapter"}, SILENT, "full fine-tuning, as in the release"),
    Setting(
        "dataset.repository", "ScaleML-RLHF/numina_math", PAPER + "§4: Numina-Math", "the set that the release names"
    ),
    Setting("dataset.path", None, RELEASE + "numina_math.py"),
    Setting("reward.correct", 1.0, PAPER + "§3: r in {-1, +1}"),
    Setting("reward.wrong", -1.0, PAPER + "§3"),
    Setting("reward.no_answer", -1.0, PAPER + "§3", "an answer that is not there is not correct"),
    Setting("reward.verifier.rule._target_", "winnow.rewards.rules.MathVerify", PAPER + "§3, footnote 1: Math-Verify"),
    Setting("iterations", 300, PAPER + "figures 2 and 4", "they run to 250 to 300"),
    Setting("rollout.prompts", 1024, PAPER + "§4"),
    Setting("rollout.samples", 4, PAPER + "§4: n = 4 for RAFT and GRPO"),
    Setting("rollout.max_tokens", 4096, PAPER + "§4"),
    Setting("rollout.max_prompt_tokens", 1024, SILENT, RELEASE + "data.max_prompt_length"),
    Setting("rollout.staleness", 0, SILENT, "samples are of the policy that is updated; the release's trainer does so"),
    Setting("rollout.max_mismatch_kl", None, SILENT, "a check, which stops a run whose sampler is not its policy"),
    Setting("rollout.problems", None, SILENT, "all of the dataset"),
    Setting("rollout.temperature", 1.0, SILENT, "that of the evaluation, and of the release"),
    Setting(
        "update.minibatches", 2, PAPER + "§4: mini-batch 512", "unit not said; prompts, as in the release: 1024 / 512"
    ),
    Setting("update.epochs", 1, SILENT, RELEASE + "ppo_epochs"),
    Setting("optim.lr", 1e-6, PAPER + "§4: AdamW, 1e-6"),
    Setting("optim.betas", [0.9, 0.999], SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("optim.eps", 1e-8, SILENT, "torch's default, as in the release"),
    Setting("optim.weight_decay", 0.01, SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("optim.grad_clip", 1.0, SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("optim.warmup", 0, SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("optim.schedule", "constant", SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("algo._target_", "winnow.algorithm.PolicyGradient", PAPER + "§3"),
    Setting("algo.select._target_", "winnow.ops.select.all_samples", PAPER + "§3"),
    Setting("algo.correction._target_", "winnow.ops.ratio.uncorrected", PAPER + "eq. 5", "it has no such weight"),
    Setting("algo.advantage._target_", "winnow.ops.advantage.group", PAPER + "§3: (r - mean) / std"),
    Setting("algo.advantage.centre", "mean", PAPER + "§3"),
    Setting("algo.advantage.scale", "std", PAPER + "§3", "unbiased, as in the release's core_algos.py"),
    Setting("algo.advantage.eps", 1e-6, SILENT, RELEASE + "core_algos.py"),
    Setting("algo.ratio._target_", "winnow.ops.ratio.token", PAPER + "Eq. 5: s_t"),
    Setting(
        "algo.clip._target_",
        "winnow.ops.clip.ppo",
        PAPER + "Eq. 5",
        "PPO's pessimistic form, as in the code; not r outside the min",
    ),
    Setting("algo.clip.low", 0.2, PAPER + "§5: ε1 of clip-higher", "the same without it"),
    Setting("algo.clip.high", 0.2, SILENT, RELEASE + "ppo_trainer.yaml"),
    Setting("algo.aggregate._target_", "winnow.ops.aggregate.sequence_mean", PAPER + "Eq. 5: 1/|D| Σ 1/|a| Σ_t"),
    Setting("algo.kl", {"_target_": "winnow.objectives.no_kl"}, SILENT, "the printed objective has no KL term"),
    Setting("algo.entropy", 0.0, SILENT, "the printed objective has no entropy term"),
    Setting("algo.tokens._target_", "winnow.ops.tokens.every_token", PAPER + "Eq. 5: Σ_t", "it leaves out no token"),
    Setting("algo.truncated", "keep", SILENT, "nothing is said of truncated answers; DAPO leaves them out"),
    Setting("algo.rejected", "drop", SILENT, "GRPO selects all: nothing is rejected"),
    Setting("eval.sets", ["math500", "minerva_math", "olympiadbench"], PAPER + "§4"),
    Setting("eval.files", None, SILENT, "none besides"),
    Setting("eval.samples", 16, PAPER + "§4: average@16"),
    Setting("eval.temperature", 1.0, PAPER + "§4"),
    Setting("eval.max_tokens", 4096, PAPER + "§4"),
    Setting("eval.every", 20, PAPER + "figure 3", "the spacing of its points"),
    Setting("eval.prompts", None, PAPER + "§4", "whole sets"),
    Setting("eval.folder", None, SILENT, "the hub's copies"),
    Setting("hardware.precision", "auto", SILENT, "bfloat16 arithmetic on float32 weights, as FSDP in the release"),
    Setting("seed", 0, SILENT, "the paper has no seeds"),
]
SECTIONS = ("rollout", "update", "optim", "algo", "eval", "seed", "iterations")
"""Of these every single setting must be in the table."""


def leaves(cfg: DictConfig, prefix: str = "") -> dict[str, object]:
    plain = OmegaConf.to_container(cfg, resolve=True)

    def walk(node: object, path: str) -> dict[str, object]:
        if isinstance(node, dict):
            return {k: v for key, inner in node.items() for k, v in walk(inner, f"{path}.{key}".lstrip(".")).items()}
        return {path: node}

    return walk(plain, prefix)


@pytest.fixture(scope="module")
def cfg() -> DictConfig:
    return composed("experiment=paper/grpo", "model=qwen_7b")


@pytest.mark.parametrize("setting", GRPO, ids=lambda s: s.key)
def test_a_setting_is_the_papers(cfg: DictConfig, setting: Setting):
    value = OmegaConf.select(cfg, setting.key)
    assert (OmegaConf.to_container(value) if OmegaConf.is_config(value) else value) == setting.value
    assert setting.source != SILENT or setting.reading


def test_no_setting_of_the_experiment_is_missing_from_the_table(cfg: DictConfig):
    known = tuple(setting.key for setting in GRPO)
    found = [key for key in leaves(cfg) if key.split(".")[0] in SECTIONS and not key.endswith("_partial_")]
    assert [key for key in found if not any(key == k or key.startswith(f"{k}.") for k in known)] == []


def test_the_protocol_of_evaluation_is_one_word(cfg: DictConfig):
    protocol = composed("experiment=paper/eval", "model=qwen_7b").eval
    assert {key: protocol[key] for key in ("sets", "samples", "temperature", "max_tokens")} == {
        key: cfg.eval[key] for key in ("sets", "samples", "temperature", "max_tokens")
    }
