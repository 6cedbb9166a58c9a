"""A configuration from overrides, without a run: for the `winnow` command."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from winnow import validation
from winnow.app import command_line
from winnow.app.composition import Composer
from winnow.app.unique import unique


def composed(program: str, words: Sequence[str]) -> DictConfig:
    """What `python train.py WORDS` (`program` "train") would be given.

    Raises:
        ConfigError: what is wrong with which word, and what to type instead.
    """
    name = unique()
    OmegaConf.register_new_resolver("winnow.unique", lambda: name, replace=True)
    command = command_line.read(words)
    composer = Composer(program, Path(str(files("winnow"))) / "conf", command)
    cfg = composer.for_task(composer.compose(command.overrides))
    validation.require_trusted(cfg)
    return cfg
