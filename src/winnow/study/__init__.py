"""Comparison of runs: arms of several seeds, paired differences with intervals, and verdicts on a paper's claims."""

from importlib.resources import files

import yaml


def packaged_yaml(name: str):
    """Content of a YAML file of this package, such as `measures.yaml` or `report/figures.yaml`."""
    return yaml.safe_load(files("winnow.study").joinpath(name).read_text(encoding="utf-8"))
