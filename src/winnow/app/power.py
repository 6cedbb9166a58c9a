"""What a sweep will be able to tell, said before it starts."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from winnow.app.summary import Row
from winnow.study.statistics import detectable


def found_by(rows: Sequence[Row], cfg: DictConfig) -> list[str]:
    """The difference between two arms that their common seeds find four times in five; nothing where seeds are not swept.

    `study.noise` is the standard deviation of such a difference in final accuracy, from earlier runs; without it the
    figure is in standard deviations.
    """
    seeds: dict[str, set[object]] = {}
    for row in rows:
        seeds.setdefault(_without_seed(row.overrides), set()).add(row.labels["seed"])
    fewest = min((len(found) for found in seeds.values()), default=0)
    if fewest < 2 or len(seeds) < 2:
        return []
    noise = OmegaConf.select(cfg, "study.noise")
    size = detectable(fewest, sd=noise or 1.0)
    what = f"{100 * size:.1f} points of accuracy" if noise else f"{size:.1f} standard deviations of that difference"
    return [
        f"{len(seeds)} arms × {fewest} seeds: between two arms, paired by seed, a difference of {what} is found 4 times in 5"
    ]


def _without_seed(overrides: str) -> str:
    return " ".join(word for word in overrides.split() if not word.startswith("seed="))
