"""Names of other tools: each has an answer, which composes, and a wrong key that is one of them gets it."""

import inspect
from dataclasses import fields

import pytest
import pytorch_lightning as pl
from pytorch_lightning import callbacks

from winnow.config import checks
from winnow.config.callback_targets import OBSERVERS
from winnow.config.command_line import read_command_line
from winnow.config.compose import CONF, Composer, composed, register_unique_name
from winnow.config.other_names import (
    ALGORITHMS,
    LIGHTNING_CALLBACKS,
    LIGHTNING_TRAINER,
    NOT_SETTINGS,
    OtherName,
    other_names,
)
from winnow.config.override_check import OverrideCheck
from winnow.config.ranges import check_ranges
from winnow.config.schema import TrainerConfig
from winnow.errors import ConfigError
from winnow.training.lightning_settings import TrainerSettings

SETTINGS = [other for other in other_names() if other.tool not in NOT_SETTINGS]


def checked(words: list[str]) -> None:
    cfg = composed("train", words)
    check_ranges(cfg)
    checks.check_targets(cfg)


def words_of(other: OtherName) -> list[str]:
    """The overrides that the table gives for the example of a value."""
    value = other.value
    return other.words(str(value).lower() if isinstance(value, bool) else str(value)).split()


def test_what_to_type_for_certain_values_composes():
    for other in other_names():
        for value in other.values:
            checked(other.words(value).split())
            assert other.words(value) != other.type


@pytest.mark.parametrize("other", [o for o in other_names() if o.tool == ALGORITHMS], ids=lambda o: o.name)
def test_an_algorithm_by_the_name_of_its_paper(other: OtherName):
    checked(other.type.split())
    with pytest.raises(ConfigError) as error:
        composed("train", [f"algo={other.name.upper().replace('-', '')}"])
    assert f"type {other.type}" in str(error.value)


def test_every_argument_of_lightnings_trainer_has_an_answer():
    ours = {field.name for field in fields(TrainerConfig)}
    theirs = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    answered = {other.name for other in other_names() if other.tool == LIGHTNING_TRAINER}
    assert ours <= theirs
    assert theirs - ours == answered
    assert ours == {field.name for field in fields(TrainerSettings)} - {"callbacks"}


def test_every_callback_of_lightnings_is_an_observer_or_has_an_answer():
    answered = {other.name for other in other_names() if other.tool == LIGHTNING_CALLBACKS}
    assert answered | set(OBSERVERS) == set(callbacks.__all__)
    assert not answered & set(OBSERVERS)


@pytest.fixture(scope="module")
def composer() -> Composer:
    register_unique_name()
    return Composer("train", CONF, read_command_line([]))


def test_what_to_type_composes(composer: Composer):
    for other in other_names():
        assert (other.value is None) == ("VALUE" not in other.type), other
        assert other.type or other.note, other
    of_choices: dict[tuple[str, ...], list[str]] = {}
    for other in other_names():
        words = [word for word in words_of(other) if not word.startswith("resume=")]
        choices = tuple(word for word in words if composer.groups.chosen_by(composer.parse([word])[0]))
        of_choices.setdefault(choices, []).extend(word for word in words if word not in choices)
    for choices, keys in of_choices.items():
        if "reward=function" not in choices or (CONF / "reward" / "function.yaml").exists():
            composer.compose([*choices, *keys])


