"""Text of a report beside its figures: commands, warnings, settings, tables and samples."""

from pathlib import Path

import pytest

from study.report.conftest import ARMS
from study.studies import ACCURACY, rows, write_run
from winnow.run_logs.objective_file import write_objective
from winnow.run_logs.plot_style import tick_format
from winnow.run_logs.run_files import SampleRecord
from winnow.study.measures import format_signed
from winnow.study.report import facts
from winnow.study.report.forest import format_interval
from winnow.study.report.panels import abbreviated
from winnow.study.report.samples import HEAD, TAIL, advantage_strength, excerpt, reward_in_words
from winnow.study.report.write import ENVIRONMENT, code_span, write_report
from winnow.study.study import read_study
from winnow.study.tables import Table, markdown_text


def run(top: Path, arm: str, seed: int, *overrides: str, iterations: int = 8, settings=None) -> None:
    curves = {ACCURACY: lambda i: 0.5 + 0.01 * i + 0.001 * seed + 0.0001 * len(arm)}
    top.mkdir(exist_ok=True)
    name = f"{arm}{seed}{len(list(top.iterdir()))}"
    write_run(top / name, arm, seed, rows(curves, iterations), overrides=overrides, settings=settings)


def test_runs_of_a_grid_are_one_command(tmp_path):
    for arm in ("raft", "grpo"):
        for seed in (1, 2):
            run(tmp_path, arm, seed, "experiment=miniature/figure4")
    (command,) = facts.rerun_commands(read_study([tmp_path]))
    assert command == "winnow train -m seed=1,2 arm=raft,grpo experiment=miniature/figure4"


def test_runs_of_no_grid_are_a_command_an_arm(tmp_path):
    run(tmp_path, "raft", 1)
    run(tmp_path, "raft", 2)
    run(tmp_path, "grpo", 1, "dataset.levels=[5,6]")
    assert facts.rerun_commands(read_study([tmp_path])) == [
        "winnow train -m seed=1,2 arm=raft",
        "winnow train seed=1 arm=grpo 'dataset.levels=[5,6]'",
    ]


def test_what_else_differs_is_warned_of(tmp_path):
    run(tmp_path, "raft", 1)
    run(tmp_path, "grpo", 2, iterations=6, settings={"rollout": {"samples": 8}})
    warnings = "\n".join(facts.warnings_of(read_study([tmp_path])))
    assert "rollout.samples" in warnings
    assert "one run only" in warnings
    assert "No seed is common" in warnings
    assert "6 to 8 iterations" in warnings


def test_objectives_are_shown_once_with_the_arms_that_have_them(tmp_path):
    for number, (arm, loss) in enumerate([("raft", "loss = −A"), ("raftpp", "loss = −A"), ("grpo", "loss = −s·A <b>")]):
        run(tmp_path / str(number), arm, 1)
        write_objective(next((tmp_path / str(number)).iterdir()), f"{loss}\n\nequal: one <i>note</i>")
    study = read_study([tmp_path])
    assert [(arms, *of.formula) for arms, of in facts.objectives(study)] == [
        ("RAFT, RAFT++", "loss = −A"),
        ("GRPO", "loss = −s·A <b>"),
    ]
    write_report([tmp_path], None, "iterations")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "loss = −s·A &lt;b&gt;" in page
    assert "one &lt;i&gt;note&lt;/i&gt;" in page
    assert "    loss = −s·A <b>" in text


def test_settings_are_split_by_whether_arms_differ(tmp_path):
    run(tmp_path, "raft", 1)
    run(tmp_path, "grpo", 1, settings={"algo": {"clip": {"high": 0.28}}, "dataset": {"levels": [6], "x": True}})
    shared, differing = facts.split_settings(read_study([tmp_path]))
    high, x = {"0.2": ["RAFT"], "0.28": ["GRPO"]}, {"–": ["RAFT"], "true": ["GRPO"]}  # as it is typed, not True
    assert differing == {"algo.clip.high": high, "dataset.x": x}
    assert shared["rollout.samples"] == "4"
    assert not set(shared) & set(differing)


