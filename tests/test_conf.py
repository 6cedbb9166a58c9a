"""What `conf/` says is what is built."""

from itertools import product
from pathlib import Path

import pytest
import torch
import yaml

from running import CONF, composed
from winnow.algorithm import ActorCritic, PolicyGradient, Preference, Supervised
from winnow.config import checks
from winnow.config.instantiate import build_algorithm
from winnow.errors import ConfigError
from winnow.objectives import rule_of
from winnow.ops import advantage, clip, ratio, select


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
    [f"{folder}/{name}" for folder in ("paper", "release", "gsm8k") for name in options(f"experiment/{folder}")],
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


LAYER = "# @package _global_\ndefaults:\n{defaults}\n  - _self_\noptim: {{lr: {lr}}}\n"


def test_precedence_is_command_line_experiment_algo_model_default(tmp_path: Path):
    """Files that all set one key: 1 is the model's, 2 the algorithm's, 3 the experiment's."""
    layers = {
        "model/probe": "  - /model/tiny@model",
        "algo/probe": "  - /algo/grpo@algo",
        "experiment/probe": "  - override /model: probe\n  - override /algo: probe",
    }
    for number, (name, defaults) in enumerate(layers.items(), start=1):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(LAYER.format(defaults=defaults, lr=float(number)))

    def lr(*words: str) -> float:
        return composed(f"hydra.searchpath=[file://{tmp_path}]", *words).optim.lr

    assert yaml.safe_load((CONF / "base.yaml").read_text())["optim"]["lr"] != lr("model=probe") == 1
    assert lr("model=probe", "algo=probe") == lr("algo=probe", "model=probe") == 2
    assert lr("experiment=probe") == 3
    assert lr("optim.lr=4", "experiment=probe") == 4


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
