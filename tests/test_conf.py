"""What `conf/` says is what is built."""

from itertools import product

import pytest
import yaml

from running import CONF, composed
from winnow import validation
from winnow.algorithm import ActorCritic, PolicyGradient, Preference, Supervised
from winnow.errors import ConfigError
from winnow.instantiation import build_algorithm
from winnow.objectives import rule_of
from winnow.ops import advantage, clip, ratio, select


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


POLICY_GRADIENT = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo")


@pytest.mark.parametrize("algo", options("algo"))
def test_every_algorithm_composes_and_binds(algo: str):
    cfg = composed(f"algo={algo}")
    validation.validate(cfg)
    kinds = {"ppo": ActorCritic, "dpo": Preference, "sft": Supervised}
    assert isinstance(build_algorithm(cfg), kinds.get(algo, PolicyGradient))


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (axis, value)
        for axis in ("select", "advantage", "ratio", "clip", "aggregate", "kl")
        for value in options(f"algo/{axis}")
    ],
)
def test_every_axis_value_is_built_or_refused_with_words(axis: str, value: str):
    cfg = composed(
        "algo=grpo", f"algo/{axis}={value}", *(["algo/clip=none"] if (axis, value) == ("ratio", "none") else [])
    )
    if (axis, value) in (("select", "extremes"), ("advantage", "gae")):
        with pytest.raises(ConfigError, match=r"type algo=(dpo|ppo)"):
            validation.validate(cfg)
    else:
        validation.validate(cfg)


@pytest.mark.parametrize(
    "experiment",
    [*(f"paper/{n}" for n in options("experiment/paper")), *(f"release/{n}" for n in options("experiment/release"))],
)
def test_every_experiment_composes_and_binds(experiment: str):
    validation.validate(composed(f"experiment={experiment}"))


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


def test_precedence_is_command_line_experiment_algo_model_default():
    """optim.lr: 1e-6 in train.yaml; each layer that sets it wins over the one below."""
    assert composed().optim.betas == [0.9, 0.999]  # train.yaml alone
    tiny = composed("model=tiny").optim.lr
    qwen = composed("model=qwen").optim.lr
    assert tiny != qwen  # model over train.yaml
    assert composed("model=qwen").dataset._target_.endswith("hub")
    release = composed("experiment=release/grpo")
    assert release.algo.entropy == 0.001  # experiment over algo
    assert composed("experiment=release/grpo", "algo.entropy=0.5").algo.entropy == 0.5  # command line over experiment
    assert composed("model=qwen", "dataset=arithmetic").dataset._target_.endswith("arithmetic")


@pytest.mark.parametrize(("algo", "other"), list(product(POLICY_GRADIENT, ("cpu", "gpu"))))
def test_hardware_never_reaches_the_objective(algo: str, other: str):
    assert composed(f"algo={algo}", f"hardware={other}").algo == composed(f"algo={algo}").algo