def test_seeds_are_told_by_the_arms_that_have_them(tmp_path):
    run(tmp_path, "raft", 1)
    run(tmp_path, "raft", 2)
    run(tmp_path, "grpo", 1)
    assert facts.seeds_by_arm(read_study([tmp_path])) == ["1, 2: RAFT", "1: GRPO"]


def test_tables_of_the_markdown_are_rectangular(small):
    for block in (small / "report.md").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
    text = (small / "report.md").read_text()
    assert "| **holds** |" in text
    assert "winnow report" in text


def test_a_table_is_the_same_in_markdown_and_on_the_page():
    table = Table(["a", "b"], [["x | <y>", "1.5"]], bold=True)
    assert table.markdown() == "| a | b |\n| --- | --- |\n| x \\| &lt;y> | **1.5** |\n"
    html = ENVIRONMENT.get_template("parts.html.j2").module.table(table)  # pyright: ignore
    assert '<td data-label="a">x | &lt;y&gt;</td>' in html
    assert '<td data-label="b" class="n"><b>1.5</b></td>' in html


def test_arms_and_settings_are_shown_as_text_on_the_page_and_in_markdown(tmp_path):
    for seed in (0, 1):
        run(tmp_path, "raft", seed, "dataset.path=<i>&|")
        run(tmp_path, "raft", seed, "dataset.path='\"'", settings={"rollout": {"samples": "<i>"}})
    write_report([tmp_path], None, "iterations")
    page, markdown = ((tmp_path / f"report.{ending}").read_text() for ending in ("html", "md"))
    assert ">RAFT dataset.path=&lt;i&gt;&amp;|</td>" in page
    assert ">RAFT dataset.path=&#39;&#34;&#39;</td>" in page
    assert ">&lt;i&gt;</td>" in page
    assert "<i>" not in page
    assert "| RAFT dataset.path=&lt;i>&amp;\\| |" in markdown
    assert "<i>" not in markdown.split("```")[0]  # between the fences a command is shown as it is
    assert markdown_text("![x](https://a.b) <b>") == "![x]\\(https://a.b) &lt;b>"
    assert code_span("a `<b>`") == "`a '<b>'`"


def test_a_long_text_keeps_its_start_and_its_end():
    text = excerpt("a" * 5000 + "\\boxed{7}")
    assert text.startswith("a" * HEAD + "\n[… ")
    assert text.endswith("\\boxed{7}")
    assert str(5009 - HEAD - TAIL) in text
    assert excerpt("short") == "short"


def test_the_size_of_an_advantage_is_a_share_of_the_largest_beside_it():
    def record(advantage: float | None) -> SampleRecord:
        return SampleRecord(1, "k", 0, "p", "r", "a", None, "wrong", -1.0, advantage, True, 1, "eos")

    group = [record(1.5), record(-0.5), record(None)]
    assert [advantage_strength(one, group) for one in group] == pytest.approx([1, 1 / 3, 0])
    assert advantage_strength(record(0.0), [record(0.0)]) == 0


def test_minus_signs_are_minus_signs():
    assert format_signed(-0.31) == "−0.3"
    assert format_interval(-1.04, 2) == "(−1.0 to 2.0)"
    assert tick_format(abbreviated)(-0.5, 0) == "−0.5"
    sample = SampleRecord(1, "k", 0, "p", "r", "a", None, "wrong", -1.5, 0.0, True, 1, "eos", rewards={"brief": -0.25})
    assert reward_in_words(sample) == "reward −1.5 (brief −0.25)"


def test_the_command_says_where_the_page_is_and_what_came_out(small, tmp_path):
    told = write_report([small], tmp_path / "elsewhere", "trained_tokens").splitlines()
    assert told[0] == f"{len(ARMS)} arms × 3 seeds × 40 iterations: 9 finished runs."
    assert told[1].startswith("failed: seed=3 arm=raft: RuntimeError")
    assert [line.split(" is ")[0] for line in told[2:4]] == [
        "The final accuracy of RAFT++",
        "The final accuracy of RAFT++ without clipping",
    ]
    assert told[4].split(":")[1].startswith(" Does clipping matter?")
    assert told[-1] == str(tmp_path / "elsewhere" / "report.html")
    page = (tmp_path / "elsewhere" / "report.html").read_text()
    assert "response tokens trained on" in page
    assert "--x trained_tokens" in page
