"""Figures show the study's numbers, and no interval for arms that have none."""

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from study.studies import ACCURACY, ARMS, rows, write_run, write_study
from winnow.run_logs.plot_style import running_mean, smoothing_window
from winnow.run_logs.run_files import EvaluationCounts
from winnow.study.measures import FINAL_ACCURACY
from winnow.study.report.forest import CHAINS, difference_row, forest, level_row, waterfall
from winnow.study.report.learning_curves import (
    ALL_CORRECT,
    ALL_WRONG,
    ENTROPY,
    HELD_OUT,
    KL,
    Line,
    arm_lines,
    draw_lines,
    line_panels,
    prompts_by_outcome,
    rounding_level,
)
from winnow.study.report.panels import (
    SMALL,
    Drawing,
    EndLabel,
    FigureData,
    Panel,
    abbreviated,
    describe_bands,
    label_ends,
    logarithmic_ticks,
    mark_cut_ends,
    spread_labels,
)
from winnow.study.report.render import DPI, drawn_sheet
from winnow.study.report.trade_offs import kl_path, pass_curves, pass_rate, pass_rates
from winnow.study.report.write import all_drawings
from winnow.study.study import read_study


@pytest.fixture
def by_seed(tmp_path):
    """Builder of a study from the final accuracies of each arm, one for each seed. Entropies differ between seeds."""

    def study(**arms: list[float]) -> FigureData:
        for arm, finals in arms.items():
            for seed, final in enumerate(finals):
                curves = {
                    ACCURACY: lambda i, top=final: 0.4 + (top - 0.4) * i / 8,
                    "train/entropy": 0.1 + seed,
                    "train/kl_ref": 0.1,
                }
                write_run(tmp_path / f"{arm}{seed}", arm, seed, rows(curves))
        return FigureData(read_study([tmp_path]), "iterations")

    return study


def arm(data: FigureData, label: str):
    found = data.study.arm(label)
    assert found
    return found


def test_a_row_of_the_forest_is_the_mean_with_an_interval_within_0_and_100(by_seed):
    data = by_seed(grpo=[0.8, 0.9])
    row = level_row(data, arm(data, "grpo"), FINAL_ACCURACY)
    assert row.mean == pytest.approx(85)
    assert row.limits == pytest.approx((17.46, 99.35), abs=0.01)  # Student's t would reach from 21.5 to 148.5
    assert row.text == "85.0 (17.5 to 99.3)"
    assert list(row.dots) == pytest.approx([80, 90])


def test_one_run_and_identical_runs_have_a_mean_and_words_and_no_interval(by_seed):
    data = by_seed(raft=[0.8], grpo=[0.7, 0.7])
    one, same = (level_row(data, arm(data, label), FINAL_ACCURACY) for label in ("raft", "grpo"))
    assert (one.limits, one.text) == (None, "80.0 (one run)")
    assert (same.limits, same.text) == (None, "70.0 (identical runs)")
    gap = difference_row(data, arm(data, "raft"), arm(data, "grpo"), FINAL_ACCURACY)
    assert gap
    assert (gap.limits, gap.text) == (None, "−10.0 (one run)")


def test_differences_are_paired_by_seed(by_seed):
    data = by_seed(raft=[0.5, 0.7, 0.9], grpo=[0.6, 0.81, 0.99])
    gap = difference_row(data, arm(data, "raft"), arm(data, "grpo"), FINAL_ACCURACY)
    assert gap
    assert gap.mean == pytest.approx(10)
    assert gap.limits
    assert gap.limits[0] > 7  # of unpaired arms it would reach far below 0


def test_lines_of_one_run_and_of_equal_runs_have_no_band(by_seed):
    data = by_seed(raft=[0.8], grpo=[0.7, 0.7], raftpp=[0.7, 0.8])
    bands = {line.style.label: line.low is not None for line in arm_lines(data, data.study.arms, HELD_OUT)}
    assert bands == {"raft": False, "grpo": False, "raftpp": True}
    sentence = describe_bands(data.study.arms)
    assert "95 % interval" in sentence
    assert sentence.endswith("No band for arms with one run: RAFT.")


def test_what_was_not_recorded_has_no_line(by_seed):
    data = by_seed(raft=[0.8])
    curves = arm_lines(data, data.study.arms, ENTROPY)
    assert [list(line.y) for line in curves] == [[0.1] * 8]
    missing = type(KL)("train/nothing", "", "")
    assert arm_lines(data, data.study.arms, missing) == []


