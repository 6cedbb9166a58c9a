"""A plan: what fits, how long it takes and where the time goes, from a setup and rates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from winnow.errors import ConfigError
from winnow.plan.assumptions import Assumptions
from winnow.plan.cpu_phases import cpu_evaluation, cpu_phases
from winnow.plan.decoding import Decoding
from winnow.plan.fit import Fit, fit_of
from winnow.plan.gpu_phases import decoding_seconds, gpu_evaluation, gpu_phases
from winnow.plan.lengths import Lengths
from winnow.plan.machine import Machine
from winnow.plan.measured import MeasuredRates, measured_evaluation, measured_phases
from winnow.plan.rates import Rates, nominal
from winnow.plan.setup import Setup
from winnow.plan.simulation import COUNTS, Simulated, Work, simulate
from winnow.plan.timeline import Timeline, timeline_of


@dataclass(frozen=True)
class Plan:
    """A setup with its memory and its time. `advice` are choices of words that make it fit; empty where it fits.

    `price` is in USD per GPU and hour.
    """

    setup: Setup
    fit: Fit
    timeline: Timeline
    lengths: Lengths
    rates: Rates | Machine
    stated: Assumptions
    run: MeasuredRates | None = None
    price: float | None = None
    advice: tuple[tuple[str, ...], ...] = ()
    simulated: tuple[Simulated, ...] = ()

    @property
    def cost(self) -> float | None:
        """USD of the run: hours × GPUs × price."""
        return None if self.price is None else self.timeline.device_hours * self.price


def make_plan(
    setup: Setup,
    rates: Rates | Machine,
    lengths: Lengths,
    available: float,
    stated: Assumptions,
    run: MeasuredRates | None = None,
    price: float | None = None,
) -> Plan:
    """The plan of a setup on devices with `available` bytes each."""
    besides = rates.overhead if isinstance(rates, Machine) else stated["context_bytes"]
    fit = fit_of(setup, available, besides, lengths)
    if run is not None:
        phases, evaluation = measured_phases(setup, run, lengths), measured_evaluation(setup, run, lengths)
    elif isinstance(rates, Machine):
        phases = cpu_phases(setup, rates, lengths, fit.slots)
        evaluation = cpu_evaluation(setup, rates, lengths, fit.slots)
    else:
        phases = gpu_phases(setup, rates, lengths, fit.slots, stated)
        evaluation = gpu_evaluation(setup, rates, lengths, fit.slots)
    times = timeline_of(setup, phases, evaluation, lengths.mean)
    return Plan(setup, fit, times, lengths, rates, stated, run, price)


def with_simulation(plan: Plan, counts: Sequence[int] = COUNTS) -> Plan:
    """The plan with its iteration on other numbers of GPUs, sampled by all of them or on GPUs of their own.

    Each GPU decodes on its own, with the slots that the plan has; scoring, updates and their communication are taken
    from the phases of that number of GPUs.

    Raises:
        ConfigError: the plan is for a CPU.
    """
    setup, rates, gpu = plan.setup, plan.rates, plan.setup.gpu
    if isinstance(rates, Machine) or gpu is None:
        raise ConfigError("--simulate: is about GPUs; leave hardware=cpu out")

    def seconds(work: Decoding, rows: int) -> float:
        return decoding_seconds(setup, rates, work, rows / setup.samples, plan.lengths).total

    def update(gpus: int) -> float:
        nodes = -(-gpus // int(plan.stated["gpus_per_node"]))
        shards = gpus if setup.sharded else 0
        here = replace(setup, devices=gpus, nodes=nodes, memory=replace(setup.memory, shards=shards))
        phases = gpu_phases(here, nominal(gpu, here, plan.stated), plan.lengths, plan.fit.slots, plan.stated)
        return sum(phase.seconds for phase in phases if phase.name not in ("sampling", "verifying"))

    work = Work(setup.prompts, setup.samples, plan.fit.slots, plan.lengths, seconds, update)
    return replace(plan, simulated=tuple(simulate(work, sorted({*counts, setup.devices}))))
