"""Command line `winnow COMMAND`. Each command imports its part only when it runs, so that `--help` is fast."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from winnow import signals
from winnow._version import __version__
from winnow.errors import BUG, CONFIG, DISK, DONE, ConfigError, DiskFailure, Stopped
from winnow.files import DiskErrors, keep_compiled_code, require_new
from winnow.visible_text import message, visible

PROGRAMS = {"train": "train a model", "evaluate": "evaluate a model"}
ORACLE_NUMBERS = (
    ("vocabulary", 2, "tokens, the EOS among them"),
    ("horizon", 3, "tokens of a response at most"),
    ("prompts", 2, "prompts of an iteration"),
    ("samples", 4, "responses to each prompt"),
    ("moved", 0.0, "how far the policy has moved since it sampled, in logits"),
    ("mismatch", 0.0, "how far the sampler is from the policy, in logits"),
    ("seed", 0, "of the policies"),
)
"""Options of `winnow oracle`, each with its default and what it is."""
ORACLE_TABLES = (
    "algorithms",
    "select_and_advantage",
    "aggregate",
    "ratio",
    "clip",
    "tokens",
    "kl",
    "correction",
    "collector",
)
AXES = ("iterations", "sampled_tokens", "trained_tokens", "seconds")


def main() -> NoReturn:
    """Run the command on `sys.argv`, and exit with its code (`winnow.errors`)."""
    signals.install()
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(words: Sequence[str]) -> int:
    """Run the command that `words` name; a ConfigError becomes one line on stderr and code 2, a full disk code 74."""
    if words and words[0] in PROGRAMS:  # their words are Hydra's
        from winnow.launch import programs

        return programs.installed(words[0]).exit_code(words[1:])
    if words and words[0] in ("-sc", "--shell_completion"):
        from winnow.launch.completion import complete

        return complete(words, _parser().known)
    keep_compiled_code()
    with signals.answered_by(lambda: "ended"):
        return _tool(words)


def _tool(words: Sequence[str]) -> int:
    try:
        args = _arguments(words)
        with signals.caught(), DiskErrors(Path.cwd(), lambda: "make room there, or type another directory"):
            code = args.command(args) or DONE
            sys.stdout.flush()
            return code
    except DiskFailure as failure:
        print(visible(f"disk: {' '.join(str(failure).split())}"), file=sys.stderr)
        return DISK
    except BrokenPipeError:  # the reader has gone, as of `winnow prompt | head`: nobody is left to write for
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Stopped as stop:
        return stop.code
    except ConfigError as error:
        print(message(f"error: {error}"), file=sys.stderr)
        return CONFIG


class _Parser(argparse.ArgumentParser):
    """Parser that reports an error on one line, without the usage. `known` are the names of all commands."""

    known: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; type {self.prog} --help")


def _parser() -> "_Parser":
    parser = _Parser(prog="winnow", description="Post-train language models with verifiable rewards.")
    parser.add_argument("--version", action="version", version=f"winnow {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(command=globals()[f"_{name}"])
        return added

    for name, does in PROGRAMS.items():
        commands.add_parser(name, help=f"{does}: winnow {name} --help")
    new = command("new", "write a project of your own: settings, a reward, a test")
    new.add_argument("directory", type=_directory, metavar="DIR", help="a new directory, named as its package")

    command("doctor", "check whether this machine can train")

    prompt = command("prompt", "print a problem as the model reads it: text, token ids and their hash")
    _overrides(prompt, "as for train.py, such as model=qwen dataset=gsm8k")
    prompt.add_argument("--row", type=int, default=0, help="number of the problem, from 0")
    prompt.add_argument("--set", dest="benchmark", help="evaluation set of the problem; default: training problems")

    verify = command("verify", "judge answers, and compare the verdicts with labels where there are any")
    verify.add_argument("cases", type=Path, metavar="CASES.jsonl", help='rows {"gold": …, "pred": …}')
    _overrides(verify, "such as reward/verifier=numeric reward.verifier.rule.relative=1e-3")

    rescore = command("rescore", "judge the samples of an evaluation again, with another verifier")
    rescore.add_argument("source", type=Path, metavar="EVALUATION")
    rescore.add_argument("target", type=Path, metavar="OUT", help="a new directory for the resulting evaluation")
    _overrides(rescore, "such as reward/verifier=exact; by default, each benchmark's own verifier")

    compare = command("compare", "compare two evaluations, paired by prompt: difference, interval, flips")
    compare.add_argument("a", type=Path, metavar="A")
    compare.add_argument("b", type=Path, metavar="B")

    report = command("report", "write the report of runs and sweeps: one offline page, with intervals and verdicts")
    report.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="runs, or sweeps of them")
    report.add_argument("--x", choices=AXES, default=AXES[0], help="x-axis of the curves; default %(default)s")
    report.add_argument("--out", type=Path, help="a directory; default the first DIR")
    report.add_argument("--self-contained", action="store_true", help="one page with its pictures, to send by mail")

    dashboard = command("dashboard", "make a W&B workspace and report with the panels that matter")
    dashboard.add_argument("project", metavar="ENTITY/PROJECT")

    explain = command("explain", "print the objective as a formula, with its settings filled in")
    _overrides(explain, "as for train.py, such as algo=grpo algo/kl=k2 update.minibatches=4")
    explain.add_argument("--latex", action="store_true", help="the formula alone, in LaTeX")

    diff = command("diff", "say in which formula and settings two lists of overrides differ")
    diff.add_argument("a", metavar="A", help='overrides in quotes, such as "algo=grpo algo/clip=none"')
    diff.add_argument("b", metavar="B")

    plan = command("plan", "say before a run what fits, how long it takes and what it costs; no GPU or hub needed")
    _overrides(plan, "as for train.py, such as experiment=paper/grpo hardware.devices=8")
    plan.add_argument("--gpu", help="such as H100, the default, or A100; hardware=cpu plans for this machine")
    plan.add_argument("--lengths", type=Path, metavar="RUN", help="a run with samples/, for the lengths of responses")
    plan.add_argument("--rates", type=Path, metavar="RUN", help="a run of this model, for its measured tokens a second")
    plan.add_argument("--price", type=float, metavar="USD", help="of a GPU and hour; default: no costs")
    plan.add_argument("--assume", action="append", default=[], metavar="NAME=VALUE", help="in place of an assumption")
    plan.add_argument("--table", choices=("paper", "devices"), help="Table 1 of the paper; or 1, 8 and 64 GPUs")
    plan.add_argument("--simulate", action="store_true", help="stragglers and staleness, out to 1,000 GPUs")
    plan.add_argument("--json", action="store_true", help="numbers for programs")
    plan.add_argument("--calibrate", action="store_true", help="measure this machine, for plans with hardware=cpu")

    oracle = command("oracle", "measure bias and variance of an estimator where every response can be enumerated")
    _overrides(oracle, "as for train.py, such as algo=grpo algo/aggregate=token_mean")
    for name, default, does in ORACLE_NUMBERS:
        oracle.add_argument(f"--{name}", type=type(default), default=default, help=f"{does}; default %(default)s")
    oracle.add_argument(
        "--reward", choices=("verdict", "graded", "none"), default="verdict", help="default %(default)s"
    )
    oracle.add_argument("--draws", type=int, help="draw so many iterations; default: enumerate all")
    oracle.add_argument("--table", choices=ORACLE_TABLES, help="every option of an axis, as Markdown")
    oracle.add_argument("--json", action="store_true", help="numbers for programs")

    check = command("check", "test whether an algorithm, and each of its rules, keeps the promises that runs build on")
    _overrides(check, "as for train.py, such as algo=grpo algo/clip=soft plugins=[my_project]")

    replay = command("replay", "compute the numbers of a dump again, to the first that is not finite")
    replay.add_argument("file", type=Path, metavar="FILE", help="a file in RUN/faults")

    export = command("export", "write a checkpoint of a run as a Hugging Face folder, or publish it on a hub")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("out", metavar="OUT", help="a new directory, or hub:OWNER/NAME for a model repository")
    export.add_argument("--iteration", default="newest", metavar="N", help="its number, best, or newest (the default)")
    export.add_argument("--public", action="store_true", help="make a new repository public; without it it is private")
    export.add_argument("--dry-run", action="store_true", help="hub: show what would be uploaded, and ask nobody")

    audit = command("audit", "compute iterations of a run again from its own files; 0 equal, 4 differs, 5 undecided")
    audit.add_argument("run", type=Path, metavar="RUN")
    audit.add_argument(
        "--iterations", type=int, default=3, metavar="K", help="number of iterations, chosen at random; default 3"
    )
    audit.add_argument("--from-start", action="store_true", help="compute the first iteration again too")
    parser.known = tuple(commands.choices)
    return parser


def _directory(name: str) -> Path:
    if not name:  # which pathlib takes for the current directory
        raise argparse.ArgumentTypeError("the name is empty; type the name of a new directory, or . for this one")
    return Path(name)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """The words read by the parser; overrides may stand before and after the options, which argparse alone refuses."""
    parser = _parser()
    args, rest = parser.parse_known_args(list(words))
    if rest and ("overrides" not in args or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = [*getattr(args, "overrides", []), *rest]
    return args


def _overrides(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=which)


def _new(args: argparse.Namespace) -> None:
    from winnow.new_project import write_project

    print(visible(write_project(args.directory)))


def _doctor(args: argparse.Namespace) -> int:
    from winnow.doctor import Level, examine

    failed = False
    for finding in examine():
        print(finding, flush=True)
        failed |= finding.level is Level.FAIL
    return CONFIG if failed else DONE


def _prompt(args: argparse.Namespace) -> None:
    from winnow.config.compose import composed
    from winnow.config.data_check import check_benchmark, check_dataset
    from winnow.config.heldout_files import holds_out

    cfg = composed("train", args.overrides, ("reward.verifier", "dataset", "benchmarks"))
    if args.benchmark is None:
        check_dataset(cfg, holds_out(cfg))
    elif args.benchmark in cfg.benchmarks:
        check_benchmark(cfg, args.benchmark)
    else:
        known = ", ".join(map(str, cfg.benchmarks))
        raise ConfigError(f"--set {args.benchmark}: no such benchmark; there are {known}")
    from winnow.assemble.prompt import show_prompt  # imports torch and transformers, which takes seconds
    from winnow.config.targets import check_nodes

    check_nodes(cfg, "model")
    show_prompt(cfg, args.row, args.benchmark, sys.stdout)


def _verify(args: argparse.Namespace) -> None:
    from winnow.config.compose import composed
    from winnow.config.nodes import build_node
    from winnow.rewards.verify_cases import verify_cases

    with build_node(composed("train", args.overrides, ("reward.verifier",)).reward.verifier) as pool:
        verify_cases(args.cases, sys.stdout, pool)


def _rescore(args: argparse.Namespace) -> None:
    from winnow.config.compose import composed
    from winnow.config.nodes import verifier_of
    from winnow.evaluation.compare import rescore

    cfg = composed("train", args.overrides, ("reward.verifier", "benchmarks"))
    named = any(words.startswith(("reward/", "reward.")) for words in args.overrides)
    rescore(args.source, args.target, lambda name: verifier_of(cfg, None if named else name), sys.stdout)


def _compare(args: argparse.Namespace) -> None:
    from winnow.evaluation.compare import compare

    print(visible(compare(args.a, args.b)))


def _report(args: argparse.Namespace) -> None:
    from winnow.run_logs.console import print_line
    from winnow.study.report.target import report_target
    from winnow.study.study import read_study

    target = report_target(args.directories, args.out, args.self_contained)
    study = read_study(args.directories)
    from winnow.study.report.write import write_study  # imports matplotlib and scipy

    print_line(write_study(study, target, args.out, args.x))


def _dashboard(args: argparse.Namespace) -> None:
    from winnow.run_logs.dashboard import publish_dashboard

    for line in publish_dashboard(args.project):
        print(line)


def _explain(args: argparse.Namespace) -> None:
    from winnow.config.explanation import explain  # imports torch

    print(visible(explain(args.overrides, args.latex)))


def _diff(args: argparse.Namespace) -> None:
    from winnow.config.explanation import difference

    print(visible(difference(_words(args.a), _words(args.b))))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:  # a quotation mark that is not closed
        raise ConfigError(f"{text}: {error}; type overrides as for train.py, in quotes") from error


def _plan(args: argparse.Namespace) -> None:
    from winnow.assemble.plan_advice import advised
    from winnow.assemble.planning import Options, plan_of
    from winnow.plan.plan import with_simulation
    from winnow.plan.report import as_json, text

    if args.calibrate:
        if args.overrides:
            raise ConfigError(f"--calibrate: measures this machine and plans nothing; leave {args.overrides[0]} out")
        from winnow.launch.calibration import calibrate
        from winnow.plan.machine import write_machine

        machine = calibrate(lambda line: print(line, file=sys.stderr))
        print(visible(f"{machine}\n{write_machine(machine)}"))
        return
    options = Options(args.gpu, args.rates, args.lengths, args.price, tuple(args.assume))
    if args.table is not None:
        if args.simulate:
            raise ConfigError("--simulate: is about one run; leave --table out")
        from winnow.assemble.plan_tables import markdown, rows_as_json, rows_of

        rows = list(rows_of(args.table, args.overrides, options))
        print(rows_as_json(rows) if args.json else visible(markdown(rows)))
        return
    found = advised(plan_of(args.overrides, options), args.overrides, options)
    found = with_simulation(found) if args.simulate else found
    print(as_json(found) if args.json else visible(text(found)))


def _oracle(args: argparse.Namespace) -> None:
    from winnow.assemble.oracle import Asked, as_json, oracle, text

    if args.table is not None:
        if more := args.overrides or ["--json"] * args.json:
            raise ConfigError(f"--table {args.table}: is Markdown, with words of its own; leave {more[0]} out")
        from winnow.assemble.oracle_tables import lines

        for line in lines(args.table):
            print(line, flush=True)
        return
    asked = Asked(reward=args.reward, draws=args.draws, **{name: getattr(args, name) for name, _, _ in ORACLE_NUMBERS})
    setting, answer = oracle(args.overrides, asked)
    print(as_json(setting, answer) if args.json else visible(text(setting, answer)))


def _check(args: argparse.Namespace) -> int:
    from winnow.config.compose import composed
    from winnow.config.instantiate import build_algorithm
    from winnow.conformance.run import findings, report

    algorithm = build_algorithm(composed("train", args.overrides, ("algo",)))
    return DONE if report(list(findings(algorithm)), lambda line: print(visible(line))) else BUG


def _replay(args: argparse.Namespace) -> int:
    from winnow.assemble.replay import replay_dump

    return replay_dump(args.file, sys.stdout)


def _export(args: argparse.Namespace) -> None:
    from winnow.config.saved_runs import read_saved_run

    run, hub, out = read_saved_run(args.run), "hub:", Path(args.out)
    if args.out.startswith(hub):
        from winnow.assemble.publish import publish_checkpoint

        print(publish_checkpoint(run, args.out.removeprefix(hub), args.iteration, not args.public, args.dry_run))
        return
    if args.public or args.dry_run:
        raise ConfigError(f"{args.out}: --public and --dry-run are about repositories; type hub:OWNER/NAME")
    require_new(out)
    from winnow.assemble.export import export_checkpoint

    print(f"{export_checkpoint(run, out, args.iteration)}: {args.out}")


def _audit(args: argparse.Namespace) -> int:
    from winnow.assemble.audit import audit
    from winnow.run_logs.console import print_line

    if args.iterations < 0:
        raise ConfigError(f"--iterations {args.iterations}: must be 0 or more")
    try:
        return audit(args.run, args.iterations, args.from_start, print_line)
    except Stopped as stop:
        return stop.code


if __name__ == "__main__":
    main()
