"""Every choice of `conf/` builds what it names."""

from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from hydra.errors import ConfigCompositionException

from running import CONF, composed
from winnow.algorithm import ActorCritic, PolicyGradient, Preference, Supervised
from winnow.config import checks
from winnow.config.instantiate import build_algorithm
from winnow.errors import ConfigError
from winnow.ops import advantage, clip, ratio, select
from winnow.rule import rule_of


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


POLICY_GRADIENT = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo")


@pytest.mark.parametrize("algo", options("algo"))
def test_every_algorithm_composes_and_binds(algo: str):
    cfg = composed(f"algo={algo}")
    checks.check_config(cfg)
    kinds = {"ppo": ActorCritic, "dpo": Preference, "sft": Supervised}
    assert isinstance(build_algorithm(cfg), kinds.get(algo, PolicyGradient))


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (axis, value)
        for axis in ("select", "advantage", "ratio", "clip", "aggregate", "kl", "correction")
        for value in options(f"algo/{axis}")
    ],
)
def test_every_axis_value_is_built_or_refused_with_words(axis: str, value: str):
    cfg = composed(
        "algo=grpo", f"algo/{axis}={value}", *(["algo/clip=none"] if (axis, value) == ("ratio", "none") else [])
    )
    if (axis, value) in (("select", "extremes"), ("advantage", "gae")):
        with pytest.raises(ConfigError, match=r"type algo=(dpo|ppo)"):
            checks.check_config(cfg)
    elif axis == "correction" and value != "none":
        with pytest.raises(ConfigError, match=f"algo/correction={value}: .* nothing to correct"):
            checks.check_config(cfg)
    else:
        checks.check_config(cfg)


@pytest.mark.parametrize(
    "experiment",
    [
        f"{folder}/{name}"
        for folder in ("paper", "release", "gsm8k", "smollm")
        for name in options(f"experiment/{folder}")
    ],
)
def test_every_experiment_composes_and_binds(experiment: str):
    checks.check_config(composed(f"experiment={experiment}"))


@pytest.mark.parametrize("model", options("model"))
def test_every_model_brings_what_it_needs(model: str):
    cfg = composed(f"model={model}", *(["model.path=DIR"] if model == "custom" else []))
    checks.check_config(cfg)
    assert cfg.model.template._target_.startswith("winnow.models.templates.")
    assert cfg.rollout.max_tokens >= 64
    assert cfg.optim.lr < 1e-4


@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_dataset_names_evaluation_sets_that_there_are(dataset: str):
    cfg = composed(f"dataset={dataset}")
    checks.check_config(cfg)
    assert set(cfg.eval.sets) <= set(cfg.benchmarks)


def test_raftpp_is_raft_with_two_lines_changed():
    raft, raftpp = (
        yaml.safe_load((CONF / "algo" / f"{name}.yaml").read_text())["defaults"] for name in ("raft", "raftpp")
    )
    assert [(a, b) for a, b in zip(raft, raftpp, strict=True) if a != b] == [
        ({"ratio": "none"}, {"ratio": "token"}),
        ({"clip": "none"}, {"clip": "ppo"}),
    ]


def test_the_algorithms_are_the_papers():
    expected = {
        "raft": (select.best, advantage.one, ratio.log_probability, clip.unclipped),
        "raftpp": (select.best, advantage.one, ratio.token, clip.ppo),
        "reinforce": (select.all_samples, advantage.reward, ratio.token, clip.ppo),
        "reinforce_rej": (select.mixed_prompts, advantage.reward, ratio.token, clip.ppo),
        "grpo": (select.all_samples, advantage.group, ratio.token, clip.ppo),
    }
    for name, rules in expected.items():
        built = build_algorithm(composed(f"algo={name}"))
        assert isinstance(built, PolicyGradient)
        assert tuple(map(rule_of, (built.select, built.advantage, built.ratio, built.clip))) == rules


LAYERS = {
    "dataset": "[arithmetic, _self_]",
    "model": "[tiny, {override /dataset: probe}, _self_]",
    "algo": "[/algo/grpo@algo, _self_]",
    "experiment": "[{override /model: probe}, {override /algo: probe}, _self_]",
    "arm": "[{override /algo: raft}, _self_]",
}
"""Defaults lists of files that all set `optim.lr`, from the weakest group to the strongest."""


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_precedence_is_command_line_arm_experiment_algo_model_dataset_default(tmp_path: Path, program: str):
    """The choices `probe`: 1 is the learning rate of the dataset, 5 that of the arm. The model `silent` sets none."""
    for number, (group, defaults) in enumerate(LAYERS.items(), start=1):
        (tmp_path / group).mkdir()
        text = f"# @package _global_\ndefaults: {defaults}\noptim: {{lr: {number}}}\n"
        (tmp_path / group / "probe.yaml").write_text(text)
    (tmp_path / "model/silent.yaml").write_text("# @package _global_\nmodel: {path: DIR}\n")

    def lr(*words: str) -> float:
        return composed(f"hydra.searchpath=[file://{tmp_path}]", *words, program=program).optim.lr

    default = yaml.safe_load((CONF / "train.yaml").read_text())["optim"]["lr"]
    assert lr("model=silent") == default != lr()
    assert lr("model=silent", "dataset=probe") == 1
    assert lr("model=probe") == lr("dataset=probe", "model=probe") == 2
    assert lr("model=probe", "algo=probe") == lr("algo=probe", "model=probe") == 3
    assert lr("experiment=probe") == lr("model=probe", "experiment=probe", "algo=probe") == 4
    assert lr("arm=probe") == lr("arm=probe", "experiment=probe") == 5
    assert lr("optim.lr=6", "experiment=probe", "arm=probe") == 6


@pytest.mark.parametrize("key", ["limit", "batch"])
def test_an_experiment_sets_what_only_evaluation_reads(tmp_path: Path, key: str):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/probe.yaml").write_text(f"# @package _global_\n{key}: 7\n")
    words = (f"hydra.searchpath=[file://{tmp_path}]", "experiment=probe")
    assert composed(*words, program="evaluate")[key] == 7
    assert composed(*words, f"{key}=8", program="evaluate")[key] == 8
    with pytest.raises(ConfigCompositionException, match=key):
        composed(*words)


def test_a_model_brings_its_dataset_unless_one_is_typed():
    assert composed("model=qwen").dataset.repository == "ScaleML-RLHF/numina_math"
    assert composed("model=qwen", "dataset=arithmetic").dataset._target_.endswith("Arithmetic")
    assert composed("experiment=release/grpo").model.name == "qwen"
    assert composed("experiment=release/grpo", "model=tiny").dataset._target_.endswith("Arithmetic")


@pytest.mark.parametrize(("algo", "other"), list(product(POLICY_GRADIENT, ("cpu", "gpu"))))
def test_hardware_sets_nothing_of_an_algorithm(algo: str, other: str):
    assert composed(f"algo={algo}", f"hardware={other}").algo == composed(f"algo={algo}").algo


@pytest.mark.parametrize("words", ["engine=vllm", "hardware.precision=bf16-mixed"])
@pytest.mark.parametrize("algo", ["grpo", "raft", "ppo"])
def test_where_the_sampler_is_not_exact_there_is_something_to_correct(algo: str, words: str):
    algorithm = build_algorithm(composed(f"algo={algo}", "algo/correction=truncated", words))
    checks.check_config(composed(f"algo={algo}", "algo/correction=truncated", words))
    assert isinstance(algorithm, PolicyGradient | ActorCritic)
    assert algorithm.correction(torch.tensor([0.5, 3.0])).tolist() == [0.5, 2.0]
