"""The configuration of a run as a tree on the terminal (`extras.print_config=true`)."""

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax
from rich.tree import Tree

from winnow.visible_text import visible


def config_tree(cfg: DictConfig) -> Tree:
    """A branch for each section, with its settings as YAML, interpolations resolved; a leaf for each single setting."""
    tree = Tree("configuration", guide_style="dim")
    for key, value in cfg.items():
        if isinstance(value, DictConfig):
            text = OmegaConf.to_yaml(value, resolve=True).strip()
            tree.add(str(key)).add(Syntax(visible(text), "yaml", background_color="default"))
        else:
            tree.add(Syntax(visible(f"{key}: {value}"), "yaml", background_color="default"))
    return tree


def print_tree(cfg: DictConfig) -> None:
    Console().print(config_tree(cfg))
