"""vLLM's own server on a CPU, as a sampler of whole runs; `make test-vllm` makes its environment."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_vllm_engine import PROMPTS, SEEDS, gap, stir
from test_vllm_training import SUMS, TASK, model, trained
from user_server import UserServer
from wide_heads import ROOT, random_model, typed

from running import composed, metrics
from winnow.assemble.training import train
from winnow.config import checks
from winnow.engines.torch_engine import TorchEngine
from winnow.engines.vllm_cpu import head_sizes, written_head_sizes
from winnow.engines.vllm_server import VllmServerEngine
from winnow.engines.weight_transfer import ByFiles
from winnow.errors import CONFIG, ConfigError
from winnow.models.language_model import FreshTiny, LanguageModel
from winnow.models.lora import Lora
from winnow.models.templates import Plain
from winnow.types import Finish, Sampling

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: type make test-vllm")

OWN = ("engine=vllm_server", "engine.enforce_eager=true", "engine.memory=0.02", "hardware=cpu")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserServer]:
    """It serves a model of the embedded one's shape, with random weights of its own."""
    folder = tmp_path_factory.mktemp("served")
    other = FreshTiny("other", Plain(), 7, 3, 96, heads=3, kv_heads=1, intermediate=256, positions=256).load()
    other.model.save_pretrained(folder / "model")
    other.tokenizer.save_pretrained(folder / "model")
    running = UserServer(folder / "model", folder / "log")
    running.start()
    yield running
    running.kill()


def engine_at(url: str | None, said: list[str]) -> VllmServerEngine:
    return VllmServerEngine(
        eos_ids=random_model().eos_ids,
        dtype="float32",
        url=url,
        remote=False,
        command=None,
        devices=None,
        memory=0.02,
        max_model_len=None,
        enforce_eager=True,
        transfer="auto",
        weights_folder=None,
        in_flight=64,
        timeout=120.0,
        start_timeout=300.0,
        say=said.append,
    )


@pytest.fixture
def engine(server: UserServer) -> Iterator[VllmServerEngine]:
    found = engine_at(server.url, [])
    yield found
    found.close()


def drawn_gap(language_model: LanguageModel, engine: VllmServerEngine, temperature: float = 1.0) -> float:
    return gap(language_model, engine, temperature)  # pyright: ignore[reportArgumentType]


def test_log_probabilities_are_the_models_at_every_version_and_temperature(
    server: UserServer, engine: VllmServerEngine
):
    """The tied head among them: with the former one they would be off by tenths of a nat."""
    language_model = random_model()
    for version in range(3):
        stir(language_model)
        engine.sync(language_model.model, version)
        assert drawn_gap(language_model, engine) < 3e-5
        assert drawn_gap(language_model, engine, temperature=0.7) < 3e-5
        assert server.http.get("/weight_info")["weight_version"].endswith(f"-{version}")


def test_the_likeliest_tokens_are_those_of_the_torch_engine(engine: VllmServerEngine):
    language_model, ours, cold = random_model(), TorchEngine(random_model().eos_ids), Sampling(0.01, 24)
    for each in (engine, ours):
        each.sync(language_model.model, 0)
    for [a], [b] in zip(*(each.generate(PROMPTS, [[1], [2], [3]], cold) for each in (engine, ours)), strict=True):
        assert a.token_ids == b.token_ids
        assert a.finish is b.finish
        torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-4, rtol=0)


def test_samples_are_those_of_their_seeds(engine: VllmServerEngine):
    language_model = random_model()
    engine.sync(language_model.model, 0)
    together = engine.generate(PROMPTS, SEEDS, Sampling(1.0, 24))
    for p in range(3):
        [alone] = engine.generate(PROMPTS[p : p + 1], [[SEEDS[p][2]]], Sampling(1.0, 24))
        assert alone[0].token_ids == together[p][2].token_ids
    assert len({c.token_ids for group in together for c in group}) == 12
    many = engine.generate(PROMPTS * 8, [[i] for i in range(24)], Sampling(1.0, 16))
    eos = set(language_model.eos_ids)
    for [one] in many:
        assert (one.token_ids[-1] in eos) == (one.finish is Finish.EOS)
        assert len(one.token_ids) == 16 or one.finish is Finish.EOS
        assert not eos & set(one.token_ids[:-1])


