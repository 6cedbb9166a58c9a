"""Arms' colours differ enough for normal vision and for colour blindness."""

import re
from itertools import combinations

import numpy as np
import pytest

from winnow.study.report.learning_curves import PAPER_FIGURES
from winnow.study.report.panels import ARM_STYLES, CYCLE, LONGEST_NAME, arm_styles, text_width

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
LMS = np.array([[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]])
LAB = np.array([[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]])
"""Linear RGB to cones, and their cube roots to OKLab (Ottosson, 2020)."""


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def seen(colour: str, eye: str) -> np.ndarray:
    return LAB @ np.cbrt(LMS @ np.clip(np.array(EYES[eye]) @ linear(colour), 0, 1))


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize("figure", PAPER_FIGURES, ids=lambda figure: figure.name)
def test_arms_of_a_figure_are_apart_to_any_eye(figure, page, eye):
    """A distance of 0.02 in OKLab is about what can just be seen."""
    for a, b in combinations(figure.arms, 2):
        assert np.linalg.norm(seen(ARM_STYLES[a][page], eye) - seen(ARM_STYLES[b][page], eye)) > 0.08, (a, b)


@pytest.mark.parametrize("arm", ARM_STYLES)
def test_lines_stand_out_from_both_pages(arm):
    assert contrast(ARM_STYLES[arm]["light"], "#ffffff") > 3.3
    assert contrast(ARM_STYLES[arm]["dark"], "#14171c") > 4.5


def test_an_arm_keeps_its_colour_whatever_stands_beside_it():
    alone, among = arm_styles([("grpo", "GRPO")]), arm_styles([("raft", "RAFT"), ("other", "Other"), ("grpo", "GRPO")])
    assert alone["grpo"].light == among["grpo"].light
    assert among["other"].light != among["grpo"].light
    assert sorted(CYCLE) == sorted(ARM_STYLES)


def test_names_beside_curves_fit_and_differ():
    typed = [f"optim.lr={i}e-5 algo.clip.high=0.28 rollout.samples=8" for i in range(12)]
    titles = [style.title for style in arm_styles([(f"grpo {one}", f"GRPO {one}") for one in typed]).values()]
    assert titles[:2] == ["GRPO lr=0e-5 hig…", "GRPO lr=1e-5 hig…"]
    assert len(set(titles)) == 12
    assert max(text_width(title, "bold") for title in titles) <= LONGEST_NAME
    alike = arm_styles([(one, one) for one in ("a" * 30, "a" * 31, "algo/clip=none")])
    first, second, third = (style.title for style in alike.values())
    assert re.fullmatch("a{8,}…", first)
    assert re.fullmatch("a{8,}… #2", second)
    assert third == "clip=none"


def test_a_name_is_not_cut_within_a_number():
    """1.122977233… would be read as a learning rate of one."""
    tried = [f"grpo optim.lr={rate}" for rate in (1.122977233797048e-05, 1.1257628736587934e-05, 0.0005910317077425306)]
    names = [style.title for style in arm_styles([(one, one.replace("grpo", "GRPO")) for one in tried]).values()]
    assert names == ["GRPO lr=1.12e-05", "GRPO lr=1.13e-05", "GRPO lr=0.000591"]
