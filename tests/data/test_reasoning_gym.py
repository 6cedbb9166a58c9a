"""Tasks with their own scorer; skipped if the package (extra `tasks`) is not installed."""

import json
import re

import pytest

from running import composed
from winnow.config.nodes import build_node
from winnow.data.reasoning_gym import TASKS, ReasoningGym
from winnow.errors import ConfigError
from winnow.rewards.answers.text import last_boxed
from winnow.rewards.rules import TaskScore
from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict

pytest.importorskip("reasoning_gym", reason="the extra `tasks` is not installed: make tasks")
from winnow.rewards.answers.procedural import full_score

GARBAGE = ("zzz", "-1", "[]", "{}")


@pytest.fixture
def gym():
    return pytest.importorskip("reasoning_gym", reason="the extra `tasks` is not installed: make tasks")


def accepted(gold: str, text: str) -> bool:
    """The result of a worker: a scorer that raises is a crash, and a crash is not a success."""
    try:
        return full_score(gold, text)
    except Exception:
        return False


@pytest.mark.parametrize("task", sorted(TASKS))
def test_oracle_1_garbage_0_empty_0(gym, task: str):
    """The whole path of a response: into a box, out of the box, and to the scorer."""
    dataset = gym.create_dataset(task, seed=3, size=2)
    gold = json.dumps({"task": task, "seed": 3, "index": 1})
    answer = str(dataset[1]["answer"])
    assert full_score(gold, last_boxed(f"So \\boxed{{{answer}}}."))
    for text in (*GARBAGE, "", dataset[1]["question"]):
        assert text == answer or not accepted(gold, text), text


def test_a_verifier_judges_and_survives_the_scorers(gym):
    problems = ReasoningGym(["chain_sum", "prime_factorization"], 0, 2, 1, "drop").load(lambda golds: [], True).train
    golds = [problem.answer for problem in problems]
    oracle = [str(gym.create_dataset(p.key.split(":")[0], seed=0, size=3)[int(p.key[-1])]["answer"]) for p in problems]
    with Verifier(rule=TaskScore()) as verifier:
        assert verifier.check_golds(golds) == []
        right = verifier.judge(golds, [rf"\boxed{{{answer}}}" for answer in oracle])
        wrong = verifier.judge(golds, [r"\boxed{zzz}" for _ in golds])
        bare = verifier.judge(golds, oracle)
    assert {j.verdict for j in right} == {Verdict.correct}
    assert Verdict.correct not in {j.verdict for j in wrong}
    assert {j.verdict for j in bare} == {Verdict.no_answer}


def test_the_dataset_brings_its_verifier_and_the_problems_do_not_depend_on_how_many_there_are(gym):
    cfg = composed("dataset=reasoning_gym", "dataset.train_size=3", "dataset.heldout_size=2")
    assert build_node(cfg.reward.verifier).name == "reasoning_gym"
    few = build_node(cfg.dataset).load(lambda golds: [], True)
    many = ReasoningGym(["chain_sum"], 0, 20, 2, "drop").load(lambda golds: [], True)
    assert [p.text for p in few.train] == [p.text for p in many.train[:3]]
    assert [p.key for p in few.heldout] == ["chain_sum:3", "chain_sum:4"]


def test_a_task_that_cannot_be_trusted_is_refused(gym):
    for task in ("game_of_life_halting", "chain_sums"):
        with pytest.raises(ConfigError, match=rf"{task} is not on the list"):
            ReasoningGym([task], 0, 1, 1, "drop").load(lambda golds: [], True)


def test_options_of_a_task_reach_its_problems_its_demonstrations_and_its_scorer(gym):
    options = {"chain_sum": {"min_terms": 3, "max_terms": 3, "max_digits": 1}}
    problems = ReasoningGym(["chain_sum"], 0, 4, 2, "drop", options).load(lambda golds: [], True)
    for problem in (*problems.train, *problems.heldout):
        terms = re.findall(r"\d+", problem.text)
        assert len(terms) == 3
        assert all(len(term) == 1 for term in terms)
        value = eval(problem.text.split(":")[1].rstrip(" ="))
        assert problem.solution == rf"\boxed{{{value}}}"
        assert full_score(problem.answer, str(value))
        assert not full_score(problem.answer, str(value + 1))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"chain_sum": {"max_term": 3}}, "chain_sum.max_term: .*max_terms"),
        ({"chain_sum": {"min_terms": 9}}, "max_terms must be"),
        ({"chain_sum": {"min_terms": "a"}}, "reasoning-gym refuses"),
        ({"chain_sum": {"seed": 3}}, "chain_sum.seed: chain_sum has no such option"),
        ({"gcd": {}}, "dataset.options.gcd: not among"),
    ],
)
def test_an_option_that_a_task_does_not_have_is_refused(gym, options: dict[str, dict[str, object]], names: str):
    with pytest.raises(ConfigError, match=names):
        ReasoningGym(["chain_sum"], 0, 1, 1, "drop", options).load(lambda golds: [], True)
