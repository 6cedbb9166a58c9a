"""Phases of an iteration on a CPU: units of work times the costs that a calibration of this machine has found."""

from collections.abc import Callable

from winnow.plan.cpu_work import decoding_units, forward_units, update_units
from winnow.plan.decoding import decoded, ranks_of
from winnow.plan.lengths import Lengths
from winnow.plan.machine import Costs, Machine, Units
from winnow.plan.setup import Setup
from winnow.plan.timeline import Phase
from winnow.plan.work import Tokens, prompts_of, tokens_of

ADAM_BYTES = 28
"""Bytes a parameter and step: weight, gradient and two moments are read, all but the gradient are written."""


def cpu_phases(setup: Setup, machine: Machine, lengths: Lengths, slots: int) -> list[Phase]:
    """The phases of an iteration, in CPU seconds of one of its processes."""
    update = _updating(setup, machine, lengths)
    if setup.supervised:
        return update
    rows = setup.rows / setup.devices
    return [
        _sampling(setup, machine, lengths, slots, setup.prompts, setup.samples),
        _scoring(setup, machine, lengths),
        *update,
        Phase(
            "bookkeeping",
            rows * machine.row + machine.iteration,
            f"{rows:,.0f} rows × {machine.row * 1e3:.2f} ms + {machine.iteration * 1e3:.0f} ms",
        ),
    ]


def cpu_evaluation(setup: Setup, machine: Machine, lengths: Lengths, slots: int) -> Phase:
    """One evaluation of the held-out sets, which only samples."""
    plan = setup.evaluations
    if plan.prompts == 0:
        return Phase("evaluation", 0.0, "none")
    cut = lengths.cut(plan.max_tokens)
    seconds = _sampling(setup, machine, cut, slots, plan.prompts, plan.samples).seconds
    return Phase("evaluation", seconds, f"{plan.prompts:,} prompts × {plan.samples} samples ({plan.basis})")


def _sampling(setup: Setup, machine: Machine, lengths: Lengths, slots: int, prompts: int, samples: int) -> Phase:
    """The prompts' forward, and decoding in as many steps as the rows of the first rank need."""
    rows = ranks_of(prompts, samples, setup.devices)[0]
    work = decoded(lengths.drawn((rows,)), max(slots, 1), lengths.prompt)
    prefill = tokens_of(rows / samples, 0, lengths)
    first = machine.update.of(_forward(setup, prefill))
    units = decoding_units(setup.shape, work.steps, work.tokens, work.positions)
    seconds = machine.decoding.of(units)
    how = f"{work.steps:,} steps, {work.tokens:,} tokens: {_sum(units, machine.decoding)}; prompts {first:.2f} s"
    return Phase("sampling", first + seconds, how)


def _scoring(setup: Setup, machine: Machine, lengths: Lengths) -> Phase:
    passes = setup.shares.old + setup.shares.reference + setup.shares.values
    work = tokens_of(setup.prompts, setup.rows, lengths).times(passes / setup.devices)
    units = _forward(setup, work)
    return Phase(
        "scoring", machine.update.of(units), f"{passes:.2f} forwards of all rows: {_sum(units, machine.update)}"
    )


def _forward(setup: Setup, work: Tokens) -> Units:
    return forward_units(setup.shape, work, max(1.0, work.all / setup.memory.token_budget))


def _updating(setup: Setup, machine: Machine, lengths: Lengths) -> list[Phase]:
    """Forward and backward of the rows with a gradient, twice with a critic, and AdamW's steps."""
    memory, shape, steps = setup.memory, setup.shape, setup.minibatches * setup.epochs
    rows = setup.rows * setup.shares.kept
    prompts = prompts_of(rows, setup.samples, setup.minibatches * setup.devices)
    work = tokens_of(prompts, rows, lengths).times(setup.epochs / setup.devices)
    micro = steps * max(1, -(-int(work.all / steps) // memory.token_budget))
    units = update_units(shape, work, micro, memory.recompute)
    seconds = machine.update.of(units) * (2 if memory.critic else 1)
    learned = shape.trainable + (shape.backbone_trainable if memory.critic else 0)
    adam = steps * ADAM_BYTES * learned / machine.adam
    how = f"{work.all:,.0f} tokens in {micro} micro-batches: {_sum(units, machine.update)}"
    twice = "; and the critic's, as much again" if memory.critic else ""
    return [
        Phase("update", seconds, how + twice),
        Phase("AdamW", adam, f"{steps} × {ADAM_BYTES} bytes × {learned:,} ÷ {machine.adam / 1e9:.1f} GB/s"),
    ]


WORDS: dict[str, Callable[[float, float], str]] = {
    "flop": lambda n, cost: f"{n / 1e9:,.1f} GFLOP ÷ {1e-9 / cost:.0f} GFLOP/s",
    "activation": lambda n, cost: f"{n / 1e9:,.2f} GB of activations ÷ {1e-9 / cost:.2f} GB/s",
    "logit": lambda n, cost: f"{n / 1e9:,.2f} GB of logits ÷ {1e-9 / cost:.2f} GB/s",
    "call": lambda n, cost: f"{n:,.0f} calls of a layer × {cost * 1e3:.3f} ms",
    "weight": lambda n, cost: f"{n / 1e9:,.2f} GB of weights ÷ {1e-9 / cost:.2f} GB/s",
    "cache": lambda n, cost: f"{n / 1e9:,.2f} GB of keys and values ÷ {1e-9 / cost:.2f} GB/s",
    "step": lambda n, cost: f"{n:,.0f} steps × {cost * 1e3:.3f} ms",
}


def _sum(units: Units, costs: Costs) -> str:
    """The units that cost something, as a sum whose terms can be checked."""
    terms = [
        f"{words(number, cost)} = {number * cost:.2f} s"
        for name, words in WORDS.items()
        if (number := getattr(units, name)) and (cost := getattr(costs, name))
    ]
    return " + ".join(terms)
