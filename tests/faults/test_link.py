"""Two network namespaces as two machines of one run, and the link between them cut: both ends leave, and it goes on."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.test_two_ranks import wait_until
from running import CONF, SMALL, metrics, weights
from winnow.training.checkpoint import iteration_of, newest_valid

TIMEOUT = 20
HARDWARE = ("hardware=multi_node", "hardware.accelerator=cpu", "hardware.precision=32-true", "hardware.strategy=ddp")
PORT = 29_417


class Machines:
    """Two network namespaces with a cable between them; torchrun on each is one machine of a run."""

    def __init__(self) -> None:
        self.names = [f"winnow{os.getpid()}{end}" for end in "ab"]

    def __enter__(self) -> "Machines":
        for name in self.names:
            _ip("netns", "add", name)
        first, second = self.names
        _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for number, name in enumerate(self.names, 1):
            _ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *error: object) -> None:
        for name in self.names:
            _ip("netns", "delete", name, check=False)

    def cut(self) -> None:
        _ip("-n", self.names[0], "link", "set", "cable", "down")

    def mend(self) -> None:
        _ip("-n", self.names[0], "link", "set", "cable", "up")

    def start(self, folder: Path, *words: str) -> list[subprocess.Popen[bytes]]:
        """A run with a rank on each machine; what each says is in a file of the folder."""
        processes = []
        for node, name in enumerate(self.names):
            place = ["--nnodes=2", f"--node-rank={node}", "--master-addr=10.213.7.1", f"--master-port={PORT}"]
            torchrun = [sys.executable, "-m", "torch.distributed.run", *place, "--nproc-per-node=1"]
            command = ["ip", "netns", "exec", name, *torchrun, "train.py", *words]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"}
            with (folder / f"node{node}.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(command, cwd=CONF.parent, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
        return processes


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


@pytest.fixture
def machines() -> Iterator[Machines]:
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` here to make network namespaces with")
    made = Machines()
    try:
        made.__enter__()
    except subprocess.CalledProcessError as error:
        made.__exit__()
        pytest.skip(f"this process may not make network namespaces (CAP_NET_ADMIN): {error.stderr.decode().strip()}")
    yield made
    made.__exit__()


def test_namespaces_end_with_their_context(machines: Machines):
    assert all(Path(f"/run/netns/{name}").exists() for name in machines.names)


@pytest.mark.faults
def test_both_ends_leave_when_the_link_is_cut_and_the_run_goes_on(tmp_path: Path, machines: Machines):
    run = tmp_path / "run"
    words = (*(word for word in SMALL if word != "hardware=cpu"), *HARDWARE, "hardware.devices=1", "checkpoint.every=1")
    words = (*words, f"hardware.timeout={TIMEOUT}")
    both = machines.start(tmp_path, *words, "hardware.nodes=2", "iterations=1000", f"hydra.run.dir={run}")
    rows = run / "metrics.jsonl"
    said = lambda: "".join(log.read_text() for log in tmp_path.glob("node*.log"))[-3000:]  # noqa: E731
    wait_until(lambda: both[0].poll() is not None or (rows.exists() and rows.read_bytes().count(b"\n") > 2), 240)
    assert both[0].poll() is None, said()
    machines.cut()
    began = time.monotonic()
    codes = [process.wait(timeout=TIMEOUT + 60) for process in both]
    seconds = time.monotonic() - began
    assert 0 not in codes
    checkpoint = newest_valid(run / "checkpoints")
    assert checkpoint is not None
    print(f"both ends left {seconds:.0f} s after the cut; the checkpoint is of iteration {iteration_of(checkpoint)}")
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"

    machines.mend()
    total = f"iterations={iteration_of(checkpoint) + 2}"
    both = machines.start(tmp_path, f"resume={run}", total)
    assert [process.wait(timeout=240) for process in both] == [0, 0], said()
    uncut = tmp_path / "uncut"
    both = machines.start(tmp_path, *words, "hardware.nodes=2", total, f"hydra.run.dir={uncut}")
    assert [process.wait(timeout=240) for process in both] == [0, 0], said()
    assert metrics(run) == metrics(uncut)
    assert weights(run) == weights(uncut)