def test_a_name_of_another_tool_is_answered(composer: Composer):
    cfg = composer.compose([])
    for other in SETTINGS:
        value = other.value if other.value is not None else 1
        typed = str(value).lower() if isinstance(value, bool) else str(value)
        key = f"trainer.{other.name}" if other.tool == LIGHTNING_TRAINER else other.name
        with pytest.raises(ConfigError) as error:
            OverrideCheck(composer.groups, cfg, composer.parse([f"{key}={typed}"])[0]).refuse()
        said = str(error.value)
        assert said.count("\n") == 0
        # A name that two tools share has the answer of one of them.
        same = [o for o in SETTINGS if o.name == other.name or o.name.endswith(f".{other.name}")]
        assert any(o.words(typed) in said and o.note in said for o in same) or "did you mean" in said, said


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("num_generations=8", "rollout.samples=8"),
        ("num_generation=8", "rollout.samples=8"),
        ("training.num_generations=8", "rollout.samples=8"),
        ("+num_generations=8", "rollout.samples=8"),
        ("rollout.n=8", "rollout.samples=8"),
        ("+trainer.max_epochs=3", "iterations=3"),
        ("optim.learning_rate=1e-4", "optim.lr=1e-4"),
        ("logger.project=mine", "logger.wandb.project=mine"),
        ("scale_rewards=none", "type algo/advantage=centred"),
        ("scale_rewards=false", "type algo/advantage=centred"),
        ("loss_type=dr_grpo", "type algo/aggregate=constant_length"),
        ("algorithm.adv_estimator=reinforce_plus_plus", "type algo=reinforce_pp"),
        ("algo/advantage=rloo", "type algo=rloo"),
        ("model=Qwen/Qwen2.5-0.5B", "model=custom model.path=Qwen/Qwen2.5-0.5B"),
        ("model=gpt2", "model=custom model.path="),
        ("dataset=sums.jsonl", "dataset=file dataset.path=sums.jsonl"),
        ("dataset=me/sums", "dataset=hub dataset.repository=me/sums"),
        ("reward=mine.rewards:f", "reward=function reward.functions=[mine.rewards:f] plugins=[mine]"),
        # Ours come first.
        ("lr=1e-4", "optim.lr"),
        ("optim.beta=0.9", "optim.betas"),
        ("algo.beta=0.1", "algo=dpo algo.beta=0.1"),
        ("beta=0.1 algo=dpo", "algo.beta"),
        ("logger=csv,wandb", "logger=[csv,wandb]"),
    ],
)
def test_names_that_are_nearly_or_partly_theirs(typed: str, instead: str):
    with pytest.raises(ConfigError) as error:
        composed("train", typed.split())
    assert instead in str(error.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("logger=gone", "no such choice"),
        ("logger=[csv,gone]", "no such choice"),
        ("logger=null", "by not naming it"),
        ("logger.csv=3", "logger=csv"),
        ("+logger.mine=3", "logger.mine"),
        ("+logger.mine._target_=os.system", "plugins=[os]"),
        ("logger.wandb.mode=sometimes", "logger.wandb.mode"),
        ("logger.wandb.project=''", "logger.wandb.project"),
        ("logger=mlflow logger.mlflow.tracking_uri=''", "logger.mlflow.tracking_uri"),
        ("logger=trackio logger.trackio.project=5", "logger.trackio.project"),
        ("algo=[grpo,raft]", "takes one choice"),
        ("trainer=gone", "no such choice"),
        ("trainer.profiler=fast", "trainer.profiler"),
        ("trainer.deterministic=maybe", "trainer.deterministic"),
        ("trainer.deterministic=1", "trainer.deterministic"),
        ("trainer.benchmark=fast", "trainer.benchmark"),
        ("trainer.detect_anomaly=null", "trainer.detect_anomaly"),
        ("trainer.gradient_clip_val=1", "optim.grad_clip=1"),
        ("~trainer", "trainer"),
        ("callbacks=early_stopping", "no such choice"),
        ("+callbacks.x._target_=pytorch_lightning.callbacks.EarlyStopping", "budget.seconds"),
        ("+callbacks.x._target_=pytorch_lightning.callbacks.ModelCheckpoint", "checkpoint.every"),
        ("+callbacks.x._target_=pytorch_lightning.Trainer", "callbacks.x"),
        ("+callbacks.x._target_=lightning.pytorch.callbacks.Timer", "pytorch_lightning.callbacks.Timer"),
        ("+callbacks.x._target_=winnow.run_logs.csv_table.CSVTracker", "no callback"),
        ("+callbacks.x._target_=mine.Callback", "plugins=[mine]"),
        ("+callbacks.x=3", "callbacks.x"),
        ("callbacks=timer logger=none", "logger=csv"),
        ("callbacks=device_stats callbacks.device_stats.cpu_stats=3", "cpu_stats"),
        ("callbacks=model_summary callbacks.model_summary.max_depth=-2", "max_depth"),
        ("callbacks=learning_rate_monitor +callbacks.learning_rate_monitor.every=2", "every"),
        ("hparams_search=gone", "no such choice"),
        ("optimized_metric=accuracy", "optimized_metric"),
        ("optimized_metric=''", "optimized_metric"),
        ("task_name=a/b", "task_name"),
        ("task_name=..", "task_name"),
        ("task_name=", "task_name"),
        (f"task_name={'a' * 300}", "aaa: must be a name of letters, digits, and . _ - + between them, of 60"),
        ("extras.print_config=maybe", "extras.print_config"),
        ("extras.print=true", "print_config"),
        ("rollout.problems=0", "rollout.problems"),
        ("rollout.problems=2", "rollout.prompts=2"),
        ("debug=fdr", "no such choice"),
    ],
)
def test_wrong_settings_of_what_observes(typed: str, said: str):
    with pytest.raises(ConfigError) as error:
        checked(typed.split(" "))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_typed_as_an_option_of_the_command_line():
    with pytest.raises(ConfigError, match=r"--num_generations: .* type rollout.samples=VALUE"):
        read_command_line(["--num_generations", "8"])
    with pytest.raises(ConfigError, match=r"--verbosity.*--hydra-help lists"):
        read_command_line(["--verbosity=2"])


def test_one_thing_at_a_time_is_shown_or_run():
    with pytest.raises(ConfigError, match=r"--multirun and --cfg: .* leave out --multirun"):
        read_command_line(["-m", "seed=1,2", "--cfg", "hydra"])
    assert read_command_line(["-m", "seed=1,2"]).multirun