def test_adapters_are_merged_on_the_way(engine: VllmServerEngine):
    language_model = random_model(Lora(rank=4, alpha=8, target_modules="all-linear"))
    for version in range(2):
        stir(language_model)
        engine.sync(language_model.model, version)
        assert drawn_gap(language_model, engine) < 3e-5


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"layers": 2}, "num_hidden_layers is 3 there, and 2 in training"),
        ({"intermediate": 128}, "intermediate_size is 256 there, and 128 in training"),
    ],
)
def test_another_model_is_refused_before_any_weight_is_sent(server: UserServer, shape: dict, words: str):
    usual = {"layers": 3, "width": 96, "heads": 3, "kv_heads": 1, "intermediate": 256, "positions": 256}
    other, engine = FreshTiny("other", Plain(), 0, **usual | shape).load(), engine_at(server.url, [])
    before = server.http.get("/weight_info")
    with pytest.raises(ConfigError, match=f"it serves another model: {words}"):
        engine.sync(other.model, 0)
    assert server.http.get("/weight_info") == before
    engine.close()


def test_three_iterations_of_grpo_on_a_users_server(server: UserServer, warm: Path, tmp_path: Path):
    rows = trained(tmp_path / "run", "algo=grpo", "engine=vllm_server", f"engine.url={server.url}", *model(warm), *TASK)
    assert len(rows) == 3
    for row in rows:
        assert 0 <= row["rollout/mismatch_kl"] < 1e-8
        assert row["rollout/logp_diff/max"] < 1e-5
        assert row["train/grad_norm"] > 0
    assert rows[0]["train/kl_ref"] < 1e-8 < 1e-6 < rows[2]["train/kl_ref"]
    assert server.http.get("/weight_info")["weight_version"].endswith("-3")  # the last evaluation's


def test_two_processes_draw_what_one_does(server: UserServer, warm: Path, tmp_path: Path):
    words = ("algo=grpo", "engine=vllm_server", f"engine.url={server.url}", *model(warm), *TASK, "iterations=1")
    one, two = (trained(tmp_path / devices, *words, f"hardware.devices={devices}") for devices in ("1", "2"))
    assert two[0]["rollout/mismatch_kl"] < 1e-8
    for name in ("rollout/acc", "rollout/length/mean", "train/reward/mean", "train/groups/frac_zero_std"):
        assert one[0][name] == two[0][name]


def test_an_evaluation_by_a_server(server: UserServer, warm: Path, tmp_path: Path):
    words = (*SUMS, "eval.samples=4", "eval.max_tokens=24", "engine=vllm_server", f"engine.url={server.url}")
    done = typed("evaluate", f"hydra.run.dir={tmp_path / 'run'}", "hardware=cpu", *model(warm), *words)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "results.json").read_text())["sets"]["arithmetic"]
    assert (found["prompts"], found["samples"], found["truncated"]["estimate"]) == (8, 4, 0)


def test_a_users_server_that_is_killed_and_started_again_gets_its_weights(server: UserServer):
    said: list[str] = []
    language_model, engine = random_model(), engine_at(server.url, said)
    stir(language_model)
    engine.sync(language_model.model, 0)
    assert drawn_gap(language_model, engine) < 3e-5
    server.kill()
    again = threading.Thread(target=server.start)
    again.start()
    assert drawn_gap(language_model, engine) < 3e-5
    again.join()
    assert "waiting 300 s at most until it is back" in said[0]
    assert said[1:] == ["engine: the server is back, and gets all weights anew"]
    engine.close()


