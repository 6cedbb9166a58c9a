"""Every setting of every option has a rule, and a senseless value of any is refused in one line."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from winnow.config.compose import composed
from winnow.config.override_errors import keys_of
from winnow.config.ranges import check_values
from winnow.config.setting_rules import rules_of
from winnow.config.value_rule import unusual
from winnow.errors import ConfigError
from winnow.launch import programs

ROOT = Path(__file__).parents[2]
CHOICES = [
    [],
    ["algo=ppo", "algo/kl=k3", "algo/correction=truncated", "reward/verifier=exact"],
    ["algo=dpo", "engine=vllm", "reward/verifier=numeric"],
    ["engine=vllm_server"],
    *([f"engine/alter={name}"] for name in ("int8", "bf16", "temperature", "top_k")),
    ["algo=sft", "dataset=reasoning_gym"],
    [
        "algo=reinforce",
        "algo/clip=dual",
        "algo/advantage=signed",
        "algo/aggregate=constant_length",
        "algo/entropy=adaptive",
    ],
    ["algo/correction=masked", "algo/advantage=whitened", "model=tiny_fresh"],
    ["algo=cpgd", "algo/correction=geometric_masked", "algo/tokens=top_entropy"],
    ["algo=vespo", "algo/advantage=pass_at_k", "algo/correction=negative_rows_masked"],
    ["algo=dppo", "algo/advantage=each_reward", "algo/ratio=clipped_geometric", "reward=function"],
    ["algo=sapo", "algo/advantage=batch", "algo/tokens=low_covariance"],
    ["algo=dpo", "algo/divergence=alpha", "algo/preference=exo", "algo.smoothing=0.1"],
    ["model=custom", "model.path=somewhere", "model/lora=adapter", "dataset=jsonl"],
    ["model=tiny", "dataset=math", "logger=none", "reward=function"],
    ["dataset=hub", "curriculum=column", "collector=refill"],
    ["collector=adaptive", "reward/length=overlong"],
    ["collector=budgets", "reward/length=truncated"],
    ["dataset=mix", "curriculum=pass_rate"],
    [
        "logger=[wandb,tensorboard,mlflow,csv,trackio]",
        "callbacks=[timer,device_stats,learning_rate_monitor,model_summary]",
        "debug=profiler",
    ],
]
"""Words that together choose every option that brings a setting of its own."""
TYPED = {
    *("resume_force", "plugins", "eval.sets"),
    *("hardware.gradient_checkpointing", "hardware.compile", "hardware.offload"),
}
"""Settings that `config/schema.py` alone checks: true or false, and lists of names."""
SENSELESS = (math.inf, -math.inf, math.nan, 10**400, -(10**400), "", "\0", "\ud800", [], [math.nan], {}, None)


def scalars(cfg: DictConfig) -> Iterator[str]:
    for key in keys_of(cfg):
        if not isinstance(OmegaConf.select(cfg, key), DictConfig):
            yield key


@pytest.mark.parametrize("words", CHOICES, ids=" ".join)
def test_every_scalar_has_a_rule_that_its_own_value_passes(words: list[str]):
    cfg = composed("train", words)
    rules = rules_of([str(name) for name in cfg.benchmarks], algorithm=True)
    assert [key for key in scalars(cfg) if key not in rules and key not in TYPED] == []
    assert [key for key in scalars(cfg) if key in rules and rules[key].problem(OmegaConf.select(cfg, key))] == []


@pytest.mark.parametrize("words", CHOICES, ids=" ".join)
def test_a_senseless_value_is_null_or_refused(words: list[str]):
    cfg = composed("train", words)
    rules = rules_of([str(name) for name in cfg.benchmarks], algorithm=True)
    for key in [key for key in scalars(cfg) if key in rules]:
        for value in SENSELESS:
            passed = rules[key].problem(OmegaConf.create([value])[0]) is None
            old = OmegaConf.select(cfg, key)
            empty = value in ("", []) and key.split(".")[-1] in ("instruction", "system", "tags", "sets")
            assert not passed or empty or (value is None and "null" in rules[key].words), (key, value, old)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [(1e12, True), (1.1e12, False), (-1e12, True), (math.nan, False), ("a\nb", True), ("\0", False), ([1, 2], True)],
)
def test_values_of_settings_without_a_rule(value: object, accepted: bool):
    assert (unusual(value) is None) is accepted


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("model: 5", "model"),
        ("algo: null", "algo"),
        ("engine: [1]", "mine.yaml"),
        ("dataset: {path: x}", None),
        ("benchmarks: {mine: 3}", "benchmarks"),
        ("logger: true", "logger"),
        ("optim: {lr: .inf}", "optim.lr"),
        ("optim: {betas: [.nan, 0.9]}", "optim.betas"),
        ("rollout: {temperature: .inf}", "rollout.temperature"),
        ("rollout: {max_tokens: 0x" + "f" * 6000 + "}", "rollout.max_tokens"),
        ("rollout: {max_tokens: " + "9" * 5000 + "}", None),
        ("engine: {max_rows: abc}", "engine.max_rows"),
        ("dataset: {levels: [0]}", "dataset.levels"),
        ("hardware: {strategy: deepspeed}", "hardware.strategy"),
    ],
    ids=lambda text: str(text)[:30],
)
def test_a_file_with_a_value_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], yaml: str, named: str | None
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{yaml}\n")
    program = replace(programs.training(), run=lambda cfg, directory: None)
    code = program.exit_code(["--config-dir", ".", "experiment=mine", "logger=none", "hydra.run.dir=run"])
    said = capfd.readouterr().err
    if named is None and code == 0:
        return
    [line] = said.splitlines()
    assert code == 2
    assert len(line) < 6000
    assert named is None or named in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "strategy",
    ["fsdp_cpu_offload", "model_parallel", "deepspeed", "ddp_spawn", "deepspeed_stage_3", "single_device", ""],
)
def test_strategies_of_lightning_that_do_not_fit(strategy: str):
    cfg = composed("train", [])
    cfg.hardware.strategy = strategy
    with pytest.raises(ConfigError, match=r"hardware\.strategy=.*type hardware\.strategy=auto"):
        check_values(cfg)


@pytest.mark.parametrize(
    "words",
    [
        "~checkpoint",
        "~plugins",
        "~reward.wrong",
        "~dataset.path dataset=jsonl",
        "~benchmarks",
        "algo.ratio=null",
        "budget.seconds=" + "9" * 400,
        "seed=" + "9" * 5000,
        "seed=" + "[" * 400 + "]" * 400,
        "hydra.run=${seed}",
        "hydra.mode=${x}",
        "hydra.job.config.override_dirname=${seed}",
        "+hydra.help.template.x=1",
        "hydra.launcher.threads=0",
        "resume=" + "a" * 5000,
    ],
    ids=lambda text: text[:40],
)
def test_settings_that_are_deleted_or_have_another_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str
):
    monkeypatch.chdir(tmp_path)
    assert programs.training().exit_code([*words.split(), "logger=none"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert list(tmp_path.rglob("*")) == []
