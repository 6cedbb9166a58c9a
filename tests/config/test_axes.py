"""Values of an axis live in an option of that axis, and an algorithm's file only chooses options."""

import warnings
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from running import CONF, composed
from winnow.config import checks
from winnow.config.command_line import read_command_line
from winnow.config.compose import Composer
from winnow.config.groups import option_at
from winnow.config.saved_runs import Change, SavedRun, changes

ALGORITHMS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "algo").glob("*.yaml"))}
AXES = {
    folder.name: {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for folder in sorted((CONF / "algo").iterdir())
    if folder.is_dir()
}
ROUNDS = max(map(len, AXES.values()))
OPTIONS = [path for options in AXES.values() for path in options.values()]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_algorithm_sets_a_value_of_an_axis(name: str):
    """It would stay where another option of the axis is typed."""
    assert not ALGORITHMS[name].keys() & AXES.keys()


CHOOSE = sorted(path for folder in ("arm", "experiment", "debug") for path in (CONF / folder).rglob("*.yaml"))


@pytest.mark.parametrize("path", CHOOSE, ids=lambda path: str(path.relative_to(CONF)))
def test_no_experiment_and_no_arm_sets_a_value_of_an_axis(path: Path):
    """`experiment=release/grpo algo/kl=none` has nothing left of the KL term that was there."""
    own = (yaml.safe_load(path.read_text()) or {}).get("algo") or {}
    assert [axis for axis in own.keys() & AXES.keys() if isinstance(own[axis], dict)] == []


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_an_option_sets_its_own_axis_alone(path: Path):
    node, text, axis = yaml.safe_load(path.read_text()), path.read_text(), path.parent.name
    assert "@package" not in text or ("# @package algo\n" in text and set(node) == {axis})
    assert all(entry in AXES[axis] for entry in node.get("defaults", []))


def node_of(axis: str, option: str) -> object:
    """The node of an axis as an option makes it."""
    path = AXES[axis][option]
    node = option_at(path)
    if "# @package algo\n" in path.read_text():  # an entropy coefficient is a number, which no file can be
        assert isinstance(node, dict)
        return node[axis]
    return node


@pytest.fixture(scope="module")
def loader() -> ConfigLoaderImpl:
    return Composer("train", CONF, read_command_line([])).loader


def choices_of(name: str) -> dict[str, str]:
    """The option of each axis that an algorithm has, its own and those of the one that it begins with."""
    found: dict[str, str] = {}
    for entry in ALGORITHMS[name]["defaults"]:
        chosen = choices_of(entry) if isinstance(entry, str) else entry
        found |= {axis.removeprefix("override "): option for axis, option in chosen.items()}
    return found


@pytest.mark.parametrize("round_", [None, 0, *(pytest.param(r, marks=pytest.mark.faults) for r in range(1, ROUNDS))])
def test_an_option_is_the_same_in_every_algorithm(round_: int | None, loader: ConfigLoaderImpl):
    """Each algorithm as it is, and with another option on all of its axes at once; all rounds make every pair."""
    for number, name in enumerate(ALGORITHMS):
        chosen = choices_of(name)
        if round_ is not None:
            chosen = {axis: list(AXES[axis])[(round_ + number) % len(AXES[axis])] for axis in chosen}
        words = [] if round_ is None else [f"algo/{axis}={option}" for axis, option in chosen.items()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Hydra asks for _self_ where a configuration is loaded by itself
            algo = loader.load_configuration(f"algo/{name}", words, RunMode.RUN).algo
        for axis, option in chosen.items():
            assert plain(algo[axis]) == node_of(axis, option), f"algo={name} algo/{axis}={option}"


def plain(node: object) -> object:
    return OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node


@pytest.mark.parametrize(
    "words",
    [
        "algo=gspo algo/clip=dppo",
        "algo=scalerl algo/clip=ppo",
        "algo=rloo algo/advantage=whitened",
        "algo=dro algo/kl=none",
        "algo=cpgd algo/advantage=reward",
        "algo=reinforce_pp_baseline algo/advantage=group",
        "experiment=release/grpo algo/kl=none",
        "experiment=recipe/deepseek_v32 algo/kl=k2",
        "arm=remove_both_std algo/advantage=reward",
    ],
)
def test_no_value_of_the_option_that_was_there_stays(words: str):
    _, typed = words.split()
    axis, option = typed.removeprefix("algo/").split("=")
    cfg = composed(*words.split())
    checks.check_config(cfg)
    assert plain(cfg.algo[axis]) == node_of(axis, option)


def saved(option: str, **clip: float) -> SavedRun:
    """A run that was begun with an option of `algo/clip` and its settings."""
    cfg = OmegaConf.create({"algo": {"clip": clip}})
    hydra = OmegaConf.create({"runtime": {"choices": {"algo": "gspo", "algo/clip": option}}})
    return SavedRun(Path("outputs/a/b"), cfg, hydra, [])


def test_an_option_under_another_name_is_no_change_of_a_run():
    """GSPO's bounds were values of its own on `algo/clip=ppo`; a run of then goes on."""
    now = saved("gspo", low=3e-4, high=4e-4)
    assert changes(saved("ppo", low=3e-4, high=4e-4), now.cfg, now.choices) == []
    other = changes(saved("ppo", low=0.2, high=4e-4), now.cfg, now.choices)
    assert other == [Change("algo/clip", "ppo", "gspo"), Change("algo.clip.low", 0.2, 3e-4)]
