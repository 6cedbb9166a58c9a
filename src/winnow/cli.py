"""The `winnow` command. Each part is imported when it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from winnow import __version__
from winnow.errors import CONFIG, DONE, ConfigError


def main() -> NoReturn:
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(words: Sequence[str]) -> int:
    """Do what `words` say; a ConfigError becomes one line."""
    try:
        args = _parser().parse_args(list(words))
        return args.command(args)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return CONFIG


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; type {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="winnow", description="Tools around train.py.")
    parser.add_argument("--version", action="version", version=f"winnow {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor = commands.add_parser("doctor", help="look whether this machine can train")
    doctor.set_defaults(command=_doctor)
    verify = commands.add_parser("verify", help="judge answers, and compare with what is known of them")
    verify.add_argument("cases", type=Path, metavar="CASES.jsonl", help='rows {"gold": …, "pred": …}')
    verify.set_defaults(command=_verify)
    return parser


def _doctor(args: argparse.Namespace) -> int:
    from winnow.doctor import Level, examine

    levels = set()
    for finding in examine():
        print(finding, flush=True)
        levels.add(finding.level)
    return CONFIG if Level.FAIL in levels else DONE


def _verify(args: argparse.Namespace) -> int:
    from winnow.rewards.pool import VerifierPool
    from winnow.rewards.verify_cases import verify_cases

    with VerifierPool() as pool:
        verify_cases(args.cases, sys.stdout, pool)
    return DONE


if __name__ == "__main__":
    main()
