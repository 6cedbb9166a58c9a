"""`winnow check`: right rules pass, and a wrong rule fails the check that is about its slip, and no other."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from running import CONF
from winnow import cli
from winnow.algorithm import PolicyGradient, Preference
from winnow.config.compose import composed
from winnow.config.groups import option_at
from winnow.config.instantiate import build_algorithm
from winnow.conformance.claims import claims_of
from winnow.conformance.pair_rules import PAIR_SELECT, SCORE, PairSelect, ScoreRule
from winnow.conformance.policy_objective import Composed
from winnow.conformance.run import RULES, findings, of_objective, of_rule
from winnow.errors import ConfigError
from winnow.objectives import KL
from winnow.ops import clip, kl, preference, ratio, select
from winnow.rule import reads

PAGE = (Path(__file__).parent.parent / "docs/own_objective.md").read_text()
FILE = re.compile(r"^```(?:python|yaml)\n# ([\w/.]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^winnow (check .*\b(?:rank$|across_prompts|per_token|forgetful|in_place)\b.*)", re.MULTILINE)
OF_THE_PAPER = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")
ALGORITHMS = tuple(sorted(path.stem for path in (CONF / "algo").glob("*.yaml")))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with all files of the page, as working directory; what was imported from it is forgotten."""
    for name, text in FILE.findall(PAGE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
        del sys.modules[name]


def failed(text: str) -> set[str]:
    """The names of the checks that failed."""
    return {line[16:].split("  ")[1].strip() for line in text.splitlines() if line.startswith("  FAILS")}


def test_the_examples_pass_and_fail_as_the_page_says(project: Path, capsys: pytest.CaptureFixture[str]):
    lines = COMMAND.findall(PAGE)
    assert len(lines) == 5
    for line in lines:
        words, _, comment = line.partition("#")
        expected = set(re.sub(r".*fails: ", "", comment).split(", ")) if comment else set()
        assert cli.exit_code(shlex.split(words)) == bool(expected)
        assert failed(capsys.readouterr().out) == expected, line


@pytest.mark.parametrize(
    "algo", [pytest.param(algo, marks=() if algo in OF_THE_PAPER else pytest.mark.faults) for algo in ALGORITHMS]
)
def test_every_algorithm_keeps_its_promises(algo: str, capsys: pytest.CaptureFixture[str]):
    assert cli.exit_code(["check", f"algo={algo}"]) == 0, capsys.readouterr().out
    assert "0 fail" in capsys.readouterr().out


@pytest.mark.parametrize("algo", [algo for algo in ALGORITHMS if algo not in OF_THE_PAPER])
def test_every_objective_keeps_its_promises(algo: str):
    """The others' rules are tested by themselves, below."""
    algorithm = build_algorithm(composed("train", [f"algo={algo}"], ("algo",)))
    assert isinstance(algorithm, PolicyGradient)
    found = list(of_objective(Composed(algorithm.objective, algorithm.aggregate)))
    assert [str(finding) for finding in found if finding.failed] == []


CHOICES = sorted(path for axis in RULES for path in (CONF / "algo" / axis).glob("*.yaml"))
OUTSIDE = {"gae", "extremes", "none"}
"""Rules of a critic and of pairs, which the algorithms of each cover; and choices that leave something out."""


@pytest.mark.parametrize("path", [path for path in CHOICES if path.stem not in OUTSIDE], ids=lambda p: p.stem)
def test_every_rule_keeps_its_promises(path: Path):
    node = OmegaConf.create({"rollout": {"max_tokens": 32}, "rule": option_at(path)})
    rule, axis = instantiate(node.rule, _convert_="all"), path.parent.name
    found = list(of_rule(axis, rule.estimator if isinstance(rule, KL) else rule))
    assert [str(finding) for finding in found if finding.failed] == []
    assert len(found) >= 5


PREFERENCES, DIVERGENCES = (
    sorted(path.stem for path in (CONF / "algo" / axis).glob("*.yaml")) for axis in ("preference", "divergence")
)


@pytest.mark.parametrize(
    ("loss", "divergence"),
    [*((loss, "reverse_kl") for loss in PREFERENCES), *(("sigmoid", each) for each in DIVERGENCES)],
)
def test_every_loss_of_pairs_keeps_its_promises(loss: str, divergence: str):
    files = CONF / "algo/preference" / f"{loss}.yaml", CONF / "algo/divergence" / f"{divergence}.yaml"
    rules = [instantiate(OmegaConf.load(file)) for file in files]
    smoothing = 0.1 if reads(rules[0], "smoothing") else 0.0
    algorithm = Preference(partial(select.extremes, pairs=1), *rules, 0.1, smoothing, "initial")
    found = list(findings(algorithm))
    assert [str(finding) for finding in found if finding.failed] == []
    assert len(found) == 30


def test_pairs_that_prefer_the_worse_response_fail():
    def worst(rewards: Tensor, correct: Tensor) -> Tensor:
        return select.extremes(rewards, correct)[:, [0, 2, 1]]

    assert [c.name for c in PAIR_SELECT if c("select", PairSelect(worst)).failed] == ["better chosen"]


def test_a_loss_of_pairs_with_its_sign_wrong_fails_at_the_reference():
    def hopeful(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
        return torch.nn.functional.softplus(beta * (chosen - rejected))

    assert failed_of_pairs(hopeful) == ["at the reference", "direction"]


def failed_of_pairs(rule: Callable, axis: str = "preference") -> list[str]:
    return [check.name for check in SCORE if check(axis, ScoreRule(axis, rule, {"beta": 0.1})).failed]


def _right_near_the_reference(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    margin = beta * (chosen - rejected)
    return torch.where(margin.abs() < 2, -torch.nn.functional.logsigmoid(margin), margin)


def _half_in_a_large_batch(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return preference.sigmoid(chosen, rejected, beta) * (0.5 if len(chosen) > 8 else 1)


def _back_from_a_margin(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return (beta * (chosen - rejected) - 2).square()


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        (_right_near_the_reference, "direction"),
        (_half_in_a_large_batch, "pairs alone"),
        (_back_from_a_margin, "direction"),
    ],
)
def test_a_wrong_loss_of_pairs_fails_the_check_of_its_slip(rule: Callable, check: str):
    assert failed_of_pairs(rule) == [check]


def test_a_target_of_the_margin_can_be_claimed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_back_from_a_margin, "claims", {"target"}, raising=False)
    assert failed_of_pairs(_back_from_a_margin) == []
    monkeypatch.setattr(_right_near_the_reference, "claims", {"target"}, raising=False)
    assert failed_of_pairs(_right_near_the_reference) == ["direction"]


def test_a_divergence_whose_score_falls_far_out_fails():
    assert failed_of_pairs(lambda log_ratio: log_ratio - log_ratio.square() / 20, "divergence") == ["direction"]


def test_a_rule_that_makes_no_pairs_fails():
    def none(rewards: Tensor, correct: Tensor) -> Tensor:
        return torch.zeros(0, 3, dtype=torch.int64)

    assert [c.name for c in PAIR_SELECT if c("select", PairSelect(none)).failed] == ["keeps something"]


def _whole(log_ratio: Tensor, like: Tensor) -> Tensor:
    return log_ratio.exp()[:, None].expand_as(like)


def _clipped_at_even_columns(ratio: Tensor, advantage: Tensor) -> Tensor:
    even = torch.arange(ratio.shape[1]) % 2 == 0
    return torch.where(even, clip.ppo(ratio, advantage, 0.2, 0.2), ratio * advantage)


def _clipped_less_among_many(ratio: Tensor, advantage: Tensor) -> Tensor:
    return clip.ppo(ratio, advantage, 0.2, 0.2) / (len(ratio) if len(ratio) > 8 else 1)


def _smaller_from_column_16_on(logprobs: Tensor, old: Tensor, response: Tensor) -> Tensor:
    return torch.where(torch.arange(logprobs.shape[1]) < 16, 1.0, 0.5) * ratio.token(logprobs, old, response)


def _smaller_in_wide_matrices(logprobs: Tensor, old: Tensor, response: Tensor) -> Tensor:
    return (1 if logprobs.shape[1] < 32 else 0.5) * ratio.token(logprobs, old, response)


def _first_four(rewards: Tensor, correct: Tensor) -> Tensor:
    return (torch.arange(correct.shape[1]) < 4).expand_as(correct)


def _first_twice(lengths: Tensor) -> Tensor:
    weights = torch.ones(len(lengths), dtype=torch.float64)
    weights[0] = 2
    return weights


@pytest.mark.parametrize(
    ("axis", "rule", "checks"),
    [
        # A whole row's ratio that overflows: e^250.
        ("ratio", lambda new, old, where: _whole(((new - old) * where).sum(1), new), "extreme log-ratios"),
        # The mean over the width of the padded row, prompt and padding included.
        ("ratio", lambda new, old, where: _whole(((new - old) * where).mean(1), new), "padding"),
        # A gate that forgets what it is multiplied with.
        ("clip", lambda ratio, a: ratio * a + 0.1 * ratio, "on policy, zero advantage, scale of advantage"),
        # A constant that nobody claimed.
        ("clip", lambda ratio, advantage: ratio.clamp(max=1.2).detach() * advantage * ratio.log(), "gradient"),
        # A bound on the advantage.
        ("clip", lambda ratio, advantage: ratio * advantage.clamp(-1, 1), "on policy, scale of advantage"),
        # A batch's mean in place of a row's.
        ("correction", lambda ratio: ratio / ratio.max(), "rows alone"),
        ("kl", lambda delta: delta.square() + 1, "at the reference"),
        ("select", lambda rewards, correct: correct.float(), "shape"),
        ("select", lambda rewards, correct: rewards > rewards.median(), "regrouping"),
        ("advantage", lambda rewards: rewards - rewards[:, :1], "order of samples"),
        # The two terms of the difference the wrong way round.
        ("advantage", lambda rewards: rewards.mean(1, keepdim=True) - rewards, "direction"),
        # PPO's bound with max in the place of min.
        ("clip", lambda ratio, a: torch.maximum(ratio * a, ratio.clamp(0.8, 1.2) * a), "way back"),
        # The first row counts twice: found however the other rows move.
        ("aggregate", lambda n: (_first_twice(n), n.double()), "order of rows, rows alone"),
        # What looks at the number of a column, which is a matter of padding.
        ("clip", _clipped_at_even_columns, "padding"),
        ("tokens", lambda entropies, where: where & (torch.arange(where.shape[1]) % 2 == 0), "padding"),
        ("ratio", _smaller_from_column_16_on, "padding"),
        ("ratio", _smaller_in_wide_matrices, "padding"),
        # What changes with the size of a batch.
        ("clip", _clipped_less_among_many, "rows alone"),
        ("aggregate", lambda n: (n.double() / (n if len(n) <= 8 else 2 * n), n.double()), "rows alone"),
        ("tokens", lambda entropies, where: where & (torch.arange(len(where)) < 8)[:, None], "order of rows"),
        ("advantage", lambda r: (r - r.mean(1, keepdim=True)) * (2 if len(r) > 5 else 1), "regrouping"),
        ("select", _first_four, "order of samples"),
        ("select", lambda rewards, correct: torch.zeros_like(correct), "keeps something"),
        # A penalty that rewards going away or none of both, and a weight that is upside down.
        ("kl", lambda delta: -delta.square() / 2, "mean not negative"),
        ("kl", lambda delta: -kl.k3(delta), "mean not negative"),
        ("kl", lambda delta: -delta, "mean not negative"),
        ("kl", lambda delta: 0 * delta, "mean not negative"),
        ("correction", lambda ratio: (1 / ratio).clamp(max=2), "direction"),
        ("advantage", lambda r: r / r.std(1, correction=0, keepdim=True), "equal rewards, extreme rewards"),
    ],
)  # fmt: skip
def test_a_wrong_rule_fails_the_check_of_its_slip(axis: str, rule: Callable, checks: str):
    assert [finding.check for finding in of_rule(axis, rule) if finding.failed] == checks.split(", ")


def test_a_claim_is_held(capsys: pytest.CaptureFixture[str]):
    def half(rewards: Tensor) -> Tensor:
        return rewards - 0.5

    half.claims = {"shift"}
    assert [finding.check for finding in of_rule("advantage", half) if finding.failed] == ["shift of rewards"]
    half.claims = {"shift", "any_order"}
    assert [finding.check for finding in of_rule("advantage", half) if finding.failed] == ["shift of rewards"]
    half.claims = {"shifty"}
    with pytest.raises(ConfigError, match=r"shifty.*must be a set of some of shift, scale"):
        claims_of(half)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("algo=gppo", "algo=gppo"),
        ("algo=grpo algo/clip=ppo algo/ratio=none", "clipping needs a ratio to clip"),
        ("algo/clip=soft", "algo/clip=soft"),
    ],
)
def test_bad_input_is_one_line(words: str, part: str, capsys: pytest.CaptureFixture[str]):
    assert cli.exit_code(["check", *words.split()]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert part in line
