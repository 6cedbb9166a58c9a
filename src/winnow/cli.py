"""The `winnow` command. Each part is imported when it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from winnow import __version__
from winnow.errors import CONFIG, DONE, ConfigError

AXES = ("iterations", "sampled_tokens", "trained_tokens", "seconds")


def main() -> NoReturn:
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(words: Sequence[str]) -> int:
    """Do what `words` say; a ConfigError becomes one line."""
    try:
        args = _parser().parse_args(list(words))
        return args.command(args)
    except ConfigError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return CONFIG


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; type {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="winnow", description="Tools around train.py and evaluate.py.")
    parser.add_argument("--version", action="version", version=f"winnow {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(command=globals()[f"_{name}"])
        return added

    command("doctor", "look whether this machine can train")

    prompt = command("prompt", "print a problem as the model gets it: text, ids and their hash")
    _overrides(prompt, "as for train.py, such as model=qwen dataset=gsm8k")
    prompt.add_argument("--row", type=int, default=0, help="number of the problem, from 0")
    prompt.add_argument("--set", dest="benchmark", help="of this evaluation set instead of the training problems")

    verify = command("verify", "judge answers, and compare with what is known of them")
    verify.add_argument("cases", type=Path, metavar="CASES.jsonl", help='rows {"gold": …, "pred": …}')
    _overrides(verify, "such as reward/verifier=numeric reward.verifier.rule.relative=1e-3")

    rescore = command("rescore", "judge the samples of an evaluation anew, without sampling again")
    rescore.add_argument("source", type=Path, metavar="EVALUATION")
    rescore.add_argument("target", type=Path, metavar="OUT", help="a new directory, an evaluation like any other")
    _overrides(rescore, "such as reward/verifier=exact; without, each benchmark's own verifier")

    compare = command("compare", "two evaluations paired by prompt: difference, interval, flips")
    compare.add_argument("a", type=Path, metavar="A")
    compare.add_argument("b", type=Path, metavar="B")

    report = command(
        "report", "what runs and sweeps came to: one page that needs no network, with intervals and verdicts"
    )
    report.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="runs, or sweeps of them")
    report.add_argument("--x", choices=AXES, default=AXES[0], help="what curves are drawn against; default %(default)s")
    report.add_argument("--out", type=Path, help="a directory; default the first DIR")

    dashboard = command("dashboard", "a W&B workspace and report with the panels that matter")
    dashboard.add_argument("project", metavar="ENTITY/PROJECT")

    export = command("export", "a Hugging Face folder of the newest checkpoint of a run")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("out", type=Path, metavar="OUT", help="a new directory")
    return parser


def _overrides(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=which)


def _doctor(args: argparse.Namespace) -> int:
    from winnow.doctor import Level, examine

    levels = set()
    for finding in examine():
        print(finding, flush=True)
        levels.add(finding.level)
    return CONFIG if Level.FAIL in levels else DONE


def _prompt(args: argparse.Namespace) -> int:
    from winnow.assemble.commands import show_prompt
    from winnow.config.compose import composed

    show_prompt(composed("train", args.overrides), args.row, args.benchmark, sys.stdout)
    return DONE


def _verify(args: argparse.Namespace) -> int:
    from winnow.config.compose import composed
    from winnow.config.instantiate import build_node
    from winnow.rewards.verify_cases import verify_cases

    with build_node(composed("train", args.overrides).reward.verifier) as pool:
        verify_cases(args.cases, sys.stdout, pool)
    return DONE


def _rescore(args: argparse.Namespace) -> int:
    from winnow.assemble.common import verifier_of
    from winnow.config.compose import composed
    from winnow.evaluation.compare import rescore

    cfg = composed("train", args.overrides)
    named = any(words.startswith(("reward/", "reward.")) for words in args.overrides)
    rescore(args.source, args.target, lambda name: verifier_of(cfg, None if named else name), sys.stdout)
    return DONE


def _compare(args: argparse.Namespace) -> int:
    from winnow.evaluation.compare import compare

    print(compare(args.a, args.b))
    return DONE


def _report(args: argparse.Namespace) -> int:
    from winnow.study.report.write import write_report

    print(write_report(args.directories, args.out, args.x))
    return DONE


def _dashboard(args: argparse.Namespace) -> int:
    from winnow.run_logs.dashboard import publish_dashboard

    for line in publish_dashboard(args.project):
        print(line)
    return DONE


def _export(args: argparse.Namespace) -> int:
    from winnow.assemble.commands import export_checkpoint
    from winnow.config.saved_runs import read_saved_run as saved

    print(export_checkpoint(saved(args.run), args.out))
    return DONE


if __name__ == "__main__":
    main()
