"""The page `report.html` is complete, loads nothing, shows hostile text as text, and begins with the claims."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from study.report.conftest import read_page
from study.report.dressed import HOSTILE, write_dressed, write_failed_job, write_samples
from study.studies import ACCURACY, rows, write_run
from winnow.run_logs.plot_style import BAD, GOOD, GRID, INK, MUTED, PAPER
from winnow.study.differences import differences
from winnow.study.report.write import write_report
from winnow.study.study import read_study
from winnow.visible_text import visible

LOADS = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background"}
BAND = "No band: one run of each arm."


def test_nothing_is_loaded_from_elsewhere(small, page):
    loaded = [value for one in page.elements for key, value in one.attributes.items() if key in LOADS]
    assert loaded
    for value in loaded:
        assert value.startswith("#") or (small / value).is_file(), value
    text = (small / "report.html").read_text()
    assert not re.search(r"https?:", text)
    assert "@import" not in text
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)", text))


def test_no_script_runs_and_the_policy_forbids_any(page):
    assert not page.named("script")
    assert not [key for one in page.elements for key in one.attributes if key.startswith("on")]
    (policy,) = [one for one in page.named("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy.attributes["content"]


def test_places_are_unique_and_every_link_within_the_page_leads_to_one(page):
    places = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(set(places)) == len(places)
    links = [one.attributes["href"][1:] for one in page.named("a") if one.attributes["href"].startswith("#")]
    assert links
    assert set(links) <= set(places)


def test_a_hostile_response_is_shown_as_text(small, page):
    assert "<script>" not in (small / "report.html").read_text()
    shown = [one.text for one in page.named("pre") if "owned" in one.text]
    # Escapes of a terminal, marks of direction and halves of surrogate pairs are shown by their codes.
    assert visible(HOSTILE) in shown
    assert not {"\x1b", "\u202e"} & set((small / "report.html").read_text() + (small / "report.md").read_text())


def test_a_failed_job_is_named_with_its_reason(small, page):
    (box,) = [one for one in page.elements if one.attributes.get("role") == "alert"]
    assert "1 job failed" in box.text
    assert "seed=3 arm=raft failed, exit code 1: RuntimeError: <b>out of memory</b>" in box.text
    assert "`RuntimeError: <b>out of memory</b>`" in (small / "report.md").read_text()


def test_the_first_claim_answers_whether_clipping_matters(page):
    glance = page.classed("glance")[0].text
    badge, question = re.match(r"\s*(holds|does not hold|inside noise)(.*?\?)", glance).groups()
    assert question == "Does clipping matter?"
    card = page.at("claim-no_clip_under_raftpp")
    assert badge in card.text
    assert "95\u00a0%" in card.text  # the sentence has its interval
    seen = [one.attributes["href"] for one in page.named("a") if one.text == "see the figure"]
    assert seen[0] == "#final_accuracy"  # figure 2 lacks an arm, and Table 1's claim is the next


def test_the_page_begins_with_the_difference_of_each_arm_to_the_baseline(small, page):
    """The same figures as the drawing of final accuracy, in a table, with verdicts in words."""
    contents = [one.attributes["id"] for one in page.named("section") if "id" in one.attributes]
    assert contents[:3] == ["differences", "claims", "figures"]
    compared = differences(read_study([small]))
    assert [verdict.claim.b for verdict in compared] == ["raftpp", "raftpp_no_clip"]
    section, markdown = page.at("differences").text, (small / "report.md").read_text()
    for verdict in compared:
        assert verdict.sentence.replace(" %", "\u00a0%") in section
        assert f"- {verdict.sentence}\n" in markdown
    assert "difference to RAFT, points" in section
    assert "at the last evaluation alone" in section
    assert "Final is the last evaluation alone, late is the mean over the last quarter" in page.at("claims").text
    assert "Final is the last evaluation alone; late" in page.at("final_accuracy").text


def test_a_run_alone_is_said_to_have_nothing_beside_it(tmp_path):
    write_run(tmp_path / "run", "grpo", 0, rows({ACCURACY: 0.5}), overrides=["algo/clip=mine"])
    why = "No difference between arms is shown: GRPO algo/clip=mine is the only one."
    assert why in write_report([tmp_path], None, "iterations")
    assert why in read_page(tmp_path / "report.html").at("differences").text
    assert why in (tmp_path / "report.md").read_text()


def test_only_claims_whose_arms_are_there_are_shown(page):
    shown = {one.attributes["id"] for one in page.classed("claim")}
    assert shown == {
        "claim-no_clip_under_raftpp",
        "claim-no_clip_under_raft",
        "claim-raftpp_over_raft",
        "claim-raftpp_faster_than_raft",
    }


def test_every_figure_is_in_the_page_and_beside_it(small, page):
    names = [one.attributes["id"] for one in page.named("figure")]
    assert names == [
        "final_accuracy",
        "figure1",  # the only one of the paper's whose arms are all there
        "waterfall",
        "curves",
        "budgets",
        "accuracy_kl",
        "pass_at_k",
        "prompts",
        "signal",
    ]
    markdown = (small / "report.md").read_text()
    for name in names:
        assert (small / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(small / "figures" / f"{name}.svg").getroot().tag.endswith("svg")
        assert f"(figures/{name}.png)" in markdown


def test_figures_of_one_panel_share_a_row(tmp_path):
    """Of one run: learning curves and budgets, then pass@k and accuracy against KL, and prompts by outcome alone."""
    curves = {ACCURACY: lambda i: 0.4 + i / 20, "train/kl_ref": lambda i: 0.01 * i, "time/total": float}
    curves |= {"train/groups/frac_all_wrong": 0.2, "train/groups/frac_all_correct": 0.3}
    write_run(tmp_path / "run", "grpo", 0, rows(curves), correct={0: [0, 1], 8: [3, 4]})
    write_report([tmp_path], None, "iterations")
    figures = read_page(tmp_path / "report.html").named("figure")
    places = {one.attributes["id"]: one.attributes.get("class", "") for one in figures}
    assert places == {"curves": "", "budgets": "", "accuracy_kl": "half", "pass_at_k": "half", "prompts": "one"}


def test_figures_take_the_page_s_colours(page):
    sheet = page.named("style")[0].text
    for name, colour in {"ink": INK, "muted": MUTED, "grid": GRID, "page": PAPER, "good": GOOD, "bad": BAD}.items():
        assert f"--{name}: {colour};" in sheet.split("@media")[0]
    fixed = {style for one in page.elements for style in re.findall(r"#[0-9a-f]{6}", one.attributes.get("style", ""))}
    assert not fixed


def test_numbers_in_figures_are_cut_between_tags_only(page):
    numbers = [one.text for one in page.named("text") if re.fullmatch(r"[\d.]+", one.text)]
    assert "0.005" in numbers or "0.002" in numbers or "0.025" in numbers  # three decimals outlive the slimming
    paths = [one.attributes["d"] for one in page.named("path") if "d" in one.attributes]
    assert not [path for path in paths if re.search(r"\d\.(?!\d)", path)]


def test_a_response_says_what_became_of_it(page):
    right, wrong, still, silent = page.classed("response")[:4]
    assert "correct · kept · extracted “7” · gold “7” · advantage +1.50" in right.text
    assert "wrong · kept · extracted “8” · gold “7” · advantage −0.50" in wrong.text
    assert "wrong · rejected" in still.text
    assert "no answer extracted" in silent.text
    assert "not trained on" in silent.text
    assert [one.attributes["class"].split()[1] for one in (right, wrong, still)] == ["plus", "minus", "still"]
    assert [one.attributes["style"] for one in (right, wrong, still)] == ["--size:1.00", "--size:0.33", "--size:0.00"]


def test_of_an_iteration_24_responses_are_shown(page):
    heads = [one.text for one in page.named("summary") if one.text.startswith("Iteration")]
    assert heads[:3] == [f"Iteration {i}: 24 responses, 6 correct" for i in (1, 20, 40)]


def test_without_the_paper_s_arms_there_is_no_word_of_its_claims(tmp_path):
    for seed in range(2):
        for arm in ("a", "b"):
            curves = {ACCURACY: lambda i, s=seed: 0.5 + 0.01 * i + 0.02 * s, "train/kl_ref": 0.1}
            write_run(tmp_path / f"{arm}{seed}", None, seed, rows(curves), algo=arm)
    write_report([tmp_path], None, "iterations")
    page = read_page(tmp_path / "report.html")
    assert not page.classed("claim")
    assert "claims" not in page.named("nav")[0].text
    assert "minimalist" not in (tmp_path / "report.html").read_text().lower()
    assert "curves" in [one.attributes["id"] for one in page.named("figure")]


def test_a_single_run_has_a_report_without_any_interval(tmp_path):
    run = write_run(tmp_path / "run", "grpo", 0, rows({ACCURACY: lambda i: 0.5 + i / 20, "train/entropy": 0.1}))
    write_samples(run, 8)
    write_report([run], None, "iterations")
    page = read_page(run / "report.html")
    assert "one run only: no interval" in page.classed("note")[0].text
    assert BAND in page.at("curves").text.replace("\u00a0", " ")
    assert "Band:" not in page.at("curves").text
    assert not [one for one in page.named("path") if "fill-opacity: 0.13" in one.attributes.get("style", "")]
    assert "90.0 (one run)" in page.at("tables").text.replace("\u00a0", " ")


def test_jobs_that_wait_or_run_are_not_said_to_have_failed(tmp_path):
    write_dressed(tmp_path, ("raft",), range(2))
    write_failed_job(tmp_path, "seed=2 arm=raft", "ValueError: no")
    (running, _), table = sorted(tmp_path.glob("[01]")), tmp_path / "summary.csv"
    (running / "summary.json").write_text(json.dumps({"status": "running", "seed": 0}))
    rows = list(csv.DictReader(table.open(newline="")))
    rows[0] |= {"status": "waiting", "exit_code": ""}
    rows.append(rows[0] | {"job": "3", "overrides": "seed=3 arm=raft", "directory": str(tmp_path / "3")})
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    told = write_report([tmp_path], None, "iterations").splitlines()
    assert [line.split(":")[0] for line in told[1:4]] == ["running", "failed", "waiting"]
    headings = [one.text for one in read_page(tmp_path / "report.html").named("h2")]
    assert headings[:2] == ["1 job failed and is left out", "2 jobs have not ended and are left out"]


def test_a_study_of_failed_jobs_alone_has_a_page_that_says_so(tmp_path):
    write_dressed(tmp_path, ("raft",), range(1))
    for path in (tmp_path / "0").glob("summary.json"):
        path.write_text(path.read_text().replace('"done"', '"diverged"'))
    printed = write_report([tmp_path], None, "iterations")
    assert printed.startswith("No finished run.\nfailed: ")
    assert "1 job failed" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_thirteen_arms_with_five_seeds_stay_below_five_megabytes(tmp_path: Path):
    write_dressed(tmp_path)
    for directory in tmp_path.glob("*/samples"):  # as long as responses of a real model
        for iteration in (1, 20, 40):
            write_samples(directory.parent, iteration, response="<think>{}" + 4000 * "&<>\"'")
    printed = write_report([tmp_path], None, "iterations")
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    page = read_page(tmp_path / "report.html")
    figures = [one.attributes["id"] for one in page.named("figure")]
    assert {"figure1", "figure2", "figure3", "figure4", "waterfall"} <= set(figures)
    assert len(page.classed("claim")) == printed.count("?")
    assert printed.splitlines()[0] == "13 arms × 5 seeds × 40 iterations: 65 finished runs."
