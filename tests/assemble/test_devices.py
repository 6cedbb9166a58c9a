"""The number of processes that `hardware.devices=auto` stands for, and the GPUs of a job of a sweep."""

import pytest
from omegaconf import DictConfig

from running import SMALL, composed
from winnow.assemble import devices
from winnow.assemble.common import model_source
from winnow.assemble.devices import chosen_devices, gpus_of_job, on_devices
from winnow.config.instantiate import build_algorithm
from winnow.process_group import as_guest

MEGABYTE = 1_000_000
SERVER = ("engine=vllm_server", "rollout.staleness=0")


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "on_cuda", lambda cfg: cfg.hardware.accelerator == "auto")
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 8)


def asked(*words: str) -> DictConfig:
    return composed(*SMALL, "hardware=auto", *words)


def chosen(cfg: DictConfig) -> int:
    return chosen_devices(cfg, build_algorithm(cfg), model_source(cfg))


@pytest.mark.usefixtures("eight_gpus")
@pytest.mark.parametrize(
    ("words", "megabytes", "number"),
    [
        ((), 1000, 1),  # a whole model fits
        ((), 10, 8),
        (SERVER, 10, 7),  # the last GPU is the server's
        ((*SERVER, "engine.devices=[4,5,6,7]"), 10, 4),
        ((*SERVER, "engine.url=http://127.0.0.1:8000"), 10, 8),
        (("hardware.strategy=ddp",), 1000, 8),
        (("hardware.accelerator=cpu",), 10, 1),
    ],
)
def test_auto_is_one_device_or_all(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], megabytes: int, number: int
):
    monkeypatch.setattr(devices, "available_bytes", lambda cfg: megabytes * MEGABYTE)
    assert chosen(asked(*words)) == number


@pytest.mark.usefixtures("eight_gpus")
def test_a_notebook_trains_on_one_device():
    with as_guest():
        assert chosen(asked("hardware.strategy=ddp")) == 1
    assert chosen(asked("hardware.strategy=ddp")) == 8


def test_auto_is_what_torchrun_has_started(monkeypatch: pytest.MonkeyPatch):
    started = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert chosen(asked("hardware.nodes=2")) == 3


def test_a_number_stays():
    cfg = asked("hardware.devices=3")
    assert on_devices(cfg, 8) is cfg
    assert on_devices(asked(), 8).hardware.devices == 8


@pytest.mark.usefixtures("eight_gpus")
@pytest.mark.parametrize(
    ("words", "at_once", "number"),
    [
        ((), 1, 8),
        ((), 3, 2),
        ((), 20, 1),
        (("hardware.devices=2",), 3, 2),
        (("hardware.devices=2", *SERVER), 1, 3),
        (("hardware.devices=2", *SERVER, "engine.devices=[4,5]"), 1, 6),
        (("hardware.devices=2", *SERVER, "engine.devices=[0]"), 1, 2),
        (("hardware.accelerator=cpu",), 1, 0),
    ],
)
def test_a_job_gets_the_gpus_of_its_trainer_and_its_server(words: tuple[str, ...], at_once: int, number: int):
    assert gpus_of_job(asked(*words), at_once) == number
