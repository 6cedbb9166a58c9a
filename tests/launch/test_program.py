"""The frame of a run: its directory, its exit code, its error, and `resume`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

import toy_program
from winnow.errors import BUG
from winnow.launch.program import Program

ROOT = Path(__file__).parents[2]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return toy_program.program(toy_program.write_conf(tmp_path / "conf"))


def runs() -> list[Path]:
    return sorted(Path("outputs").glob("*"))


def seen(directory: Path) -> dict[str, object]:
    return json.loads((directory / "seen.json").read_text())


def test_a_run_has_a_directory_of_its_own_named_after_the_algorithm(toy: Program):
    assert toy.exit_code(["algo=raft", "iterations=4"]) == 0
    [directory] = runs()
    assert directory.name.startswith("raft-")
    assert yaml.safe_load((directory / ".hydra/overrides.yaml").read_text()) == ["algo=raft", "iterations=4"]
    assert seen(directory)["iterations"] == 4


def test_runs_that_start_in_one_second_do_not_share_a_directory(toy: Program):
    for _ in range(10):
        toy.exit_code([])
    assert len(runs()) == 10


@pytest.mark.parametrize(("end", "code"), [("done", 0), ("config", 2), ("diverged", 3)])
def test_exit_codes(toy: Program, end: str, code: int):
    assert toy.exit_code([f"end={end}"]) == code


def test_a_bug_keeps_its_traceback(toy: Program, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ZeroDivisionError):
        toy.exit_code(["end=bug"])
    assert capfd.readouterr().err == ""
    assert len(runs()) == 1


def test_a_library_that_exits_does_not_make_a_success(toy: Program):
    with pytest.raises(RuntimeError, match="left with code None"):
        toy.exit_code(["end=exits"])


def test_a_late_config_error_leaves_no_directory(toy: Program, capfd: pytest.CaptureFixture[str]):
    assert toy.exit_code(["end=config"]) == 2
    assert capfd.readouterr().err == "error: model.path=gone: no such folder\n"
    assert list(Path.cwd().iterdir()) == []


def test_nothing_is_made_before_the_configuration_is_known_to_be_good(toy: Program):
    assert toy.exit_code(["iterations=0"]) == 2
    assert list(Path.cwd().iterdir()) == []


def test_an_error_while_an_object_is_built_is_found_inside_hydras(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from hydra.utils import instantiate

    def build(cfg: DictConfig) -> list[str]:
        instantiate({"_target_": "winnow.rewards.verifier.Verifier", "workers": 0})
        return []

    program = Program("toy", build, toy_program.run, toy_program.write_conf(tmp_path))
    assert program.exit_code([]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: reward.verifier: workers=0")


def test_resume_goes_on_in_the_same_directory_with_the_same_words(toy: Program):
    toy.exit_code(["algo=raft", "iterations=4", "seed=3"])
    [directory] = runs()
    for total in (5, 6):
        assert toy.exit_code([f"resume={directory}", f"iterations={total}"]) == 0
        assert seen(directory) == seen(directory) | {"resume": str(directory.resolve()), "iterations": total}
    assert runs() == [directory]
    config = yaml.safe_load((directory / ".hydra/config.yaml").read_text())
    assert config["algo"] == {"best": 1}
    assert config["seed"] == 3


def test_resume_last_takes_the_newest_run_with_a_checkpoint(toy: Program):
    toy.exit_code(["seed=1"])
    [first] = runs()
    toy.exit_code(["seed=2"])
    [second] = [run for run in runs() if run != first]
    toy.exit_code(["seed=3", "end=diverged"])
    os.utime(first / "checkpoints/iteration_000003/manifest.json", (1, 1))
    assert toy.exit_code(["resume=last", "iterations=9"]) == 0
    assert seen(second)["iterations"] == 9
    assert seen(first)["iterations"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [("algo=raft", "algo was grpo and is raft"), ("seed=1", "seed was 0 and is 1"), ("algo.clip=.3", "0.2 and is 0.3")],
)
def test_resume_refuses_to_become_another_run(toy: Program, capfd: pytest.CaptureFixture[str], change: str, words: str):
    toy.exit_code([])
    assert toy.exit_code(["resume=last", change]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert words in line


def test_resume_remembers_the_config_directory(toy: Program, tmp_path: Path):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\niterations: 7\n")
    assert toy.exit_code(["--config-dir", str(own.parent), "experiment=mine"]) == 0
    assert toy.exit_code(["resume=last"]) == 0
    assert [seen(directory)["iterations"] for directory in runs()] == [7]


def test_flags_may_stand_between_overrides(toy: Program, tmp_path: Path):
    assert toy.exit_code(["algo=raft", "--config-dir", str(tmp_path), "iterations=4"]) == 0


def shown(*words: str, program: str = "train.py", **env: str) -> str:
    command = [sys.executable, str(ROOT / program), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def choices_in(text: str) -> dict[str, list[str]]:
    """The groups of a help text with their choices, `[` and `]` around the present one left out."""
    found: dict[str, list[str]] = {}
    group = folder = ""
    for line in text.split("Groups")[1].split("Keys")[0].splitlines()[1:]:
        label, words = line[:19].split(), line[19:].replace("[", "").replace("]", "").split()
        if label and not label[0].endswith("/"):
            group, folder = label[0], ""
        elif label:
            folder = label[0]
        found.setdefault(group, []).extend(f"{folder}{word}" for word in words)
    return {name: words for name, words in found.items() if name}


def files_of(group: str, *folders: str) -> list[str]:
    """The choices of a group, those in folders too, without the parts that experiments share."""
    paths = [path for folder in ("", *folders) for path in (ROOT / "conf" / group / folder).glob("*.yaml")]
    names = [path.relative_to(ROOT / "conf" / group).with_suffix("").as_posix() for path in paths]
    return [name for name in names if not name.endswith(("/settings", "/sweep"))]


FOLDERS = {
    "arm": ("paper", "mismatch"),
    "experiment": ("gsm8k", "smollm", "miniature", "paper", "recipe", "release"),
}


def test_help_lists_every_choice_of_every_group_on_one_screen():
    text = shown("--help")
    found = choices_in(text)
    groups = {
        path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").glob("**/") if path != ROOT / "conf"
    }
    folders = {f"{group}/{folder}" for group, names in FOLDERS.items() for folder in names}
    assert set(found) == {g for g in groups if not g.startswith("hydra")} - folders - {"benchmark"}
    for group, choices in found.items():
        assert sorted(choices) == sorted(files_of(group, *FOLDERS.get(group, ()))), group
    assert "algo/clip        cispo clip_higher cpgd dppo dppo_kl dual dual_higher gspo none [ppo]" in text
    assert "update.minibatches=4" in text
    assert "benchmarks" not in text
    assert_one_screen(text)


def assert_one_screen(text: str) -> None:
    assert len(text.splitlines()) <= 66
    assert max(map(len, text.splitlines())) <= 100


def test_help_of_evaluation_lists_what_it_reads():
    text = shown("--help", program="evaluate.py")
    found = choices_in(text)
    assert {"model", "model/template", "model/lora", "dataset", "reward/verifier", "engine", "hardware"} <= set(found)
    assert not {"algo", "arm", "logger", "debug"} & set(found)
    assert "paper/eval" in found["experiment"]
    assert "batch=256" in text
    assert_one_screen(text)


def test_help_shows_the_configuration_that_the_words_choose():
    text = shown("--help", "algo=dpo", "model=qwen")
    assert "cpgd dapo [dpo] dppo" in text
    assert "rollout.prompts=1024" in text


@pytest.mark.parametrize("words", [("--help", "algo"), ("--help=algo",), ("algo", "-h")])
def test_help_for_a_group_says_what_each_choice_is(words: tuple[str, ...]):
    text = shown(*words)
    assert "GRPO (arXiv 2504.11343, section 3): rewards standardised within each prompt's" in " ".join(text.split())
    assert [line.split()[0] for line in text.splitlines()[1:] if line[2] != " "] == sorted(files_of("algo"))


def test_every_choice_has_a_comment_for_its_help():
    for path in (ROOT / "conf").glob("**/*.yaml"):
        comments = [line for line in path.read_text().splitlines() if not line.startswith("# @")]
        assert comments[0].startswith("# "), path


def test_help_imports_no_torch():
    probe = (
        "import sys, runpy; sys.argv = ['train.py', '--help']\ntry: runpy.run_path('train.py', run_name='__main__')\n"
    )
    probe += "except SystemExit: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_hydras_ways_of_looking_still_work():
    rollout = yaml.safe_load(shown("--cfg", "job", "--package", "rollout", "rollout.samples=3"))
    assert rollout["samples"] == 3
    assert yaml.safe_load(shown("--cfg", "job", "--resolve", "algo/clip=dual"))["algo"]["clip"]["c"] == 3.0
    assert "hydra_plugins.winnow_launcher.Processes" in shown("--cfg", "hydra")
    assert "structured://" in shown("--info", "searchpath")


def test_tab_completes_groups_choices_and_keys():
    completed = {
        line: shown("-sc", "query=bash", COMP_LINE=f"python train.py {line}").split()
        for line in ("algo=raf", "optim.l")
    }
    assert completed == {"algo=raf": ["algo=raft", "algo=raftpp"], "optim.l": ["optim.lr="]}
    assert "hydra_bash_completion" in shown("-sc", "install=bash")


def test_a_rank_that_has_lost_another_ends_although_something_waits_for_it():
    script = """
import atexit, time
from winnow.errors import LostRank
from winnow.launch import program

class Lost(program.Program):
    def start(self, words):
        raise LostRank("rank 1 is gone")

program.LEAVING_SECONDS = 0.5
atexit.register(time.sleep, 60)
Lost("toy", lambda cfg: [], lambda cfg, directory: None).main()
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=40, capture_output=True, check=False)
    assert done.returncode == BUG
