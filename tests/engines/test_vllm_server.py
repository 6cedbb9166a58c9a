"""`engine=vllm_server` with a server that answers as vLLM does; `make test-vllm` runs it with vLLM itself."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fake_vllm import EOS, FakeVllm
from running import composed
from winnow import signals
from winnow.assemble import common
from winnow.engines import weight_files
from winnow.engines.base import Engine, draws_beside
from winnow.engines.own_server import ServerSettings, server_environment
from winnow.engines.server_process import NOT_THE_SERVERS
from winnow.engines.vllm_http import address_of
from winnow.engines.vllm_server import VllmServerEngine
from winnow.engines.weight_transfer import served_weights
from winnow.errors import ConfigError, Stopped
from winnow.models.language_model import FreshTiny, LanguageModel
from winnow.models.lora import Lora
from winnow.models.templates import Plain
from winnow.types import Completion, Finish, Prompt, Sampling

PROMPTS = [Prompt("a", (3, 4, 5), "", ""), Prompt("b", (6, 7), "", ""), Prompt("c", (8,), "", "")]
SEEDS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
HOW = Sampling(1.0, 8)


@pytest.fixture
def fake(small: LanguageModel) -> Iterator[FakeVllm]:
    with FakeVllm(small.model.config.to_dict()) as server:
        yield server


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def engine(fake: FakeVllm, said: list[str]) -> Iterator[VllmServerEngine]:
    found = engine_at(fake.url, said)
    yield found
    found.close()


def engine_at(url: str | None, said: list[str], **settings: object) -> VllmServerEngine:
    usual: dict = {
        "eos_ids": [EOS],
        "dtype": "float64",
        "remote": False,
        "command": None,
        "devices": None,
        "memory": None,
        "max_model_len": None,
        "enforce_eager": True,
        "transfer": "auto",
        "weights_folder": None,
        "in_flight": 4,
        "timeout": 5.0,
        "start_timeout": 2.0,
        "say": said.append,
    }
    return VllmServerEngine(url=url, **usual | settings)


def refused(engine: VllmServerEngine, language_model: LanguageModel) -> str:
    """The error of the first weights."""
    with pytest.raises(ConfigError) as found:
        engine.sync(language_model.model, 0)
    return str(found.value)


def test_it_gets_all_weights_once_a_version_and_says_which(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    assert isinstance(engine, Engine)
    names = {name for name, _ in small.model.named_parameters()}  # the tied head once
    for version in (0, 0, 1):
        with torch.no_grad():
            small.model.get_input_embeddings().weight.fill_(version)
        engine.sync(small.model, version)
        assert fake.weights.keys() == names
        for name, weight in small.model.named_parameters():
            torch.testing.assert_close(fake.weights[name], weight.detach(), atol=0, rtol=0)
        assert fake.label.startswith("winnow-")
        assert fake.label.endswith(f"-{version}")
        assert not fake.paused
    assert fake.calls.count("/update_weights") == 2


def test_files_hold_no_more_than_they_may_and_are_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    sizes: list[int] = []
    save = weight_files.save_file
    monkeypatch.setattr(weight_files, "save_file", lambda t, p: (save(t, p), sizes.append(p.stat().st_size)))
    bounded = weight_files.WeightFiles(tmp_path, chunk_bytes=4096)
    weights = {f"w{i}": torch.full((100,), i, dtype=torch.float64) for i in range(12)} | {"big": torch.zeros(2000)}
    found: dict[str, torch.Tensor] = {}
    for path, tensors in bounded.written(iter(weights.items())):
        chunk = load_file(path)
        assert len(chunk) == tensors
        assert [*bounded.folder.glob("*.safetensors")] == [path]
        found |= chunk
    assert found.keys() == weights.keys()
    assert len(sizes) == 4  # five, five and two of 800 bytes, and one that is too large for any company
    assert bounded.folder.stat().st_mode & 0o077 == 0
    bounded.close()
    assert not [*tmp_path.iterdir()]


def test_adapters_are_merged_on_the_way(said: list[str]):
    source = FreshTiny("s", Plain(), 0, 2, 16, 2, 1, 32, 128, lora=Lora(rank=2, alpha=4, target_modules="all-linear"))
    language_model = source.load()
    with torch.no_grad():
        for name, parameter in language_model.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    plain = FreshTiny("s", Plain(), 0, 2, 16, 2, 1, 32, 128).load().model
    with FakeVllm(plain.config.to_dict()) as fake:
        fake.settings["dtype"] = "torch.float32"
        engine = engine_at(fake.url, said, dtype="float32")
        engine.sync(language_model.model, 0)
        assert fake.weights.keys() == {name for name, _ in plain.named_parameters()}
        moved = [not torch.equal(fake.weights[name], weight) for name, weight in plain.named_parameters()]
        assert any(moved)
        engine.close()


def test_weights_that_are_left_half_way_leave_gradients_switched_on(small: LanguageModel):
    weights = served_weights(small.model)
    next(weights)
    assert torch.is_grad_enabled()
    with torch.autocast("cpu"):
        assert torch.is_autocast_enabled("cpu")
        next(weights)
        assert torch.is_autocast_enabled("cpu")


def test_samples_are_those_of_their_seeds_and_each_is_told_of_once(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    engine.sync(small.model, 3)
    told: list[tuple[int, int, Completion]] = []
    drawn = engine.generate(PROMPTS, SEEDS, HOW, lambda p, g, c: told.append((p, g, c)))
    assert fake.drawn == dict.fromkeys(range(1, 13), 1)
    assert {(p, g): c for p, g, c in told} == {(p, g): drawn[p][g] for p in range(3) for g in range(4)}
    for group in drawn:
        for one in group:
            assert (one.token_ids[-1] == EOS) == (one.finish is Finish.EOS)
            assert torch.allclose(one.logprobs, -torch.tensor(one.token_ids) / 10)
            assert torch.equal(one.entropies, -one.logprobs)
    assert {one.finish for group in drawn for one in group} == {Finish.EOS, Finish.LENGTH}
    assert fake.most_in_flight <= 4
    [alone] = engine.generate(PROMPTS[1:2], [[7]], HOW)
    assert alone[0].token_ids == drawn[1][2].token_ids


def test_what_is_asked_is_temperature_sampling_alone(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    bodies: list[dict] = []
    answer = fake.on_inference_v1_generate
    monkeypatch.setattr(fake, "on_inference_v1_generate", lambda body: (bodies.append(body), answer(body))[1])
    engine.sync(small.model, 0)
    engine.generate(PROMPTS[:1], [[2**62]], Sampling(0.7, 5))
    [body] = [body for body in bodies if body]
    assert body["token_ids"] == [3, 4, 5]
    how = body["sampling_params"]
    assert (how["temperature"], how["max_tokens"], how["seed"], how["stop_token_ids"]) == (0.7, 5, 2**62, [EOS])
    assert (how["top_p"], how["top_k"], how["min_p"], how["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)


def test_a_server_that_restarts_between_iterations_gets_its_weights_again(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, said: list[str]
):
    engine.sync(small.model, 0)
    before = engine.generate(PROMPTS, SEEDS, HOW)
    fake.start_anew()
    after = engine.generate(PROMPTS, SEEDS, HOW)
    assert [[c.token_ids for c in group] for group in after] == [[c.token_ids for c in group] for group in before]
    assert fake.weights
    assert said == ["engine: the server was started anew and has not this run's weights; it gets all weights anew"]


def test_a_server_that_restarts_before_new_weights_gets_them(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, said: list[str]
):
    engine.sync(small.model, 0)
    fake.start_anew()
    engine.sync(small.model, 1)
    assert fake.label.endswith("-1")
    assert said == ["engine: the server was started anew and has not this run's weights; it gets all weights anew"]


def test_one_that_restarts_in_the_midst_of_a_batch_draws_the_rest_again(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, said: list[str]
):
    engine.sync(small.model, 0)
    whole = engine.generate(PROMPTS, SEEDS, HOW)
    fake.drawn.clear()
    fake.restarts_at = 8
    told: list[tuple[int, int]] = []
    drawn = engine.generate(PROMPTS, SEEDS, HOW, lambda p, g, c: told.append((p, g)))
    assert [[c.token_ids for c in group] for group in drawn] == [[c.token_ids for c in group] for group in whole]
    assert sorted(told) == [(p, g) for p in range(3) for g in range(4)]
    assert len(said) >= 1
    assert fake.calls.count("/finish_weight_update") == 2


def test_a_server_that_is_gone_is_waited_for(fake: FakeVllm, small: LanguageModel, said: list[str]):
    engine = engine_at(fake.url, said, start_timeout=0.5)
    engine.sync(small.model, 0)
    fake.server.shutdown()
    fake.server.server_close()
    with pytest.raises(ConfigError, match=r"engine\.url=http.*: no server has answered for 0\.5 s; .* resume=last"):
        engine.generate(PROMPTS, SEEDS, HOW)
    assert len(said) == 1
    assert "waiting 0.5 s at most until it is back" in said[0]
    engine.close()
    fake.server = FakeVllm({}).__enter__().server


def test_one_that_stalls_is_an_error_after_the_time_that_is_set(fake: FakeVllm, small: LanguageModel, said: list[str]):
    engine = engine_at(fake.url, said, timeout=0.3)
    engine.sync(small.model, 0)
    fake.slow["/inference/v1/generate"] = 2.0
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"gave no answer to any /inference/v1/generate within 0\.3 s; start it"):
        engine.generate(PROMPTS, SEEDS, HOW)
    assert time.monotonic() - start < 1.5
    engine.close()


def test_a_signal_ends_the_waiting(fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel):
    engine.sync(small.model, 0)
    fake.slow["/inference/v1/generate"] = 3.0
    threading.Timer(0.3, lambda: signals.note(signal.SIGTERM)).start()
    start = time.monotonic()
    try:
        with pytest.raises(Stopped):
            engine.generate(PROMPTS, SEEDS, HOW)
    finally:
        signals.forget()
    assert time.monotonic() - start < 1.5


def test_samples_that_are_drawn_beside_an_update_are_of_the_weights_before_it(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    """New weights wait until they are there."""
    assert draws_beside(engine)
    engine.sync(small.model, 0)
    fake.slow["/inference/v1/generate"] = 0.2
    finish = engine.begin(PROMPTS, SEEDS, HOW)
    with torch.no_grad():
        small.model.get_input_embeddings().weight.add_(1)
    engine.sync(small.model, 1)
    assert sum(fake.drawn.values()) == 12
    assert fake.calls.count("/pause") == 2
    assert [len(group) for group in finish()] == [len(group) for group in SEEDS]


def test_a_server_that_fails_while_it_draws_beside_an_update_draws_nothing_with_other_weights(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    """It has new weights when the missing samples are noticed."""
    engine.sync(small.model, 0)
    fake.restarts_at = 5
    finish = engine.begin(PROMPTS, SEEDS, HOW)
    with torch.no_grad():
        small.model.get_input_embeddings().weight.add_(1)
    engine.sync(small.model, 1)
    with pytest.raises(ConfigError, match=r"have been updated; type resume=last"):
        finish()


def test_a_server_that_fails_before_the_update_draws_the_rest_anew(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    engine.sync(small.model, 0)
    alone = engine.generate(PROMPTS, SEEDS, HOW)
    fake.restarts_at = 17
    found = engine.begin(PROMPTS, SEEDS, HOW)()
    assert [[one.token_ids for one in group] for group in found] == [[one.token_ids for one in g] for g in alone]
    assert fake.calls.count("/finish_weight_update") == 2


def test_a_server_that_fails_after_the_weights_were_updated_ends_the_run(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    """The weights that its samples were to come from are nowhere any more."""
    engine.sync(small.model, 0)
    with torch.no_grad():
        small.model.get_input_embeddings().weight.add_(1)
    fake.start_anew()
    with pytest.raises(ConfigError, match=r"was started anew .* have been updated; type resume=last"):
        engine.generate(PROMPTS, SEEDS, HOW)
    assert not fake.weights


def test_an_engine_that_is_closed_draws_no_more(fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel):
    engine.sync(small.model, 0)
    fake.slow["/inference/v1/generate"] = 3.0
    threading.Timer(0.3, engine.close).start()
    start = time.monotonic()
    with pytest.raises(ConfigError, match="the engine was closed while samples were drawn"):
        engine.generate(PROMPTS, SEEDS, HOW)
    assert time.monotonic() - start < 1.5


def test_tokens_of_other_weights_are_never_taken(fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel):
    engine.sync(small.model, 1)
    told: list[int] = []
    fake.labels = "winnow-00000000-0"
    with pytest.raises(ConfigError, match=r"drew tokens from the weights winnow-00000000-0, not from winnow-.*-1; "):
        engine.generate(PROMPTS, SEEDS, HOW, lambda p, g, c: told.append(p))
    assert not told


def test_weights_that_another_trainer_has_sent_are_noticed(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, said: list[str]
):
    other = engine_at(fake.url, said)
    engine.sync(small.model, 0)
    other.sync(small.model, 0)
    with pytest.raises(ConfigError, match=r"someone else has set them; let this run have a server of its own"):
        engine.generate(PROMPTS, SEEDS, HOW)
    other.close()


def test_a_sample_that_someone_has_aborted_is_no_sample(fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel):
    engine.sync(small.model, 0)
    fake.finish = "abort"
    with pytest.raises(ConfigError, match=r"ended a sample for another reason \(abort\)"):
        engine.generate(PROMPTS, SEEDS, HOW)


@pytest.mark.parametrize("path", ["/start_weight_update", "/update_weights", "/finish_weight_update"])
def test_after_a_transfer_that_failed_nothing_is_sampled(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, path: str
):
    engine.sync(small.model, 0)
    fake.statuses[path] = 500
    with pytest.raises(ConfigError, match=rf"failed in the midst of new weights: it answered {path} .*\(told to\)"):
        engine.sync(small.model, 1)
    assert engine.version == 0


def test_another_model_is_refused_before_any_weight_is_sent(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    fake.config["hidden_size"] = 32
    assert "it serves another model: hidden_size is 32 there, and 16 in training" in refused(engine, small)
    assert "/start_weight_update" not in fake.calls


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dev_mode": False}, "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out"),
        ({"scale_out": False}, "HTTP status 403 (Scale-out endpoints are disabled.); start it by VLLM_SERVER_DEV_MODE"),
        ({"backend": None}, "it has none for weights, and this run sends them by winnow_files; start it by"),
        ({"backend": "nccl"}, "it has the back-end nccl for weights, .* for NCCL type engine.transfer=nccl"),
        ({"dtype": "torch.bfloat16"}, "computes in bfloat16, and this run samples in float64; start it with --dtype"),
        ({"logprobs_mode": "raw_logprobs"}, "it gives raw_logprobs, not those of the distribution that is sampled"),
        ({"quantization": "fp8"}, "weights are quantised (fp8); serve the model that is trained"),
    ],
)
def test_a_server_that_was_started_otherwise_is_refused(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, change: dict, words: str
):
    for name, value in change.items():
        if name in fake.settings:
            fake.settings[name] = value
        else:
            setattr(fake, name, value)
    found = refused(engine, small)
    assert found.startswith(f"engine.url={fake.url}: ")
    assert all(part in found for part in words.split(" .* "))
    assert "\n" not in found


def test_a_prompt_longer_than_a_sequence_may_be_is_refused(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel
):
    fake.longest = 8
    engine.sync(small.model, 0)
    with pytest.raises(ConfigError, match=r"prompt p has 9 tokens, and a sequence may have 8; .*engine\.max_model_len"):
        engine.generate([Prompt("p", tuple(range(3, 12)), "", "")], [[0]], HOW)


def test_sampling_before_the_first_weights_is_an_error(engine: VllmServerEngine):
    with pytest.raises(RuntimeError, match="before sync"):
        engine.generate(PROMPTS, SEEDS, HOW)


@pytest.mark.parametrize("url", ["http://10.0.0.5:8000", "http://gpu2:8000", "http://[2001:db8::1]:8000"])
def test_another_machine_takes_a_word_of_its_own(url: str):
    with pytest.raises(ConfigError, match=r"is not this machine; .* type engine\.remote=true"):
        address_of(url, remote=False)
    assert str(address_of(url, remote=True)) == url
    for own in ("http://127.0.0.1:8000", "http://localhost:8000/", "http://[::1]:8000", "https://127.0.0.2:8000"):
        address_of(own, remote=False)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://127.0.0.1:8000/v1"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ConfigError, match=r"no address of a server; type e\.g\. engine\.url=http://127\.0\.0\.1:8000"):
        address_of(url, remote=False)


def test_a_proxy_and_a_redirect_are_not_followed(
    fake: FakeVllm, engine: VllmServerEngine, small: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    engine.sync(small.model, 0)
    fake.statuses["/weight_info"] = 302
    with pytest.raises(ConfigError, match="HTTP status 302"):
        engine.generate(PROMPTS, SEEDS, HOW)


def test_the_trainer_needs_no_vllm(fake: FakeVllm, tmp_path: Path):
    script = (
        "import sys; sys.modules['vllm'] = None\n"
        "from winnow.engines import vllm_server, weight_transfer, weight_nccl, own_server\n"
        "sys.exit(any(name.startswith('vllm.') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_a_server_and_without_vllm_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch):
    from winnow.engines import server_process

    monkeypatch.setattr(server_process, "find_spec", lambda name: None)
    source = common.model_source(composed("hardware=cpu"))
    with pytest.raises(ConfigError, match=r"vllm is not installed; .*engine\.command=/PATH/bin/vllm, .*engine\.url="):
        common.require_engine(composed("engine=vllm_server", "hardware=cpu"), source)
    common.require_engine(composed("engine=vllm_server", "hardware=cpu", "engine.url=http://127.0.0.1:8000"), source)
    with pytest.raises(ConfigError, match=r"engine\.command=/no/vllm: there is no such program"):
        common.require_engine(composed("engine=vllm_server", "hardware=cpu", "engine.command=/no/vllm"), source)


def test_the_configuration_builds_it(small: LanguageModel):
    cfg = composed("engine=vllm_server", "hardware=cpu", "engine.url=http://127.0.0.1:8000")
    engine = common.engine_of(cfg, small)
    assert isinstance(engine, VllmServerEngine)
    assert isinstance(engine, Engine)
    assert not engine.exact


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("engine.remote=true", "the server that the run starts is on this machine; leave it out"),
        ("engine.url=http://127.0.0.1:8000 engine.memory=0.5", "engine.memory=0.5: is about a server that the run"),
        (
            "engine.url=http://127.0.0.1:8000 engine.devices=[1]",
            r"engine.devices=\[1\]: is about a server that the run",
        ),
        ("engine.url=http://127.0.0.1:8000 engine.enforce_eager=true", "engine.enforce_eager=true: is about a server"),
        ("engine.url=http://10.1.2.3:8000", "is not this machine"),
        ("engine.transfer=nccl", "takes GPUs on both sides; type engine.transfer=files"),
        ("engine.transfer=nccl engine.weights_folder=/x", "engine.weights_folder=/x: NCCL writes no files"),
        ("engine.command=python engine.devices=[1]", "are GPUs, and this run is on a CPU; leave it out"),
    ],
)
def test_settings_without_an_effect_are_refused(words: str, message: str):
    cfg = composed("engine=vllm_server", "hardware=cpu", *words.split())
    with pytest.raises(ConfigError, match=message):
        common.require_engine(cfg, common.model_source(composed("hardware=cpu")))


def test_a_server_has_the_gpus_after_the_trainers_or_those_that_are_named():
    def environment(devices: list[int] | None, visible: str | None, trainers: int = 2) -> str:
        settings = ServerSettings(None, devices, "float32", None, None, False)
        given = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return server_environment(given, settings.gpus(trainers))["CUDA_VISIBLE_DEVICES"]

    assert environment(None, None) == "2"
    assert environment([3, 1], None) == "3,1"
    assert environment(None, "4,5,6") == "6"
    assert environment([1, 2], "GPU-a, GPU-b, GPU-c") == "GPU-b,GPU-c"
    with pytest.raises(ConfigError, match=r"engine\.devices=\[2\]: CUDA_VISIBLE_DEVICES has 2"):
        environment(None, "0,1")
    assert "CUDA_VISIBLE_DEVICES" not in server_environment({}, [])
    assert server_environment({"VLLM_PLUGINS": "other"}, [])["VLLM_PLUGINS"] == "other,winnow"


def test_a_server_knows_nothing_of_the_trainers_own_processes():
    """Under torchrun's TORCHELASTIC_USE_AGENT_STORE the server's processes would never find each other."""
    for name in ("RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "SLURM_PROCID"):
        assert NOT_THE_SERVERS.fullmatch(name)
    for name in ("CUDA_VISIBLE_DEVICES", "PATH", "VLLM_API_KEY", "MY_RANK", "HF_HOME"):
        assert not NOT_THE_SERVERS.fullmatch(name)


def test_its_command_has_the_model_the_flags_and_one_copy_of_the_weights_on_all_its_gpus():
    settings = ServerSettings(None, [2, 3], "bfloat16", None, 4096, True)
    words = settings.words(Path("/model"), "nccl", 2, 10**9)
    for flag, value in {
        "--model": "/model",
        "--tensor-parallel-size": "2",
        "--gpu-memory-utilization": "0.9",
        "--max-model-len": "4096",
        "--weight-transfer-config": '{"backend": "nccl"}',
        "--logprobs-mode": "processed_logprobs",
        "--dtype": "bfloat16",
    }.items():
        assert words[words.index(flag) + 1] == value
    assert {"--enforce-eager", "--tokens-only"} <= {*words}
    on_cpu = settings.words(Path("/model"), "winnow_files", 0, 10**9)
    assert on_cpu[on_cpu.index("--kv-cache-memory-bytes") + 1] == "100000000"


LONG = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_its_trainer_whatever_ends_that(tmp_path: Path, how: int):
    """The trainer is a program that starts the guard; the server, one with a child."""
    folder, out = tmp_path / "weights", tmp_path / "out"
    folder.mkdir()
    server = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {LONG!r}]); {LONG}"
    trainer = (
        "import os, subprocess, sys, time\n"
        "guard = [sys.executable, '-P', '-m', 'winnow.engines.server_guard', str(os.getpid()), sys.argv[1], '--']\n"
        "subprocess.Popen([*guard, sys.executable, '-c', sys.argv[2]], stdout=open(sys.argv[3], 'w'))\n"
        "time.sleep(60)"
    )
    started = subprocess.Popen([sys.executable, "-c", trainer, str(folder), server, str(out)])
    pids = _lines(out, 2)
    started.send_signal(how)
    started.wait()
    until = time.monotonic() + 5
    while any(map(_runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_runs, pids))
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


def _lines(path: Path, count: int) -> list[int]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        lines = path.read_text().split() if path.exists() else []
        if len(lines) == count:
            return [int(line) for line in lines]
        time.sleep(0.05)
    raise AssertionError("the server did not start")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
