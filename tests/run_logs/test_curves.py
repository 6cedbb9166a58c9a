import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from winnow.run_logs.curves import CURVE_PANELS, draw_run
from winnow.run_logs.plot_style import running_mean
from winnow.run_logs.run_files import RunFiles, Summary

TITLES = {
    "Held-out accuracy",
    "Reward",
    "Response length",
    "KL to the initial model",
    "Entropy",
    "Clip fraction",
}


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments, **options) -> None:
        figures.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def write(directory: Path, rows: list[dict[str, float]]) -> None:
    files = RunFiles(directory)
    for row in rows:
        files.append(row)


def full(iteration: int) -> dict[str, float]:
    return {
        "iteration": iteration,
        "eval/heldout/acc": 0.5 + iteration / 1000,
        "train/reward/mean": iteration / 100,
        "train/kl_ref": 0.001 * iteration,
        "train/entropy": 0.3,
        "rollout/length/mean": 20 + iteration / 10,
        "train/clip_frac": 0.0,
    }


def texts(figure: Figure, title: str) -> list[str]:
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    return [text.get_text() for text in axes.texts]


def test_curves_are_a_picture_of_six_panels(tmp_path: Path, drawn: list[Figure]) -> None:
    write(tmp_path, [full(iteration) for iteration in range(101)])
    RunFiles(tmp_path).write_summary(Summary("done", "grpo", "tiny", "arithmetic", 1, 100, 0.5, 0.6, 9, 9, 1.0))
    path = draw_run(tmp_path)
    assert path == tmp_path / "curves.png"
    image = imread(path)
    assert image.shape == (660, 1200, 4)
    assert image[..., :3].std() > 0.02  # not a blank page
    (figure,) = drawn
    assert {axes.get_title(loc="left") for axes in figure.axes} == TITLES
    assert {axes.get_xlabel() for axes in figure.axes} == {"iteration"}
    assert figure.get_suptitle() == "grpo · tiny · arithmetic · seed 1 · held-out accuracy 50.0% → 60.0%"
    assert texts(figure, "Held-out accuracy")[-1] == "60%"  # never smoothed
    assert texts(figure, "Entropy")[-1] == "0.3"


def test_one_row_and_missing_keys_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    write(tmp_path, [{"iteration": 0, "eval/heldout/acc": 0.5, "train/entropy": math.nan}])
    assert draw_run(tmp_path).stat().st_size > 5000
    (figure,) = drawn
    assert texts(figure, "Held-out accuracy")[-1] == "50%"
    assert {panel.title for panel in CURVE_PANELS if "not recorded" in texts(figure, panel.title)} == TITLES - {
        "Held-out accuracy"
    }
    assert figure.get_suptitle() == tmp_path.name


def test_a_run_without_rows_is_drawn(tmp_path: Path) -> None:
    assert draw_run(tmp_path).stat().st_size > 5000


def test_every_evaluation_set_is_a_curve_with_its_name(tmp_path: Path, drawn: list[Figure]) -> None:
    sets = {"eval/math500/acc": 0.75, "eval/minerva/acc": 0.25, "eval/minerva/length": 100.0}
    write(tmp_path, [{"iteration": 0} | sets, {"iteration": 1}, {"iteration": 2} | sets])
    draw_run(tmp_path)
    assert texts(drawn[0], "Held-out accuracy")[-2:] == ["math500 75%", "minerva 25%"]


def test_the_running_mean_is_centred_and_starts_where_the_curve_does() -> None:
    assert running_mean(np.array([0.0, 3, 6, 0, 3]), 3).tolist() == [0, 3, 3, 3, 1.5]
    assert running_mean(np.array([1.0, 2]), 1).tolist() == [1, 2]


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw_run(tmp_path)
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; from pathlib import Path; from winnow.run_logs.curves import draw_run;"
        f" draw_run(Path({str(tmp_path)!r})); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_named_rewards_stand_beside_their_sum(tmp_path: Path, drawn: list[Figure]) -> None:
    rewards = {"train/reward/mean": 0.5, "train/reward/std": 9.0, "train/reward/my.module:length/mean": -2.0}
    write(tmp_path, [{"iteration": i} | rewards for i in (1, 2)])
    draw_run(tmp_path)
    assert texts(drawn[0], "Reward")[-2:] == ["sum 0.5", "my.module:length -2"]


def test_the_note_on_smoothing_says_over_how_many_iterations(tmp_path: Path, drawn: list[Figure]) -> None:
    write(tmp_path, [full(iteration) for iteration in range(61)])
    draw_run(tmp_path)
    note = drawn[0].get_supxlabel()
    assert "over 7" in note  # 61 points
    assert "last 4" in note


def test_the_demo_s_picture_is_that_of_the_command_in_the_readme() -> None:
    root = Path(__file__).parents[2]
    recipe = (root / "Makefile").read_text().split("\ndemo:")[1].split("\n")[1]
    assert recipe.strip() == "$(BIN)/python train.py"
    assert "make demo" in (root / "README.md").read_text().split("docs/demo.png")[0]
    with Image.open(root / "docs" / "demo.png") as picture:
        assert picture.info["Description"] == "python train.py"
        assert picture.info["Title"].startswith("grpo · tiny · arithmetic · seed 0 · held-out accuracy 39.1%")


def test_a_picture_says_which_command_made_it(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- algo=grpo\n- dataset.levels=[4,6]\n")
    with Image.open(draw_run(tmp_path)) as picture:
        assert picture.info["Description"] == "winnow train algo=grpo 'dataset.levels=[4,6]'"
