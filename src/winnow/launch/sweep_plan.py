"""The jobs that a sweep expands to, before any of them starts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import filter_overrides
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from winnow.config.compose import Composer
from winnow.config.nodes import hash_of
from winnow.config.override_errors import composition_error
from winnow.config.saved_runs import DEPTH, read_saved_run
from winnow.errors import ConfigError
from winnow.launch.run_directory import CHECKPOINTS, can_begin_again, has_trace, holds_run
from winnow.launch.sweep_results import JobRow
from winnow.study.arms import IDLE_SECTIONS
from winnow.study.runs import own_words


def jobs_of(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> list[list[str]]:
    """The overrides of each job.

    A sweeper other than Hydra's basic one chooses values while it runs; for it, the one list holds the overrides that
    are not swept over, and the first value of each that is.

    Raises:
        ConfigError: the sweep is over nothing.
    """
    overrides = composer.parse(lines)
    for_hydra = [str(o.input_line) for o in overrides if o.is_hydra_override()]
    for_jobs = [o for o in overrides if not o.is_hydra_override()]
    params = composer.parse([f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()])
    if not str(cfg.hydra.sweeper._target_).endswith(".BasicSweeper"):
        typed = {o.get_key_element() for o in for_jobs}
        searched = [*(o for o in params if o.get_key_element() not in typed), *for_jobs]
        return [for_hydra + [_first_choice(o) for o in searched]]
    for o in params + for_jobs:
        if isinstance(interval := o.value(), IntervalSweep):
            raise ConfigError(
                f"{o.input_line}: values of an interval are chosen by a search; type hparams_search=optuna, or name "
                f"the values: {o.get_key_element()}={interval.start},{interval.end}"
            )
    try:
        batches = BasicSweeper.split_arguments(params + for_jobs, None)
    except HydraException as error:
        raise ConfigError(composition_error(error)) from error
    if not batches[0]:
        empty = next(str(o.input_line) for o in for_jobs if o.is_sweep_override() and not any(o.sweep_iterator()))
        raise ConfigError(f"{empty}: a sweep over nothing, no job to run; give it values, such as algo=raft,grpo")
    return [for_hydra + job for job in batches[0]]


def _first_choice(override: Override) -> str:
    """The override with the first of the values that it is swept over."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return f"{override.get_key_element()}={value.start}"
    if override.is_sweep_override():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    return str(override.input_line)


def refuse_choices(composer: Composer, cfg: DictConfig, lines: Sequence[str], is_sweep: bool) -> None:
    """Check that the algorithm is chosen once, and that a single run chooses all that its experiment would sweep over.

    Raises:
        ConfigError: both `arm=` and `algo=` choose the algorithm, or a single run leaves a choice open.
    """
    typed = {o.get_key_element(): str(o.input_line) for o in composer.parse(lines)}
    params = {str(key): str(values) for key, values in (cfg.hydra.sweeper.params or {}).items()}
    arm = typed.get("arm") or ("arm" in params and "the experiment's arm")
    if arm and "algo" in typed:
        raise ConfigError(f"{typed['algo']}: {arm} says which algorithm; leave one of them out")
    unchosen = {key: values for key, values in params.items() if key not in typed}
    if unchosen and not is_sweep:
        choice = " ".join(f"{key}={values.split(',')[0]}" for key, values in unchosen.items())
        raise ConfigError(
            f"experiment={cfg.hydra.runtime.choices.experiment} is a sweep over {', '.join(unchosen)}; "
            f"type -m before it, or choose one: {choice}"
        )


def config_hash(cfg: DictConfig) -> str:
    """Identity of a run: twelve hexadecimal digits of its resolved configuration, without the settings that have no
    influence on what it computes."""
    part = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in IDLE_SECTIONS])
    return hash_of(OmegaConf.to_container(part, resolve=True))[:12]


def require_other_words(first: Sequence[str], second: Sequence[str], merges: bool) -> None:
    """Check that two jobs of one configuration are meant: a sweep that merges them has them by different words.

    Raises:
        ConfigError: it does not merge them, or one job was typed twice.
    """
    if not merges or sorted(first) == sorted(second):
        a, b = (" ".join(filter_overrides(list(job))) for job in (first, second))
        raise ConfigError(f"{a} and {b}: two jobs of this sweep are the same run; name each value once")


