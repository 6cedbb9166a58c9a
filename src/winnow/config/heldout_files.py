"""The evaluation sets of a configuration: benchmarks, own files, and the dataset's own held-out split."""

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from winnow.data.collection import HeldOutFile

OWN = "heldout"
"""The name in `eval.sets` of the dataset's own held-out split."""
FIELDS = {
    "problem_field": ["problem", "question", "prompt", "messages"],
    "answer_field": ["answer", "ground_truth"],
    "solution_field": "solution",
    "gold": {"_target_": "winnow.data.collection.verbatim", "_partial_": True},
    "demonstration": {"_target_": "winnow.data.collection.verbatim", "_partial_": True},
    "bad_rows": "refuse",
}
"""Settings of a file of held-out problems, where the dataset does not say how its own rows are read."""


def benchmarks_of(cfg: DictConfig) -> list[str]:
    """The names of the benchmarks in `eval.sets`."""
    return [str(name) for name in cfg.eval.sets if name != OWN]


def holds_out(cfg: DictConfig) -> bool:
    """Whether some problems of the dataset are held out: where nothing else is evaluated, or `eval.sets` says so."""
    return OWN in cfg.eval.sets or not (cfg.eval.sets or cfg.eval.get("files"))


def heldout_files(cfg: DictConfig) -> list[HeldOutFile]:
    """The files of `eval.files`, whose rows are read as the dataset's are."""
    own = {key: cfg.dataset[key] for key in FIELDS if key in cfg.dataset}
    node = OmegaConf.create({"_target_": f"{HeldOutFile.__module__}.{HeldOutFile.__name__}", **FIELDS, **own})
    files = cfg.eval.get("files") or {}
    return [instantiate(node, name=str(name), path=path, _convert_="all") for name, path in files.items()]
