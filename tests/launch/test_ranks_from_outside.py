"""Ranks that torchrun or srun starts: one directory, the first rank's, and as many processes as the settings say."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

import toy_program
from running import composed
from winnow import distributed
from winnow.config import checks
from winnow.errors import ConfigError
from winnow.launch.agreement import refuse_sweep, require_ranks
from winnow.process_group import Outside, is_first_rank, launched_from_outside, local_rank
from winnow.training.hardware import Hardware
from winnow.training.launcher import Launched
from winnow.training.sharded import Sharded

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "8"}
BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("environment", "outside", "first"),
    [
        ({}, None, True),
        (TORCHRUN, Outside("torchrun", 3, 4, 2), False),  # the first rank of its machine, but not of the run
        (SRUN, Outside("srun", 0, 8, 4), True),
        (SRUN | {"SLURM_PROCID": "4"}, Outside("srun", 4, 8, 4), False),
        (BATCH_SCRIPT, None, True),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None, True),
        ({"LOCAL_RANK": "1"}, None, False),  # started by the first rank
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, None, False),
    ],
)
def test_what_the_environment_says(
    environment: Mapping[str, str], outside: Outside | None, first: bool, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_from_outside() == outside
    assert is_first_rank() is first


def asked(devices: int | str, nodes: int):
    return OmegaConf.create({"hardware": {"devices": devices, "nodes": nodes}})


def test_as_many_processes_as_the_settings_say():
    require_ranks(asked(2, 1), None, True)
    require_ranks(asked(2, 2), Outside("torchrun", 0, 4, 2), True)
    require_ranks(asked("auto", 2), Outside("torchrun", 0, 4, 2), True)
    require_ranks(asked("auto", 2), Outside("srun", 0, 4, None), True)
    require_ranks(asked("auto", 1), None, True)
    require_ranks(asked(4, 2), Outside("srun", 0, 8, None), True)


@pytest.mark.parametrize(
    ("devices", "nodes", "outside", "said"),
    [
        (1, 1, Outside("torchrun", 0, 4, 2), "type hardware.devices=2 hardware.nodes=2"),
        ("auto", 1, Outside("torchrun", 0, 4, 2), "type hardware.devices=2 hardware.nodes=2"),
        (4, 1, Outside("torchrun", 0, 4, 2), "type hardware.devices=2 hardware.nodes=2"),
        (8, 2, Outside("srun", 0, 8, 4), "type hardware.devices=4 hardware.nodes=2"),
        (8, 2, None, "start the command on each machine by torchrun, or by srun"),
    ],
)
def test_another_number_of_processes_is_refused(devices: int | str, nodes: int, outside: Outside | None, said: str):
    with pytest.raises(ConfigError, match=said):
        require_ranks(asked(devices, nodes), outside, True)


def test_sweeps_and_evaluations_are_not_started_by_every_rank():
    with pytest.raises(ConfigError, match="every process of torchrun would start the sweep"):
        refuse_sweep(Outside("torchrun", 0, 2, 2))
    with pytest.raises(ConfigError, match="an evaluation is one process"):
        require_ranks(asked(2, 1), Outside("torchrun", 0, 2, 2), False)


@pytest.mark.parametrize(
    ("environment", "rank", "here"),
    [
        ({}, 0, 1),
        ({"LOCAL_RANK": "3"}, 3, 1),
        (TORCHRUN | {"LOCAL_RANK": "1"}, 1, 2),
        (SRUN | {"SLURM_PROCID": "5", "SLURM_LOCALID": "1"}, 1, 4),  # which sets no LOCAL_RANK
    ],
)
def test_a_ranks_place_on_its_machine(
    environment: Mapping[str, str], rank: int, here: int, monkeypatch: pytest.MonkeyPatch
):
    """It is the index of its GPU; a server of the run's own has the GPU after those of the ranks here."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert local_rank() == rank
    assert distributed.ranks_here() == here


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(("device", "expected"), [("cuda", "cpu:gloo,cuda:nccl"), ("cpu", "gloo")])
def test_what_is_not_on_a_gpu_goes_by_gloo(strategy: str, device: str, expected: str, monkeypatch: pytest.MonkeyPatch):
    """In NCCL a rank that waits for one that hangs never returns to Python: torch ends its process."""
    made = Hardware(device, 2, 1, strategy, "32-true", timedelta(seconds=9), False).lightning_strategy()
    assert isinstance(made, Launched | Sharded)
    made.parallel_devices = [torch.device(device, 0)]
    assert made._get_process_group_backend() == expected
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: expected)
    assert distributed._device() == torch.device("cpu")


def test_groups_that_were_made_later_wait_no_longer(monkeypatch: pytest.MonkeyPatch):
    """Those of vLLM, of which some ranks hold one copy of the weights."""
    found: dict[str, float] = {}
    groups = ["all ranks"]
    world = SimpleNamespace(pg_map=groups)
    limited = SimpleNamespace(_world=world, _set_pg_timeout=lambda t, group: found.update({group: t.total_seconds()}))
    monkeypatch.setattr(distributed, "distributed_c10d", limited)
    monkeypatch.setattr(distributed, "_timeout", None)
    distributed.wait_at_most()
    assert found == {}
    distributed.wait_at_most(timedelta(seconds=20))
    groups.append("tensor parallel")
    distributed.wait_at_most()
    assert found == {"all ranks": 20, "tensor parallel": 20}


