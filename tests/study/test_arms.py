"""The arms of the paper's studies: each is an algorithm with one thing changed, and nothing else differs."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from running import CONF, composed
from winnow.config import checks
from winnow.launch.sweep_plan import config_hash
from winnow.study.arms import ORDER, arm_rank, arm_title, distinguishing_overrides
from winnow.study.runs import StudyRun

CONTROLS = {"more_demonstrations"}
"""Arms that are not of the paper: further demonstrations, beside experiment=smollm/after_warm_start."""
ARMS = sorted(path.stem for path in (CONF / "arm").glob("*.yaml") if path.stem not in CONTROLS)
FIGURES = ("table1", "figure1", "figure2", "figure3", "figure4")
STUDIES = ("miniature", "paper")


def swept(study: str, figure: str) -> dict[str, list[str]]:
    content = yaml.safe_load((CONF / "experiment" / study / f"{figure}.yaml").read_text())
    return {key: str(values).split(",") for key, values in content["hydra"]["sweeper"]["params"].items()}


def of(arm: str, study: str = "miniature") -> DictConfig:
    return composed(f"experiment={study}/settings", f"arm={arm}")


def axes(arm: str) -> dict[str, object]:
    """The last word of each function that an arm's axes name, and the settings that the paper's ablations touch."""
    algo = of(arm).algo
    found = {axis: algo[axis]._target_.split(".")[-1] for axis in ("select", "advantage", "ratio", "clip")}
    more = {"centre": algo.advantage.get("centre"), "scale": algo.advantage.get("scale"), "high": algo.clip.get("high")}
    return {key: value for key, value in (found | more).items() if value is not None}


REINFORCE = {"select": "all_samples", "advantage": "reward", "ratio": "token", "clip": "ppo", "high": 0.2}
RAFTPP = {"select": "best", "advantage": "one", "ratio": "token", "clip": "ppo", "high": 0.2}
GROUP = {"advantage": "group"}


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("raft", {"select": "best", "advantage": "one", "ratio": "log_probability", "clip": "unclipped"}),
        ("raftpp", RAFTPP),
        ("raftpp_no_clip", {k: v for k, v in RAFTPP.items() if k != "high"} | {"clip": "unclipped"}),
        ("raftpp_clip_higher", RAFTPP | {"high": 0.28}),
        ("grpo", REINFORCE | GROUP | {"centre": "mean", "scale": "std"}),
        ("reinforce", REINFORCE),
        ("mean_zero", REINFORCE | GROUP | {"centre": "mean", "scale": "none"}),
        ("remove_all_correct", REINFORCE | {"select": "not_all_correct"}),
        ("remove_all_wrong", REINFORCE | {"select": "not_all_wrong"}),
        ("reinforce_rej", REINFORCE | {"select": "mixed_prompts"}),
        ("remove_both_std", REINFORCE | GROUP | {"select": "mixed_prompts", "centre": "none", "scale": "std"}),
    ],
)
def test_an_arm_is_what_the_paper_calls_it(arm: str, expected: dict[str, object]):
    assert axes(arm) == expected


def without_title(cfg: DictConfig) -> dict:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return plain | {"study": plain["study"] | {"title": None}}


@pytest.mark.parametrize("arm", ARMS)
def test_nothing_but_the_algorithm_and_the_title_differs_between_arms(arm: str):
    def rest(cfg: DictConfig) -> dict:
        return {key: value for key, value in without_title(cfg).items() if key != "algo"}

    cfg = of(arm)
    checks.check_config(cfg)
    assert rest(cfg) == rest(of("grpo"))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("study", STUDIES)
def test_a_figure_sweeps_over_arms_that_exist_and_five_seeds(study: str, figure: str):
    params = swept(study, figure)
    assert set(params) == {"arm", "seed"}
    assert len(set(params["seed"])) >= 5
    for arm in params["arm"]:
        checks.check_config(composed(f"experiment={study}/{figure}", f"arm={arm}", "seed=0"))


@pytest.mark.parametrize("figure", FIGURES)
def test_miniature_and_paper_have_the_same_contrasts(figure: str):
    bare = [Path(arm).name for arm in swept("paper", figure)["arm"]]
    assert bare == swept("miniature", figure)["arm"]


def test_the_whole_miniature_is_the_union_of_its_figures():
    union = {arm for figure in FIGURES for arm in swept("miniature", figure)["arm"]}
    assert set(swept("miniature", "all")["arm"]) == union == set(ARMS)


def test_table_1_has_every_row_of_the_paper():
    assert set(swept("paper", "table1")["arm"]) == {
        "raft", "raftpp", "paper/dpo", "reinforce", "grpo", "paper/ppo", "reinforce_rej",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["dpo", "ppo"])
def test_the_papers_own_settings_of_an_arm_are_those_of_its_experiment(name: str):
    arm, experiment = of(f"paper/{name}", "paper"), composed(f"experiment=paper/{name}")
    assert without_title(arm) == without_title(experiment)


def a_run(arm: str, config: Mapping[str, object], *overrides: str) -> StudyRun:
    return StudyRun(Path(arm), arm, 0, config, overrides, {}, (), (), "done", 0)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_has_the_title_that_its_yaml_states(arm: str):
    title = of(arm).study.title
    assert title is not None
    assert arm_title(arm) == title
    assert arm_title(f"{arm} optim.lr=2e-5") == f"{title} optim.lr=2e-5"


@pytest.mark.parametrize("name", ["dpo", "ppo"])
def test_an_arm_at_the_papers_size_has_the_title_of_the_miniature(name: str):
    assert of(f"paper/{name}", "paper").study.title == of(name).study.title


def test_the_title_of_a_new_arm_comes_from_its_runs():
    named, unnamed = a_run("mine", {"study": {"title": "Mine"}}), a_run("mine", {"study": {"title": None}})
    assert arm_title("mine seed=1", [named]) == "Mine seed=1"
    assert arm_title("mine", [unnamed, named]) == "Mine"
    assert arm_title("mine", [unnamed]) == arm_title("mine") == "mine"
    assert arm_title("raftpp", [a_run("raftpp", {})]) == "RAFT++"
    assert arm_title("raftpp", [a_run("raftpp", {"study": {"title": "Ours"}})]) == "Ours"


def test_arms_that_have_no_place_in_the_order_follow_by_name():
    assert sorted(["zeta", "dpo", "alpha", "grpo", "raft"], key=arm_rank) == ["raft", "grpo", "dpo", "alpha", "zeta"]
    assert set(ORDER) == set(ARMS)


def test_a_title_that_was_typed_is_not_part_of_a_label():
    assert distinguishing_overrides(["arm=raft", "study.title=Mine", "optim.lr=2e-5"]) == {"optim.lr=2e-5"}
    with_title = composed("arm=raft", "study.title=Mine", "hydra.run.dir=x")
    assert config_hash(with_title) == config_hash(composed("arm=raft", "hydra.run.dir=x"))


@pytest.mark.parametrize("figure", FIGURES)
def test_runs_of_a_miniature_lie_in_one_directory_for_all_figures(figure: str):
    content = yaml.safe_load((CONF / "experiment/miniature" / f"{figure}.yaml").read_text())
    assert content["defaults"] == ["miniature/settings"]
    sweep = yaml.safe_load((CONF / "experiment/miniature/settings.yaml").read_text())["hydra"]["sweep"]
    assert sweep == {"dir": "multirun/miniature", "subdir": "${hydra:runtime.choices.arm}/seed_${seed}"}
