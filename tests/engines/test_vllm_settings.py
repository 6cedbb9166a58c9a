"""Settings and refusals of `engine=vllm`, tested without vLLM; `make test-vllm` runs the rest."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from running import composed
from winnow import distributed, installed
from winnow.assemble import common
from winnow.config.instantiate import max_mismatch_kl, samples_exactly
from winnow.engines.base import Engine
from winnow.engines.vllm_engine import VllmEngine
from winnow.errors import ConfigError
from winnow.models.language_model import LanguageModel
from winnow.types import Prompt, Sampling


def test_a_missing_package_is_reported_before_any_weight_is_loaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    cfg = composed("engine=vllm", "model.path=./nowhere_yet", "hardware=cpu")
    source = common.model_source(composed("hardware=cpu"))
    with pytest.raises(ConfigError, match=r"engine=vllm: vllm is not installed; type pip install 'winnow-rl\[vllm\]'"):
        common.require_engine(cfg, source)


def test_an_engine_without_requirements_is_not_checked():
    common.require_engine(composed("engine=torch"), common.model_source(composed("hardware=cpu")))


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("hardware.precision=32-true", "float32"),
        ("hardware.precision=bf16-mixed", "bfloat16"),
        ("engine.dtype=float16", "float16"),
    ],
)
def test_its_weights_have_the_trainers_precision_unless_set(small: LanguageModel, words: str, dtype: str):
    engine = common.engine_of(composed("engine=vllm", "hardware=cpu", words), small)
    assert isinstance(engine, VllmEngine)
    assert isinstance(engine, Engine)
    assert engine.settings["dtype"] == dtype


def test_an_engine_gets_only_the_settings_that_it_has(small: LanguageModel):
    """The torch engine has `max_rows`, vLLM has not."""
    bounded = common.engine_of(composed("engine=torch"), small, max_rows=1)
    assert isinstance(bounded, Engine)
    common.engine_of(composed("engine=vllm"), small, max_rows=1)


def test_its_samples_are_never_exact():
    assert not samples_exactly(composed("engine=vllm", "hardware.precision=32-true"))
    assert samples_exactly(composed("engine=torch", "hardware.precision=32-true"))
    assert not samples_exactly(composed("engine=torch", "hardware.precision=bf16-mixed"))


def test_the_bound_on_the_mismatch_depends_on_the_precision_unless_set():
    assert max_mismatch_kl(composed("hardware.precision=32-true")) == 1e-5
    assert max_mismatch_kl(composed("hardware.precision=bf16-mixed")) == 0.1
    assert max_mismatch_kl(composed("rollout.max_mismatch_kl=0.5")) == 0.5


def test_sampling_before_the_first_weights_is_an_error(small: LanguageModel):
    engine = common.engine_of(composed("engine=vllm"), small)
    with pytest.raises(RuntimeError, match="before sync"):
        engine.generate([Prompt("p", (3, 4), "", "")], [[0]], Sampling(1.0, 4))


class Recorder:
    """A stand-in for vLLM that records its calls in order."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.llm_engine = SimpleNamespace(has_unfinished_requests=lambda: False)
        self.model_config = SimpleNamespace(max_model_len=8)

    def collective_rpc(self, method: str, kwargs: dict) -> None:
        self.calls.append((method, sorted(name for name, _ in kwargs["weights_iterator"])))

    def __getattr__(self, name: str):
        return lambda *args, **more: self.calls.append((name, *args, *more.values()))


def test_waking_it_brings_weights_before_memory_for_keys_and_values(
    small: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    """Sleep at level 2 drops the weights, so that without new ones it would sample from garbage.

    The prefix cache holds keys and values of the old weights and has to be emptied.
    """
    monkeypatch.setattr(distributed, "device_of", lambda model: torch.device("cuda"))
    engine = common.engine_of(composed("engine=vllm"), small)
    assert isinstance(engine, VllmEngine)
    engine._llm = llm = Recorder()
    names = sorted(name for name, _ in small.model.named_parameters())  # the tied head once
    awake = [("reload_weights", names), ("reset_prefix_cache",), ("update_weight_version", "0")]
    asleep = [("wake_up", ["weights"]), awake[0], ("wake_up", ["kv_cache"]), *awake[1:]]
    engine.sync(small.model, 0)
    engine.generate([], [], Sampling(1.0, 4))
    assert llm.calls == [*awake, ("sleep", 2)]
    llm.calls.clear()
    engine.sync(small.model, 0)
    engine.sync(small.model, 0)
    assert llm.calls == asleep
    engine.generate([], [], Sampling(1.0, 4))
    engine.generate([], [], Sampling(1.0, 4))  # wakes it by itself
    assert llm.calls == [*asleep, ("sleep", 2), *asleep, ("sleep", 2)]


def test_a_prompt_longer_than_a_sequence_may_be_is_refused(small: LanguageModel):
    engine = common.engine_of(composed("engine=vllm"), small)
    assert isinstance(engine, VllmEngine)
    engine._llm, engine._model = Recorder(), small.model
    with pytest.raises(
        ConfigError, match=r"prompt p has 9 tokens, and a sequence may have 8; type engine\.max_model_len"
    ):
        engine.generate([Prompt("p", tuple(range(3, 12)), "", "")], [[0]], Sampling(1.0, 4))


def test_nothing_else_imports_vllm():
    """Not even the module of its engine imports it before it is used."""
    script = "import sys, winnow.assemble.training, winnow.engines.vllm_engine; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