def test_shards_in_main_memory_are_gathered_where_ranks_share_the_model(monkeypatch: pytest.MonkeyPatch):
    """With hardware.offload; NCCL gathers nothing from main memory."""

    class Shard:
        def __init__(self, device: str) -> None:
            self.device, self.device_mesh = device, SimpleNamespace(device_type="cuda")

        def to_local(self) -> SimpleNamespace:
            return SimpleNamespace(device=torch.device(self.device))

        def to(self, device: str) -> "Shard":
            return Shard(device)

        def full_tensor(self) -> str:
            return self.device

    monkeypatch.setattr(distributed, "DTensor", Shard)
    assert distributed.whole_tensor(Shard("cpu")) == "cuda"  # pyright: ignore[reportArgumentType]
    assert distributed.whole_tensor(Shard("cuda")) == "cuda"  # pyright: ignore[reportArgumentType]


def test_a_process_that_sees_its_own_gpu_alone_is_told_so(monkeypatch: pytest.MonkeyPatch):
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"srun shows this process 1 of the GPUs here.* or --gpu-bind=none"):
        checks._check_machine(composed("hardware=slurm", "hardware.devices=4", "hardware.precision=32-true"))


def test_lightning_starts_no_ranks_that_are_there_and_requeues_nothing(monkeypatch: pytest.MonkeyPatch):
    hardware = Hardware("cpu", 2, 1, "ddp", "32-true", timedelta(seconds=9), False)
    for name, value in BATCH_SCRIPT.items():
        monkeypatch.setenv(name, value)
    alone = hardware.environment()
    assert alone is not None
    assert not alone.creates_processes_externally
    for name, value in (SRUN | {"SLURM_LOCALID": "0", "SLURM_NODEID": "0"}).items():
        monkeypatch.setenv(name, value)
    by_srun = hardware.environment()
    assert by_srun is not None
    assert by_srun.creates_processes_externally
    assert by_srun.auto_requeue is False  # pyright: ignore[reportAttributeAccessIssue]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def ends(folder: Path, commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]) -> list[int]:
    """The exit codes of processes that run at the same time, in `folder/here`; the output of each is in a file."""
    toy_program.write_conf(folder / "conf")
    (folder / "here").mkdir(exist_ok=True)
    processes = []
    for number, (command, environment) in enumerate(zip(commands, environments, strict=True)):
        with (folder / f"{number}.log").open("w") as log:
            everything = os.environ | {"TOY_CONF": str(folder / "conf"), **environment}
            out = {"stdout": log, "stderr": subprocess.STDOUT}
            processes.append(subprocess.Popen(command, cwd=folder / "here", env=everything, **out))  # type: ignore
    return [process.wait(timeout=120) for process in processes]


def torchrun(node: int, port: int, *words: str) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"]
    address = ["--master-addr=127.0.0.1", f"--master-port={port}", "--nproc-per-node=1"]
    return [*command, *address, toy_program.__file__, *words]


@pytest.mark.faults
def test_two_machines_under_torchrun_run_in_one_directory(tmp_path: Path):
    """Each composes a name with the time and random digits; all take that of the first one."""
    port, words = free_port(), ("hardware.nodes=2", "iterations=3")
    assert ends(tmp_path, [torchrun(node, port, *words) for node in (0, 1)], [{}, {}]) == [0, 0]
    [run] = (tmp_path / "here/outputs").iterdir()
    assert (run / ".hydra/overrides.yaml").read_text() == "- hardware.nodes=2\n- iterations=3\n"
    again = ("resume=last", "iterations=5", "hardware.nodes=2")
    assert ends(tmp_path, [torchrun(node, free, *again) for free in [free_port()] for node in (0, 1)], [{}, {}]) == [
        0,
        0,
    ]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"iteration_000003", "iteration_000005"}
    assert len(list((tmp_path / "here/outputs").iterdir())) == 1


def srun(rank: int, port: int) -> dict[str, str]:
    tasks = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": str(rank)}
    place = {"SLURM_LOCALID": "0", "SLURM_NODEID": str(rank), "SLURM_NODELIST": "localhost", "SLURM_JOB_ID": "20"}
    return tasks | place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def test_two_tasks_of_srun_run_in_one_directory(tmp_path: Path):
    command = [sys.executable, toy_program.__file__, "hardware.nodes=2"]
    environments = [srun(rank, port) for port in [free_port()] for rank in (0, 1)]
    assert ends(tmp_path, [command] * 2, environments) == [0, 0]
    assert len(list((tmp_path / "here/outputs").iterdir())) == 1


@pytest.mark.faults
def test_a_refusal_is_said_once_and_ends_all_tasks(tmp_path: Path):
    command = [sys.executable, toy_program.__file__, "hardware.nodes=2", "hardware.devices=2"]
    environments = [srun(rank, port) for port in [free_port()] for rank in (0, 1)]
    assert ends(tmp_path, [command] * 2, environments) == [2, 2]
    assert (tmp_path / "0.log").read_text() == (
        "error: srun has started 2 processes, 1 of them on this machine, but hardware.devices=2 × hardware.nodes=2 are "
        "4; type hardware.devices=1 hardware.nodes=2\n"
    )
    assert (tmp_path / "1.log").read_text() == ""
    assert not list((tmp_path / "here").iterdir())
