"""The arms of the paper's studies: each is an algorithm with one thing changed, and nothing else differs between them."""

from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from running import CONF, composed
from winnow.config import checks

ARMS = sorted(path.stem for path in (CONF / "arm").glob("*.yaml"))
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


@pytest.mark.parametrize("arm", ARMS)
def test_nothing_but_the_algorithm_differs_between_arms(arm: str):
    def rest(cfg: DictConfig) -> dict:
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        return {key: value for key, value in plain.items() if key != "algo"}

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
    assert OmegaConf.to_container(arm, resolve=True) == OmegaConf.to_container(experiment, resolve=True)


@pytest.mark.parametrize("figure", FIGURES)
def test_runs_of_a_miniature_lie_in_one_directory_for_all_figures(figure: str):
    content = yaml.safe_load((CONF / "experiment/miniature" / f"{figure}.yaml").read_text())
    assert content["defaults"] == ["miniature/settings"]
    sweep = yaml.safe_load((CONF / "experiment/miniature/settings.yaml").read_text())["hydra"]["sweep"]
    assert sweep == {"dir": "multirun/miniature", "subdir": "${hydra:runtime.choices.arm}/seed_${seed}"}