def test_after_a_transfer_that_failed_a_users_server_is_refused(server: UserServer, monkeypatch: pytest.MonkeyPatch):
    """It stays healthy in its own eyes. The last test of this server, which is of no use afterwards."""
    language_model, engine = random_model(), engine_at(server.url, [])
    engine.sync(language_model.model, 0)
    monkeypatch.setattr(ByFiles, "send", half_sent(1))
    with pytest.raises(ConfigError, match=r"failed in the midst of new weights.*start it again, then type resume=last"):
        engine.sync(language_model.model, 1)
    assert server.http.is_healthy()
    engine.close()


def half_sent(times: int):
    """`ByFiles.send` that forgets the last weight, so many times."""
    send, left = ByFiles.send, [times]

    def sending(self, http, model):
        if not left[0]:
            return send(self, http, model)
        left[0] -= 1
        with pytest.MonkeyPatch.context() as patch:
            from winnow.engines import weight_transfer

            whole = weight_transfer.served_weights
            patch.setattr(weight_transfer, "served_weights", lambda model: iter([*whole(model)][:-1]))
            return send(self, http, model)

    return sending


def test_a_run_outlives_its_servers(
    warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Its first server is killed before the second iteration, and the next gets only a part of the third's weights."""
    sync, killed = VllmServerEngine.sync, []

    def syncing(self, model, version):
        if version == 1 and not killed:
            killed.append(self._own._process._guard.pid)
            [vllm] = Path(f"/proc/{killed[0]}/task/{killed[0]}/children").read_text().split()
            os.killpg(int(vllm), signal.SIGKILL)
        if version == 2:
            monkeypatch.setattr(ByFiles, "send", half_sent(1))
        sync(self, model, version)

    monkeypatch.setattr(VllmServerEngine, "sync", syncing)
    directory = tmp_path / "run"
    directory.mkdir()
    cfg = composed("algo=grpo", *OWN, *model(warm), *TASK)
    checks.check_config(cfg)
    train(cfg, directory)
    rows = metrics(directory)[1:]
    assert [row["rollout/mismatch_kl"] < 1e-8 for row in rows] == [True] * 3
    said = capfd.readouterr().out
    assert said.count("engine: starting a vLLM server on the CPU") == 3
    assert "did not answer /weight_info" in said or "did not answer /pause" in said
    assert "1 weights did not come" in said


def test_a_server_ends_with_a_run_that_is_killed(warm: Path, tmp_path: Path):
    command = [sys.executable, "train.py", *OWN, *model(warm), *TASK, f"hydra.run.dir={tmp_path / 'run'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        port = next(found[1] for line in run.stdout if (found := re.search(r"vLLM server .*:(\d+)$", line.strip())))
        next(line for line in run.stdout if "the vLLM server is up" in line)
        assert servers(port)
        run.kill()
    until = time.monotonic() + 30
    while servers(port) and time.monotonic() < until:
        time.sleep(0.2)
    assert not servers(port)


def servers(port: str) -> list[Path]:
    """Processes whose command names the port, the guard among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if port.encode() in words:
            found.append(path)
    return found


def test_heads_that_the_cpu_build_has_no_attention_for_are_refused(tmp_path: Path):
    done = typed("train", *OWN, "model=tiny", "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == CONFIG
    assert "error: engine=vllm_server: on a CPU vLLM has attention for heads of 32" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
    assert written_head_sizes() == head_sizes()


def test_a_server_of_another_environment_says_so_itself(tmp_path: Path):
    """Without its word, the first sample would kill it."""
    command = f"engine.command='{sys.executable} -m vllm.entrypoints.openai.api_server'"
    done = typed("train", *OWN, command, "model=tiny", "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == CONFIG
    assert "status 500 (on a CPU vLLM has attention for heads of 32" in done.stderr
    assert "Traceback" not in done.stderr
