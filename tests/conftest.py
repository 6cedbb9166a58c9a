"""Small models and a quiet, single-threaded torch for every test."""

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings

from winnow.models.language_model import FreshTiny, LanguageModel
from winnow.models.templates import Plain

# A shell without job control starts what runs in the background with Ctrl-C ignored, and nohup with SIGHUP ignored; the
# programs that the tests start would inherit that, and leave such signals ignored on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

torch.set_num_threads(1)
# The same examples in every run, and no deadline: the time of one example says nothing on a shared machine.
settings.register_profile("winnow", derandomize=True, deadline=None)
settings.load_profile("winnow")


@pytest.fixture
def small() -> LanguageModel:
    """Two layers of width 16 with random weights, in float64, over the embedded tokenizer."""
    source = FreshTiny("small", Plain(), 0, layers=2, width=16, heads=2, kv_heads=1, intermediate=32, positions=128)
    language_model = source.load()
    language_model.model.double()
    return language_model


@pytest.fixture
def fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No key, no settings, no service of an earlier test, and nothing written outside tmp_path."""
    import wandb

    from winnow.run_logs import wandb_run as wandb_service

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home" / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in wandb_service.ENVIRONMENT:  # set and deleted, so that what a run sets is taken back too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    wandb.teardown()
    yield
    wandb_service.tear_down()
