"""The command line, read by Hydra's own parser."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from winnow.errors import ConfigError


@dataclass(frozen=True)
class CommandLine:
    """`-m algo=raft,grpo seed=1` is `CommandLine(("-m",), ("algo=raft,grpo", "seed=1"), …)`."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: str | None
    config_path: str | None
    config_name: str | None
    multirun: bool
    shows: bool  # help, configuration or completion instead of a run

    @property
    def words(self) -> list[str]:
        return [*self.flags, *self.overrides]

    def within(self, config_dir: str) -> "CommandLine":
        """The same, with a further config directory."""
        return replace(self, flags=(*self.flags, "--config-dir", config_dir), config_dir=config_dir)


def read_command_line(words: Sequence[str]) -> CommandLine:
    """
    Raises:
        ConfigError: an option that Hydra does not have.
    """
    parser = get_args_parser()
    parser.error = _refuse_option  # pyright: ignore[reportAttributeAccessIssue]
    args = parser.parse_intermixed_args(list(words))
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise ConfigError(f"--config-dir {args.config_dir}: no such directory; type the path of a folder of YAML")
    return CommandLine(
        flags=tuple(_flags(words, args)),
        overrides=tuple(args.overrides),
        config_dir=args.config_dir,
        config_path=args.config_path,
        config_name=args.config_name,
        multirun=args.multirun,
        shows=_shows(args),
    )


def _refuse_option(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --hydra-help lists the options")


def _flags(words: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The words that are not overrides, in order."""
    left = list(args.overrides)
    flags = []
    for word in words:
        if left and word == left[0]:
            left.pop(0)
        else:
            flags.append(word)
    return flags


def _shows(args: argparse.Namespace) -> bool:
    return bool(args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)


@contextmanager
def as_typed(words: Sequence[str]) -> Iterator[None]:
    """Hydra, and the ranks that Lightning starts, read `sys.argv`."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before