def test_bands_are_drawn_where_they_are_and_not_elsewhere(by_seed):
    data = by_seed(raft=[0.8], raftpp=[0.7, 0.8])
    axes = Figure().add_subplot()
    draw_lines(axes, arm_lines(data, data.study.arms, HELD_OUT))
    assert len(axes.collections) == 1
    assert len(axes.lines) == 2


def test_a_chain_of_steps_ends_where_its_last_arm_does(tmp_path):
    write_study(tmp_path, ("reinforce", "remove_all_wrong", "reinforce_rej", "mean_zero", "grpo"), range(3))
    data = FigureData(read_study([tmp_path]), "iterations")
    drawing = waterfall(data)
    assert drawing
    (panel,) = drawing.panels
    axes = Figure().add_subplot()
    panel.draw(axes)
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    means = [fmean(FINAL_ACCURACY.by_seed(one).values()) for one in data.study.arms]
    by_label = dict(zip([one.label for one in data.study.arms], means, strict=True))
    chain = ["remove_all_wrong", "reinforce_rej", "mean_zero", "grpo"]
    assert ends == pytest.approx([by_label[label] for label in chain])
    names = [text.get_text() for text in axes.texts]
    assert "− all-wrong prompts" in names
    assert sum(change != "" for changes in CHAINS.values() for change in changes.values()) == 7


def test_steps_across_a_missing_arm_are_named_by_where_they_lead(by_seed):
    drawing = waterfall(by_seed(reinforce=[0.5, 0.6], remove_all_wrong=[0.6, 0.72], grpo=[0.8, 0.85]))
    assert drawing
    axes = Figure().add_subplot()
    drawing.panels[0].draw(axes)
    assert "→ GRPO" in [text.get_text() for text in axes.texts]
    assert "Reinforce + mean zero" in drawing.caption


def test_there_is_no_chain_of_two_arms(by_seed):
    assert waterfall(by_seed(reinforce=[0.5, 0.6], grpo=[0.8, 0.85])) is None


def test_pass_at_k_is_chen_s():
    counts = EvaluationCounts(8, "arithmetic", 4, "", (0, 1, 4))
    assert pass_rate(counts, 1) == pytest.approx(5 / 12)
    assert pass_rate(counts, 2) == pytest.approx((0 + 0.5 + 1) / 3)
    assert pass_rate(counts, 4) == pytest.approx(2 / 3)


def test_pass_at_k_is_of_the_last_evaluation(tmp_path):
    write_run(tmp_path / "a", "grpo", 0, rows({ACCURACY: 0.5}), correct={0: [0, 0], 8: [4, 2]})
    (curve,) = pass_rates(read_study([tmp_path]).arms[0])
    assert curve == {1: 0.75, 2: pytest.approx((1 + 5 / 6) / 2), 4: 1.0}


def test_a_band_of_pass_at_k_may_end_where_all_runs_agree(tmp_path):
    """Both runs solve every problem with two samples, and one of them with each sample."""
    for seed, correct in enumerate(([4, 4], [3, 3])):
        write_run(tmp_path / str(seed), "grpo", seed, rows({ACCURACY: 0.5}), correct={8: correct})
    drawing = pass_curves(FigureData(read_study([tmp_path]), "iterations"))
    assert drawing
    axes = Figure().add_subplot()
    drawing.panels[0].draw(axes)
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices
    assert {float(y) for x, y in heights if x == 4} == {1.0}  # pyright: ignore
    assert len({float(y) for x, y in heights if x == 1}) == 2  # pyright: ignore


def test_a_trajectory_takes_the_mean_kl_since_the_evaluation_before(tmp_path):
    table = rows({ACCURACY: lambda i: i / 8, "train/kl_ref": lambda i: float(i)}, 8, every=4)
    write_run(tmp_path / "a", "grpo", 0, table)
    data = FigureData(read_study([tmp_path]), "iterations")
    found = kl_path(data, data.study.arms[0])
    assert found
    _, kl, accuracy = found
    assert list(kl) == [2.5, 6.5]  # of iterations 1 to 4 and 5 to 8
    assert list(accuracy) == [0.5, 1.0]


def test_a_running_mean_is_centred_and_keeps_its_first_point():
    ramp = np.arange(9.0)
    smooth = running_mean(ramp, 5)
    assert list(smooth[:7]) == list(ramp[:7])
    assert smooth[8] == pytest.approx(7.0)  # of the last three points
    assert [smoothing_window(n) for n in (10, 20, 40, 100, 1000)] == [1, 1, 5, 11, 21]


@pytest.mark.parametrize("seed", range(20))
def test_labels_do_not_touch_and_keep_their_order(seed):
    wanted = np.random.default_rng(seed).uniform(0, 100, 8) ** (1 + seed % 3) % 100
    placed = spread_labels(wanted.tolist(), 10, 0, 100)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(placed)[order]) > 10 - 1e-9).all()
    assert min(placed) > -1e-9
    assert max(placed) < 100 + 1e-9