@dataclass(frozen=True)
class PreviousRuns:
    """The runs that earlier starts left in a sweep's directory, and the directories planned for this start.

    Both are keyed by `config_hash`: neither a job's number nor its overrides identify a run. Runs that are not
    `identifiable` by their configuration are found again by their directory.
    """

    program: str
    runs: dict[str, Path]
    identifiable: bool = True
    planned: dict[str, Path] = field(default_factory=dict)
    words: dict[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def below(cls, top: Path, program: str) -> "PreviousRuns":
        """The runs at any depth below `top` that runs of a sweep have."""
        hashes = ((_saved_hash(directory), directory) for directory in _run_directories(top))
        return cls(program, {name: directory for name, directory in hashes if name is not None})

    def place(self, cfg: DictConfig, directory: Path, words: Sequence[str], merges: bool) -> Path:
        """The directory for the run of `cfg`: the one that it has already, or else `directory`, or one beside that if
        another run is in it. Two jobs of one configuration have one directory where the sweep `merges` them.

        Raises:
            ConfigError: another job of the sweep is the same run, by the same words or where nothing is merged.
        """
        name = config_hash(cfg)
        if name in self.planned:
            require_other_words(self.words[name], words, merges)
            return self.planned[name]
        is_taken = self.identifiable and holds_run(directory)
        if is_taken or directory in (*self.planned.values(), *self.runs.values()):
            directory = directory.with_name(f"{directory.name}-{name}")
        self.words[name] = words
        self.planned[name] = self.runs.get(name, directory)
        return self.planned[name]

    def is_done(self, directory: Path) -> bool:
        """Whether `directory` holds a run that ended regularly."""
        try:
            status = json.loads((directory / "summary.json").read_text()).get("status")
        except (OSError, json.JSONDecodeError):
            return False
        return status == "done" and directory in self.runs.values()

    def is_resumable(self, directory: Path) -> bool:
        """Whether `directory` holds a run that can be continued, or begun again."""
        if not self.identifiable:
            return holds_run(directory)
        known = directory in self.runs.values()
        return known and (has_trace(directory, CHECKPOINTS) or can_begin_again(directory, self.program))


def _run_directories(top: Path) -> Iterator[Path]:
    for depth in range(1, DEPTH + 1):
        yield from (path.parents[1] for path in sorted(top.glob("*/" * depth + ".hydra/config.yaml")))


def _saved_hash(directory: Path) -> str | None:
    try:
        return config_hash(read_saved_run(directory).cfg)
    except (ConfigError, OmegaConfBaseException):  # the run was killed while Hydra wrote its configuration
        return None


def minimum_detectable_effect(rows: Sequence[JobRow], cfg: DictConfig) -> list[str]:
    """A line with the smallest difference between two arms, paired by seed, that is detected with 80 % power.

    `study.noise` is the standard deviation of such a paired difference in final accuracy, from earlier runs; without it
    the line is in standard deviations. There is no line for fewer than two arms or two seeds.
    """
    seeds: dict[str, set[object]] = {}
    for row in rows:
        seeds.setdefault(_without_seed(row.overrides), set()).add(row.labels["seed"])
    fewest = min((len(arm_seeds) for arm_seeds in seeds.values()), default=0)
    if fewest < 2 or len(seeds) < 2:
        return []
    noise = OmegaConf.select(cfg, "study.noise")
    from winnow.study.statistics import detectable_difference  # imports scipy, which no other command needs

    size = detectable_difference(fewest, sd=noise or 1.0)
    compared = f"{len(seeds)} arms × {fewest} seeds: at 80 % power"
    if noise and size > 1:  # accuracies differ by at most 100 points
        return [f"{compared} no difference is detectable with study.noise={noise:g}; type more seeds"]
    effect = (
        f"{100 * size:.1f} points of accuracy" if noise else f"{size:.1f} standard deviations of the paired difference"
    )
    return [f"{compared} only differences above {effect} are detectable"]


def equal_jobs(planned: Sequence[tuple[JobRow, str | None]], previous: PreviousRuns) -> dict[int, int]:
    """Numbers of jobs that train what another one trains, by their essences, with the number of that.

    The other one is the first whose run an earlier start has completed, or else begun, or else the first. A job whose
    own run has begun before goes on with it.
    """
    groups: dict[str, list[JobRow]] = {}
    for row, essence in planned:
        if essence is not None:
            groups.setdefault(essence, []).append(row)
    equal: dict[int, int] = {}
    for rows in groups.values():
        into = min(rows, key=lambda row: _progress(row.directory, previous))
        own = {row.job for row in rows if row.directory != into.directory and _progress(row.directory, previous) < 2}
        equal |= {row.job: into.job for row in rows if row is not into and row.job not in own}
    return dict(sorted(equal.items()))


def _progress(directory: Path, previous: PreviousRuns) -> int:
    """0 for a run that is done, 1 for one that can go on, and 2 for one that is to begin."""
    return 0 if previous.is_done(directory) else 1 if previous.is_resumable(directory) else 2


def same_runs(essences: Sequence[str | None], jobs: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each job that trains what an earlier one trains, although their settings differ."""
    first: dict[str, int] = {}
    own = own_words(jobs)
    for number, essence in enumerate(essences):
        before = number if essence is None else first.setdefault(essence, number)
        if before != number:
            yield (
                f"{own[before]} and {own[number]} are the same run, up to rounding: the settings in which they "
                "differ change nothing"
            )


def _without_seed(overrides: str) -> str:
    return " ".join(word for word in overrides.split() if not word.startswith("seed="))
