"""Agreement of ranks that were started from outside, each by the same command, on the directory of their run.

Its name has the time and random digits, so that each would have one of its own. The first rank checks the command and
makes the directory, and then tells the others, or tells them that there is nothing to do.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from winnow import signals
from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.errors import ConfigError
from winnow.launch.resume import quoted
from winnow.process_group import Outside, slurm_environment

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

SECONDS = 600.0
"""Time that the first rank has to check the command and to make the directory, before the others give up."""
HEARD_SECONDS = 30.0
"""Time for which a first rank that ends stays for the others, which may still be starting, to hear of it."""
KEY, HEARD = "winnow/directory", "winnow/heard"


class NothingToDo(Exception):
    """The first rank has refused the command, and has said why."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The run's directory, and whether the run that it holds is continued."""

    directory: Path
    resumed: bool

    def joined(self, command: CommandLine, composer: Composer) -> CommandLine:
        """The command of another rank, which takes this directory and leaves writing to the first rank."""
        place = [f"{'resume' if self.resumed else 'hydra.run.dir'}={quoted(self.directory)}"]
        replaced = ("hydra.run.dir", "resume") if self.resumed else ("hydra.run.dir",)
        kept = [str(o.input_line) for o in composer.parse(command.overrides) if o.get_key_element() not in replaced]
        return replace(command, overrides=(*kept, *place, "hydra.output_subdir=null"))


class Agreement:
    """The other ranks' view of what the first one says, and the first one's voice; nothing for a rank alone."""

    def __init__(self, outside: Outside | None) -> None:
        self.outside = outside if outside is not None and outside.ranks > 1 else None
        self._store: Store | None = None
        self._is_told = False

    @property
    def waits(self) -> bool:
        """Whether this rank has to ask the first one."""
        return self.outside is not None and self.outside.rank > 0

    @contextmanager
    def first(self) -> Iterator[None]:
        """Context of the first rank: an error before `tell` lets the others end, and none is left asking."""
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):
                self._tell("")
            raise
        finally:
            self._stay()

    def _stay(self) -> None:
        """Wait until the others have heard, where they ask a store that ends with this process."""
        if self._store is None or self.outside is None or _has_agents(self.outside):
            return
        end = time.monotonic() + HEARD_SECONDS
        with suppress(RuntimeError):
            while self._store.add(HEARD, 0) < self.outside.ranks - 1 and time.monotonic() < end:
                time.sleep(0.1)

    def tell(self, directory: Path, resumed: bool) -> None:
        """Tell the other ranks to join the run in `directory`."""
        self._tell(json.dumps([str(directory.absolute()), resumed]))

    def _tell(self, text: str) -> None:
        if self.outside is not None and not self._is_told and not self.waits:
            self._is_told = True
            self._connected().set(self._key(), text)

    def ask(self) -> Agreed:
        """Wait for the first rank's directory.

        Raises:
            NothingToDo: the first rank has refused the command.
            ConfigError: it does not answer, or this machine does not see the directory.
        """
        from torch.distributed import DistError

        try:
            with signals.immediate():
                text = self._connected().get(self._key()).decode()
                self._connected().add(HEARD, 1)
        except (DistError, RuntimeError) as error:
            raise ConfigError(
                f"rank {self.outside.rank if self.outside else 0}: the first rank has ended, or has named no run "
                f"directory within {SECONDS:.0f} s; see what it says, and start all ranks again"
            ) from error
        if not text:
            raise NothingToDo
        directory, resumed = json.loads(text)
        if not Path(directory).is_dir():
            raise ConfigError(
                f"{directory}: this machine does not see the run directory that the first rank has made; choose "
                "hydra.run.dir on a file system that all machines share"
            )
        return Agreed(Path(directory), resumed)

    def _key(self) -> str:
        return f"{KEY}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"

    def _connected(self) -> "Store":
        if self._store is None:
            assert self.outside is not None
            self._store = _store(self.outside)
        return self._store


def _store(outside: Outside) -> "Store":
    """The store in which torchrun's own agents have met; under SLURM one that the first rank opens beside the port by
    which ranks find each other later."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    has_agents = _has_agents(outside)
    if outside.name == "torchrun":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        slurm = slurm_environment()
        address, port = slurm.main_address, slurm.main_port
    opens = not has_agents and outside.rank == 0
    timeout = timedelta(seconds=SECONDS)
    return TCPStore(address, port + (not has_agents), is_master=opens, timeout=timeout, wait_for_workers=False)


def _has_agents(outside: Outside) -> bool:
    return outside.name == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def require_ranks(cfg: DictConfig, outside: Outside | None, trains: bool) -> None:
    """Check that the processes started are those that the settings ask for.

    Raises:
        ConfigError: they are more or fewer; or there are to be several machines, and nobody has started theirs.
    """
    devices, nodes = (OmegaConf.select(cfg, f"hardware.{key}") or 1 for key in ("devices", "nodes"))
    if outside is None:
        if nodes > 1 and "NODE_RANK" not in os.environ:
            raise ConfigError(
                f"hardware.nodes={nodes}: start the command on each machine by torchrun, or by srun "
                "(docs/clusters.md); on one machine type hardware.nodes=1"
            )
        return
    if outside.ranks > 1 and not trains:
        raise ConfigError(f"{outside.name}: an evaluation is one process; start it without {outside.name}")
    here = outside.ranks_here
    devices = (here or outside.ranks // nodes) if devices == "auto" else devices
    if outside.ranks != devices * nodes or (here is not None and here != devices):
        each = here or outside.ranks
        raise ConfigError(
            f"{outside.name} has started {outside.ranks} processes, {each} of them on this machine, but "
            f"hardware.devices={devices} × hardware.nodes={nodes} are {devices * nodes}; type hardware.devices={each} "
            f"hardware.nodes={outside.ranks // each}"
        )


def refuse_sweep(outside: Outside | None) -> None:
    """Refuse a sweep that each of several ranks would start.

    Raises:
        ConfigError: as said.
    """
    if outside is not None:
        raise ConfigError(
            f"-m: every process of {outside.name} would start the sweep; start it without {outside.name}, and its jobs "
            "start their own ranks (hardware.devices=2)"
        )