def test_labels_with_room_stay_where_they_point_and_a_pair_moves_apart_evenly():
    assert spread_labels([10, 50, 90], 10, 0, 100) == [10, 50, 90]
    assert spread_labels([50, 50], 10, 0, 100) == [45, 55]
    assert spread_labels([0, 1, 2], 10, 0, 12) == [0, 6, 12]  # more than fit: even


def test_names_stand_in_the_order_in_which_curves_end():
    axes = Figure(figsize=(4, 3), dpi=72).add_axes((0.1, 0.1, 0.6, 0.8))
    axes.set_ylim(0, 1)
    label_ends(axes, [EndLabel("low", 1, 0.5, "#000000"), EndLabel("high", 1, 0.501, "#000000")])
    low, high = (text.xyann[1] for text in axes.texts)
    assert high - low > 10 / (72 * 3 * 0.8)


def test_long_numbers_are_short():
    assert [abbreviated(x) for x in (0, 0.015, 400, 1500, 2_500_000, 3e9)] == [
        "0",
        "0.015",
        "400",
        "1.5k",
        "2.5M",
        "3B",
    ]


def test_a_metric_on_a_logarithmic_axis_may_begin_at_nothing(tmp_path):
    table = rows({ACCURACY: 0.5, "train/kl_ref": lambda i: 0.0 if i == 1 else 10.0**-i})
    write_run(tmp_path / "a", "grpo", 0, table)
    data = FigureData(read_study([tmp_path]), "iterations")
    (line,) = arm_lines(data, data.study.arms, KL)
    assert isinstance(line, Line)
    assert math.isfinite(line.y.sum())


def test_a_kl_begins_above_rounding_and_other_curves_at_their_first_value(tmp_path):
    table = rows(
        {
            ACCURACY: 0.5,
            "train/kl_ref": lambda i: 3e-13 if i == 1 else 0.01 * i,
            "train/entropy": lambda i: 1e-5 if i == 1 else 0.5,
        }
    )
    write_run(tmp_path / "a", "grpo", 0, table)
    data = FigureData(read_study([tmp_path]), "iterations")
    (kl,), (entropy,) = (arm_lines(data, data.study.arms, metric) for metric in (KL, ENTROPY))
    assert list(kl.x) == list(range(2, 9))
    assert entropy.x[0] == 1
    assert rounding_level(np.array([0.02, 0.03, 0.05])) == 0  # a curve whose beginning was not recorded
    (panel,) = line_panels(data, [("", data.study.arms)], KL)
    axes = Figure().add_subplot()
    panel.draw(axes)
    assert axes.get_yscale() == "log"
    assert 0.01 < axes.get_ylim()[0] < 0.02


