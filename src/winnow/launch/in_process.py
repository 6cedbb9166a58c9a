"""A program inside of another's process, such as a notebook's, which finds it afterwards as it was."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from winnow import signals
from winnow.errors import EXIT_CODE_OF_SIGNAL, ConfigError, Stopped
from winnow.launch.program import Ended, Program
from winnow.process_group import as_guest


def run_in_process(program: Program, words: Sequence[str]) -> Ended:
    """Do what `words` say as `program` does, and raise what goes wrong.

    A signal ends the run as it would end the program, with its state saved, and is then sent once more, to the handler
    that the process has for it: Ctrl-C becomes a KeyboardInterrupt.

    Raises:
        ConfigError, Diverged, DiskFailure: as for `Program.start`.
        KeyboardInterrupt: a signal came that the process ignores otherwise, or Ctrl-C.
    """

    def validate(cfg: DictConfig) -> list[str]:
        notices = program.validate(cfg)
        if cfg.hardware.devices not in (1, "auto"):
            raise ConfigError(
                f"hardware.devices={cfg.hardware.devices}: further processes cannot be started from inside of a "
                f"process; type {' '.join(['winnow', program.name, *words])} in a shell"
            )
        return notices

    try:
        with hydra_put_aside(), warnings.catch_warnings(), signals.lent(), as_guest():
            return replace(program, validate=validate).start(words)
    except Stopped as stop:
        number = next(number for number, code in EXIT_CODE_OF_SIGNAL.items() if code == stop.code)
        signal.raise_signal(number)
        raise KeyboardInterrupt from stop


@contextmanager
def hydra_put_aside() -> Iterator[None]:
    """Context without the configuration that the process has initialised by Hydra itself; then that is back."""
    loader, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = loader, config
