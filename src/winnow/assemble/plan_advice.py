"""Advice for a run that does not fit: words that save memory, and that fit when they are planned."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from winnow.assemble.planning import Options, asked
from winnow.errors import ConfigError
from winnow.plan.fit import fit_of
from winnow.plan.plan import Plan
from winnow.plan.setup import Setup


def advised(plan: Plan, words: Sequence[str], options: Options) -> Plan:
    """The plan with words that would make it fit, if it does not: the first of `remedies` that fits when it is planned.

    Of remedies for this number of devices, and of more devices, one each.
    """
    if plan.fit.fits:
        return plan
    found = (_first_fitting(ladder, words, options) for ladder in remedies(plan.setup))
    return replace(plan, advice=tuple(tuple(added) for added in found if added is not None))


def remedies(setup: Setup) -> Iterator[list[list[str]]]:
    """Ladders of words that save memory, those first that change least: none of them changes the objective but LoRA."""
    lean = [] if setup.memory.recompute else ["hardware.gradient_checkpointing=true"]
    budgets = [[f"hardware.token_budget={n}"] for n in (16384, 8192, 4096, 2048) if n < setup.memory.token_budget]
    steps = [lean, *([*lean, *budget] for budget in budgets)]
    fsdp = [] if setup.sharded else ["hardware.strategy=fsdp"]
    here = [step for step in steps if step]
    if setup.devices > 1:
        here += [[*fsdp, *step] for step in steps if fsdp or step]
        here += [[*fsdp, "hardware.offload=true", *step] for step in (steps[0], steps[-1])]
    yield here
    counts = [n for n in (2, 4, 8) if n > setup.devices]
    yield [[*fsdp, f"hardware.devices={n}", *step] for n in counts for step in (steps[0], steps[-1])]
    if setup.shape.trainable == setup.shape.parameters:
        yield [["model/lora=adapter", *step] for step in steps]


def _first_fitting(ladder: Sequence[list[str]], words: Sequence[str], options: Options) -> list[str] | None:
    refused: set[str] = set()
    for added in ladder:
        if refused & {*added}:
            continue
        replaced = {word.partition("=")[0] for word in added}
        kept = [word for word in words if word.partition("=")[0] not in replaced]
        try:
            found = asked([*kept, *added], options)
            if fit_of(found.setup, found.available, found.stated["context_bytes"], found.lengths).fits:
                return added
        except ConfigError:  # not every configuration takes every word, such as a strategy on one device
            refused.add(added[0])
    return None
