"""Parts of a mixture that are named: `dataset.mix={school:gsm8k}` mixes the dataset that `dataset=gsm8k` chooses.

A run keeps the name in its configuration. The settings behind it are read from the same YAML files as those of
`dataset=gsm8k`, those of a user's own `--config-dir` included.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from winnow.config.override_errors import close_matches
from winnow.errors import ConfigError

FOLDER, MIXED = "dataset", "mix"
MIXTURE = "winnow.data.mixture.Mixture"


def dataset_node(cfg: DictConfig) -> DictConfig:
    """The `dataset` node, in which each named part of a mixture has the settings of the dataset of that name.

    Raises:
        ConfigError: there is no such dataset, or a part is a mixture itself.
    """
    mixed = cfg.dataset.get("mix")
    if not isinstance(mixed, DictConfig):
        return cfg.dataset
    for name, part in mixed.items():
        _refuse_mixture(part, f"dataset.mix.{name}")
    if not any(isinstance(part, str) for part in mixed.values()):
        return cfg.dataset
    node = OmegaConf.create(OmegaConf.to_container(cfg.dataset, resolve=True))
    assert isinstance(node, DictConfig)
    for name, part in mixed.items():
        if isinstance(part, str):
            node.mix[name] = _named(part, f"dataset.mix.{name}")
            _refuse_mixture(node.mix[name], f"dataset.mix.{name}={part}")
    return node


def _refuse_mixture(part: object, where: str) -> None:
    if part == MIXED or (isinstance(part, DictConfig) and part.get("_target_") == MIXTURE):
        raise ConfigError(f"{where}: a mixture cannot hold a mixture; give each of its parts a name in dataset.mix")


def _named(choice: str, key: str) -> DictConfig:
    file = next((folder / f"{choice}.yaml" for folder in _folders() if (folder / f"{choice}.yaml").is_file()), None)
    loaded = OmegaConf.load(file) if file is not None else None
    node = OmegaConf.select(loaded, "dataset") if isinstance(loaded, DictConfig) else None
    if isinstance(loaded, DictConfig) and "defaults" in loaded:
        raise ConfigError(f"{key}={choice}: brings other settings too, such as a verifier; type dataset={choice} alone")
    if not isinstance(node, DictConfig):
        known = sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")} - {MIXED})
        near = "".join(f"did you mean {name}? " for name in close_matches(choice, known)[:1])
        raise ConfigError(
            f"{key}={choice}: no such dataset; {near}there are {', '.join(known)}, or type {{path:FILE}} in its place"
        )
    return node


def _folders() -> Iterator[Path]:
    """The folders of datasets on Hydra's search path, the one that comes first there first."""
    # A tool that reads a saved run composes nothing, and finds the package's own.
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    places = [Path(source.path) for source in sources if source.schema == "file"]
    for place in places or [Path(str(files("winnow"))) / "conf"]:
        if (place / FOLDER).is_dir():
            yield place / FOLDER