def test_bars_that_leave_the_axes_are_marked_on_their_side():
    axes = Figure().add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 1))
    mark_cut_ends(axes, [(5, 0.5), (-3, 0.5), (12, 0.5), (5, 2), (5, -1)], "#000000")
    marks = [(line.get_marker(), line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]  # pyright: ignore
    assert marks == [("<", 0, 0.5), (">", 10, 0.5), ("^", 5, 1), ("v", 5, 0)]


@pytest.mark.parametrize("limits", [(0.012, 0.75), (0.03, 0.3), (0.0011, 0.09), (1e-5, 0.3), (1e-12, 1.0)])
def test_a_logarithmic_axis_has_two_ticks_or_more_and_no_crowd(limits):
    axes = Figure().add_subplot()
    axes.set(yscale="log", ylim=limits)
    logarithmic_ticks(axes.yaxis, limits, str)
    inside = [tick for tick in axes.get_yticks() if limits[0] <= tick <= limits[1]]
    assert 2 <= len(inside) <= 7


def test_iterations_are_counted_in_whole_numbers_and_dots_at_an_edge_are_whole(by_seed):
    data = by_seed(raft=[0.5, 0.5])
    [panel] = line_panels(data, data.families, HELD_OUT)  # 8 iterations
    axes = Figure().add_subplot()
    panel.draw(axes)
    assert all(tick == round(tick) for tick in axes.get_xticks())
    [line] = axes.lines
    assert (line.get_marker(), line.get_clip_on()) == ("o", False)


def test_the_parts_of_prompts_by_outcome_are_named_with_their_shares_at_the_end(tmp_path):
    table = rows({ACCURACY: 0.5, ALL_WRONG: lambda i: 0.9 - i / 10, ALL_CORRECT: lambda i: i / 16})
    write_run(tmp_path / "a", "grpo", 0, table)
    drawing = prompts_by_outcome(FigureData(read_study([tmp_path]), "iterations"))
    assert drawing
    axes = Figure().add_subplot()
    drawing.panels[0].draw(axes)
    assert {text.get_text() for text in axes.texts} == {"10% all wrong", "40% mixed", "50% all correct"}


def test_groups_of_arms_that_are_not_of_the_paper_have_names_of_their_own(tmp_path):
    for number in range(9):
        write_run(tmp_path / str(number), None, 0, rows({ACCURACY: 0.5}), algo=f"mine{number}")
    names = [name for name, _ in FigureData(read_study([tmp_path]), "iterations").families]
    assert names == ["1 of 2", "2 of 2"]
    write_run(tmp_path / "grpo", "grpo", 0, rows({ACCURACY: 0.5}))
    names = [name for name, _ in FigureData(read_study([tmp_path]), "iterations").families]
    assert names == ["Reinforce family", "others, 1 of 2", "others, 2 of 2"]


def test_two_seeds_far_apart_are_marked_in_the_forest(by_seed):
    drawing = forest(by_seed(raft=[0.5, 0.501], grpo=[0.5, 0.6]))
    assert drawing
    axes = Figure().add_subplot()
    drawing.panels[0].draw(axes)
    assert {line.get_marker() for line in axes.lines} >= {"<", ">"}
    assert 0 - 2 <= axes.get_xlim()[0] < axes.get_xlim()[1] <= 100 + 2


@pytest.mark.parametrize(
    ("panels", "most", "columns"), [(1, 3, 1), (2, 3, 2), (3, 3, 3), (4, 3, 2), (6, 3, 3), (13, 5, 5)]
)
def test_panels_fill_their_grid(panels, most, columns):
    empty = Panel("", "", lambda axes: None)
    assert Drawing("a", "", "", (empty,) * panels, most).columns == columns


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (4, 4), (6, 6), (7, 4), (9, 5), (13, 5)])
def test_small_panels_stand_four_in_a_row_or_more(panels, columns):
    empty = Panel("", "", lambda axes: None, SMALL)
    assert Drawing("a", "", "", (empty,) * panels, 6).columns == columns


def test_no_text_leaves_its_panel_or_covers_another(tmp_path):
    """With intervals as long as they can be, and names of the paper's longest arms beside curves that end together."""
    for seed in range(2):
        for arm in ARMS:
            end = 0.2 + 0.6 * seed if arm in ("grpo", "reinforce_rej") else 0.79 + 0.002 * seed
            curves = {
                ACCURACY: lambda i, top=end: 0.4 + (top - 0.4) * i / 8,
                "train/entropy": 0.1,
                "train/kl_ref": lambda i: 0.01 * i,
                "train/sampled_tokens_total": lambda i: 1000.0 * i,
                "train/tokens_trained_total": lambda i: 700.0 * i,
                ALL_WRONG: 0.2,
                ALL_CORRECT: 0.3,
            }
            write_run(tmp_path / f"{arm}{seed}", arm, seed, rows(curves), correct={0: [0, 1], 8: [3, 4 - seed]})
    data = FigureData(read_study([tmp_path]), "iterations")
    found = [text.get_text() for drawing in all_drawings(data) for text in misplaced(drawing)]
    assert found == []


def labels_out_of_view(axes: Axes) -> list[Text]:
    """Labels of ticks beyond the limits, which an axis has but does not draw."""
    by_limits = [(axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())]
    ticks = [(tick, limits) for axis, limits in by_limits for tick in axis.get_major_ticks()]
    return [tick.label1 for tick, (low, high) in ticks if not min(low, high) <= tick.get_loc() <= max(low, high)]


def misplaced(drawing: Drawing) -> list[Text]:
    """The texts that leave the figure, or of which more than a third is covered by another text."""
    sheet = drawn_sheet(drawing)
    sheet.set_dpi(DPI)
    sheet.draw_without_rendering()
    unseen = [label for axes in sheet.axes for label in labels_out_of_view(axes)]
    texts = [text for text in sheet.findobj(Text) if text.get_text() and text not in unseen]
    boxes = [Text.get_window_extent(text) for text in texts]  # an annotation's own would include its line
    inside = sheet.bbox.padded(1)
    bad = [text for text, box in zip(texts, boxes, strict=True) if box.extents[0] < inside.x0 or box.x1 > inside.x1]
    for (a, box_a), (b, box_b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        common = Bbox.intersection(box_a, box_b)
        if common and common.width > 1 and common.height > min(box_a.height, box_b.height) / 3:
            bad += [a, b]
    return bad
