"""Learning-rate schedules, and the settings of the optimiser."""

import pytest
from torch.optim import AdamW

from winnow.models.language_model import LanguageModel
from winnow.models.policy import Critic, Policy
from winnow.objectives import PolicyObjective, ValueObjective
from winnow.ops import clip, ratio
from winnow.training.modules import ActorCriticModule, OptimizerSettings


def optim(warmup: int, schedule: str) -> OptimizerSettings:
    return OptimizerSettings(
        lr=0.01,
        betas=(0.8, 0.9),
        eps=1e-5,
        weight_decay=0.25,
        grad_clip=1.0,
        warmup=warmup,
        schedule=schedule,  # pyright: ignore[reportArgumentType]
    )


def factors(warmup: int, schedule: str, iterations: int) -> list[float]:
    return [optim(warmup, schedule).factor(i, iterations) for i in range(iterations)]


def test_constant():
    assert factors(0, "constant", 3) == [1, 1, 1]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_climbs_in_equal_steps_and_then_the_schedule_begins_at_one(schedule: str):
    assert factors(4, schedule, 8)[:5] == [0.25, 0.5, 0.75, 1, 1]


def test_linear_falls_to_zero_at_the_end():
    """It would be zero after the last iteration, which itself still has a learning rate."""
    assert factors(0, "linear", 4) == [1, 0.75, 0.5, 0.25]
    assert factors(2, "linear", 6) == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert optim(2, "linear").factor(6, 6) == 0


def test_cosine_is_at_half_midway():
    assert factors(0, "cosine", 4) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert optim(2, "cosine").factor(6, 10) == pytest.approx(0.5)
    assert optim(2, "cosine").factor(10, 10) == pytest.approx(0)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_that_consists_of_warm_up(schedule: str):
    assert factors(2, schedule, 2) == [0.5, 1]
    assert factors(4, schedule, 2) == [0.25, 0.5]


@pytest.fixture
def module(small: LanguageModel) -> ActorCriticModule:
    objective = PolicyObjective(ratio.log_probability, clip.unclipped, None, 0.0)
    policy, critic = Policy(small.model, 1.0), Critic(small.model)
    return ActorCriticModule(policy, critic, optim(0, "constant"), 0.03, objective, ValueObjective(0.5))


def test_the_optimiser_gets_the_settings_of_this_run(module: ActorCriticModule):
    """This run's settings replace those that the optimiser was built or restored with."""
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, AdamW)
    for group in optimizer.param_groups:
        group |= {"lr": 9.0, "betas": (0.1, 0.2), "eps": 9.0, "weight_decay": 9.0}
    module.set_optimiser(optimizer, factor=0.5)
    names = ("lr", "betas", "eps", "weight_decay")
    of_policy, of_critic = ({name: group[name] for name in names} for group in optimizer.param_groups)
    rest = {"betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.25}
    assert of_policy == {"lr": 0.005, **rest}
    assert of_critic == {"lr": 0.015, **rest}


def test_each_part_is_a_parameter_group_without_frozen_parameters(module: ActorCriticModule):
    frozen = module.critic.head.bias.requires_grad_(False)
    ids = [{id(p) for p in group["params"]} for group in module.configure_optimizers().param_groups]
    assert ids == [
        {id(p) for p in module.policy.parameters()},
        {id(p) for p in module.critic.parameters()} - {id(frozen)},
    ]
