"""Verification rules: the verdict of each on every trap, their settings, and their time on hostile answers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from benchmarks.verifier_traps import TRAPS, Trap
from winnow.errors import ConfigError
from winnow.rewards.rules import Exact, MathVerify, Numeric, Rule
from winnow.rewards.verifier import Verifier

CONF = Path(__file__).parents[2] / "conf" / "reward" / "verifier"
VERDICTS = {"c": "correct", "w": "wrong", "n": "no_answer"}


@pytest.fixture(scope="module")
def verifiers(verifier: Verifier) -> Iterator[Mapping[str, Verifier]]:
    with Verifier(rule=Numeric(), workers=1) as numeric, Verifier(rule=Exact()) as exact:
        yield {"math_verify": verifier, "numeric": numeric, "exact": exact}
        assert exact._pool.pids == []


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: f"{trap.gold} | {trap.response}")
def test_a_trap_is_closed_under_every_rule(verifiers: Mapping[str, Verifier], trap: Trap) -> None:
    found = {name: verifier.judge([trap.gold], [trap.response])[0].verdict for name, verifier in verifiers.items()}
    assert found == {name: VERDICTS[getattr(trap, name)] for name in verifiers}


def test_rules_read_the_same_text_the_same_way(verifiers: Mapping[str, Verifier]) -> None:
    """The verifier extracts the answer, so that whether there is one cannot depend on the rule."""
    for trap in TRAPS:
        answers = {verifier.judge([trap.gold], [trap.response])[0].answer for verifier in verifiers.values()}
        assert len(answers) == 1


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (MathVerify(), {"name": "math_verify"}),
        (Numeric(), {"name": "numeric", "relative": 1e-4}),
        (Numeric(relative=0.01), {"name": "numeric", "relative": 0.01}),
        (Exact(), {"name": "exact"}),
    ],
)
def test_a_verifier_reports_its_name_and_settings(rule: Rule, settings: dict[str, object]) -> None:
    with Verifier(rule=rule) as verifier:
        assert verifier.settings == json.loads(json.dumps(verifier.settings)) == settings
        assert verifier.name == settings["name"]


def test_a_verifier_without_a_rule_is_math_verify() -> None:
    with Verifier() as verifier:
        assert verifier.name == "math_verify"


@pytest.mark.parametrize(("relative", "verdict"), [(0.0, "wrong"), (1e-4, "wrong"), (1e-2, "correct")])
def test_the_tolerance_reaches_the_workers(relative: float, verdict: str) -> None:
    """ln 2 = 0.6931…, from which 0.6949 differs by 0.26 %."""
    with Verifier(rule=Numeric(relative=relative), workers=1) as verifier:
        assert verifier.judge_answers(["0.6949"], [r"\ln 2"])[0].verdict == verdict
        assert verifier.judge_answers(["0.6949"], ["0.6931"])[0].verdict == verdict


@pytest.mark.parametrize("relative", [-1e-4, 1.0, float("nan")])
def test_a_tolerance_outside_its_range_is_refused(relative: float) -> None:
    with pytest.raises(ConfigError, match="relative"):
        Numeric(relative=relative)


@pytest.mark.parametrize("rule", [MathVerify(), Numeric(), Exact()], ids=lambda rule: rule.name)
def test_a_hostile_answer_takes_no_time_of_the_rule(rule: Rule) -> None:
    for answer in (
        "5" + " m" * 1000,
        "5" + r"\text{m}" * 250,
        r"\frac{" * 60 + "5",
        "1,-" * 600,
        "5" * 2_000_000,
        "m" * 2000,
    ):
        rule.settle("5", answer)
        rule.settle("1,2,3", answer)


@pytest.mark.parametrize("rule", [MathVerify(), Numeric(), Exact()], ids=lambda rule: rule.name)
def test_a_rule_is_chosen_by_its_name_with_the_settings_it_has_in_code(rule: Rule) -> None:
    node = yaml.safe_load((CONF / f"{rule.name}.yaml").read_text())["rule"]
    assert node.pop("_target_") == f"{type(rule).__module__}.{type(rule).__name__}"
    assert node == rule.settings
