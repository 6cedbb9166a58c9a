"""Command line of a program, parsed by Hydra's own parser."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from winnow.config.groups import register_help, template_of
from winnow.config.other_names import PLACEHOLDER, named_exactly
from winnow.errors import ConfigError

GROUP_NAME = re.compile(r"[\w/]+")


@dataclass(frozen=True)
class CommandLine:
    """Flags and overrides: `-m algo=raft,grpo seed=1` is `CommandLine(("-m",), ("algo=raft,grpo", "seed=1"), …)`."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: str | None
    config_path: str | None
    config_name: str | None
    multirun: bool
    shows: bool  # help, configuration or completion instead of a run
    informs: bool  # facts about Hydra (--info)

    @property
    def words(self) -> list[str]:
        """The command line as words, flags first."""
        return [*self.flags, *self.overrides]

    def within(self, config_dir: str | None) -> "CommandLine":
        """The same command line with `--config-dir`, unless it has one already or there is none to add."""
        if self.config_dir is not None or config_dir is None:
            return self
        return replace(self, flags=(*self.flags, "--config-dir", config_dir), config_dir=config_dir)


UNKNOWN_OPTION = re.compile(r"unrecognized arguments: --([\w.-]+)")


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Parse the words after the program's name; `--help GROUP` and `--help=GROUP` become an override of its text.

    Raises:
        ConfigError: Hydra has no such option, or the directory of `--config-dir` does not exist.
    """
    register_help()
    words = [part for word in words for part in (("--help", word[7:]) if word.startswith("--help=") else (word,))]
    parser = get_args_parser()
    parser.error = _refuse_option  # pyright: ignore[reportAttributeAccessIssue]
    args = parser.parse_intermixed_args(words)
    _refuse_two_ways(args)
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise ConfigError(f"--config-dir {args.config_dir}: no such directory; type the path of a folder of YAML")
    is_topic = GROUP_NAME.fullmatch if args.help else lambda word: None
    return CommandLine(
        flags=tuple(_flags(words, args)),
        overrides=tuple(template_of(word) if is_topic(word) else word for word in args.overrides),
        config_dir=args.config_dir,
        config_path=args.config_path,
        config_name=args.config_name,
        multirun=args.multirun,
        shows=_shows(args),
        informs=bool(args.info),
    )


def _refuse_two_ways(args: argparse.Namespace) -> None:
    ways = {
        "--run": args.run,
        "--multirun": args.multirun,
        "--cfg": args.cfg,
        "--info": args.info,
        "--shell-completion": args.shell_completion,
    }
    typed = [name for name, value in ways.items() if value]
    if len(typed) > 1:
        raise ConfigError(f"{' and '.join(typed)}: Hydra takes one of them at a time; leave out {typed[0]}")


def _refuse_option(message: str) -> NoReturn:
    option = UNKNOWN_OPTION.search(message)
    other = named_exactly(option[1].replace("-", "_")) if option else None
    if option is None or other is None:
        raise ConfigError(f"{message}; --hydra-help lists the options")
    raise ConfigError(f"--{option[1]}: no option, settings are typed KEY=VALUE; {other.answer(PLACEHOLDER)}")


def _flags(words: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The words that are not overrides, in order."""
    overrides, flags = list(args.overrides), []
    for word in words:
        if overrides and word == overrides[0]:
            overrides.pop(0)
        else:
            flags.append(word)
    return flags


def _shows(args: argparse.Namespace) -> bool:
    return bool(args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)


@contextmanager
def as_typed(words: Sequence[str]) -> Iterator[None]:
    """Put `words` on `sys.argv`, which Hydra reads, and from which Lightning starts further ranks."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before
