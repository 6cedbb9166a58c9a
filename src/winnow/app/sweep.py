"""The jobs that a sweep expands to, before any of them starts."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf import DictConfig

from winnow.app import wording
from winnow.app.composition import Composer
from winnow.errors import ConfigError


def jobs_of(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> list[list[str]]:
    """The overrides of each job; of a sweeper that chooses them as it goes, those without a sweep.

    Raises:
        ConfigError: a sweep over nothing.
    """
    if cfg.hydra.launcher.get("jobs", 1) < 1:
        raise ConfigError(f"hydra.launcher.jobs={cfg.hydra.launcher.jobs}: must be 1 or more, jobs at a time")
    overrides = composer.parse(lines)
    for_hydra = [str(o.input_line) for o in overrides if o.is_hydra_override()]
    for_jobs = [o for o in overrides if not o.is_hydra_override()]
    if not str(cfg.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return [for_hydra + [str(o.input_line) for o in for_jobs if not o.is_sweep_override()]]
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    try:
        batches = BasicSweeper.split_arguments(composer.parse(params) + for_jobs, None)
    except HydraException as error:
        raise ConfigError(wording.of_composition(error)) from error
    if not batches[0]:
        empty = next(str(o.input_line) for o in for_jobs if o.is_sweep_override() and not any(o.sweep_iterator()))
        raise ConfigError(f"{empty}: a sweep over nothing, no job to run; give it values, such as algo=raft,grpo")
    return [for_hydra + job for job in batches[0]]


def refuse_two_algorithms(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: `arm=` and `algo=` both say which algorithm.
    """
    typed = {o.get_key_element(): str(o.input_line) for o in composer.parse(lines)}
    chosen = typed.get("arm") or ("arm" in (cfg.hydra.sweeper.params or {}) and "the experiment's arm")
    if chosen and "algo" in typed:
        raise ConfigError(f"{typed['algo']}: {chosen} says which algorithm; leave one of them out")


def refuse_unchosen(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: the configuration says what to sweep over, and one run is asked for that leaves it open.
    """
    typed = {o.get_key_element() for o in composer.parse(lines)}
    open_keys = {str(key): str(values) for key, values in (cfg.hydra.sweeper.params or {}).items() if key not in typed}
    if open_keys:
        one = " ".join(f"{key}={values.split(',')[0]}" for key, values in open_keys.items())
        raise ConfigError(
            f"experiment={cfg.hydra.runtime.choices.experiment} is a sweep over {', '.join(open_keys)}; "
            f"type -m before it, or choose one: {one}"
        )
