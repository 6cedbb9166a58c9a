"""Report of a plan: the numbers with their arithmetic and all assumptions as text, or as JSON for programs."""

import json
from collections.abc import Iterator, Sequence

from winnow.models.memory import GB, USABLE
from winnow.plan.plan import Plan
from winnow.plan.simulation import ITERATIONS, SPLITS, Simulated

SIMULATED = (
    "assumed: lengths are independent draws; a GPU has whole prompts and decodes them alone, with the slots of this "
    "plan; an update starts when the last row is sampled, and takes what the timeline says of that many trainers;",
    f"separate samplers are the best of {', '.join(f'{part:.0%}' for part in SPLITS)} of the GPUs, hold all weights, "
    "get new ones at no cost, and begin iteration i when update i - 1 - staleness has ended; "
    "waiting: of the sampling GPUs",
)
"""The assumptions of the simulation, which stand below its table."""


def text(plan: Plan) -> str:
    """The whole report."""
    parts = [_head(plan), _memory(plan), *([_server(plan)] if plan.fit.server else []), _time(plan)]
    if plan.simulated:
        parts.append(_simulation(plan.simulated))
    parts.append(assumed(plan))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _head(plan: Plan) -> Iterator[str]:
    setup, shape = plan.setup, plan.setup.shape
    nodes = f", {setup.nodes} nodes" if setup.nodes > 1 else ""
    how = f", {setup.strategy}" if setup.devices > 1 else ""
    more = f" and {setup.sampler.devices} for sampling" if setup.sampler.separate else ""
    where = f"{setup.devices} × {_device(plan)}{more}{nodes}{how}, {setup.memory.precision}"
    yield f"{setup.algorithm} of {setup.model} on {where}"
    yield (
        f"model: {shape.parameters:,} parameters ({shape.trainable:,} trained): {shape.layers} layers of "
        f"{shape.block:,.0f}, and {shape.outside:,.0f} outside of them"
    )
    yield (
        f"iteration: {setup.prompts:,} prompts × {setup.samples} samples = {setup.rows:,} responses of "
        f"{plan.lengths.mean:,.0f} tokens on average; {setup.minibatches * setup.epochs} updates"
    )
    if setup.positions is not None and setup.longest > setup.positions:
        yield (
            f"note: prompt and response may reach {setup.longest:,} tokens, but the model has {setup.positions:,} "
            "positions"
        )


def _device(plan: Plan) -> str:
    return plan.setup.gpu.name if plan.setup.gpu is not None else "CPU process"


def _memory(plan: Plan) -> Iterator[str]:
    fit = plan.fit
    yield f"memory of a {'GPU' if plan.setup.gpu else 'process'} in GB (1e9 bytes)"
    for part in fit.held:
        yield f"  {part.name:<14}{_gb(part.size):>9}  {part.how}"
    yield "  and one at a time:"
    largest = max(fit.phases, key=lambda part: part.size)
    for part in fit.phases:
        yield f"  {('* ' if part is largest else '  ') + part.name:<14}{_gb(part.size):>9}  {part.how}"
    of = f"{_gb(fit.usable)} ({USABLE:g} × {_gb(fit.available)})"
    yield f"  {'total':<14}{_gb(fit.total):>9}  of {of}: {_verdict(plan)}"


def _server(plan: Plan) -> Iterator[str]:
    count = plan.setup.sampler.devices
    yield f"memory of {'each of the ' if count > 1 else 'the '}{count} GPU{'s' if count > 1 else ''} that only sample"
    for part in plan.fit.server:
        yield f"  {part.name:<14}{_gb(part.size):>9}  {part.how}"


def _verdict(plan: Plan) -> str:
    if plan.fit.fits:
        return "fits"
    words = ", or ".join(" ".join(added) for added in plan.advice)
    return f"does not fit; type {words}" if words else "does not fit; choose a smaller model or a larger GPU"


def _time(plan: Plan) -> Iterator[str]:
    times = plan.timeline
    if not plan.fit.fits:
        yield "time: none, as it does not fit"
        return
    yield "time of an iteration in seconds"
    for phase in times.phases:
        yield f"  {phase.name:<14}{_seconds(phase.seconds):>9}  {phase.how}"
    share = times.bottleneck.seconds / times.iteration
    beside = "sampling runs beside the rest, the longer counts; " if times.overlaps else ""
    yield f"  {'total':<14}{_seconds(times.iteration):>9}  {beside}bottleneck: {times.bottleneck.name}, {share:.0%}"
    speed = times.sampled_tokens / times.iteration
    yield f"  {speed:,.0f} response tokens a second, {speed / times.devices:,.0f} per device"
    yield f"  an evaluation: {_seconds(times.evaluation.seconds)} s, {times.evaluation.how}"
    yield (
        f"run: {times.iterations:,} iterations and {times.evaluations} evaluations = {_hours(times.hours)} hours = "
        f"{_hours(times.device_hours)} {'GPU-hours' if plan.setup.gpu else 'process-hours'}{_cost(plan)}"
    )


def _cost(plan: Plan) -> str:
    return "" if plan.cost is None else f" × {plan.price:g} USD = {plan.cost:,.0f} USD"


def _simulation(rows: Sequence[Simulated]) -> Iterator[str]:
    yield f"stragglers: {ITERATIONS} simulated iterations of the same prompts × samples on more GPUs"
    yield "   GPUs  of them sample  staleness  seconds  waiting  speed-up"
    for row in rows:
        where = "all" if row.staleness is None else f"{row.samplers:,}"
        stale = "-" if row.staleness is None else str(row.staleness)
        numbers = f"{_seconds(row.seconds):>7}  {row.idle:>7.0%}  {row.speedup:>8.1f}"
        yield f"  {row.gpus:>5,}  {where:>14}  {stale:>9}  {numbers}"
    yield from (f"  {line}" for line in SIMULATED)


def assumed(plan: Plan) -> Iterator[str]:
    """Lines with everything that the plan assumes."""
    yield "assumptions"
    yield f"  lengths of responses: {plan.lengths.source}"
    yield f"  rows with a gradient: {plan.setup.shares.kept:.0%}; {plan.setup.shares.basis}"
    if plan.setup.gpu is not None:
        yield f"  {plan.setup.gpu.name}: {plan.setup.gpu.source}"
    if plan.run is not None:
        yield f"  rates: {plan.run.source}"
    for assumption in plan.stated.used():
        yield f"  {assumption}"


def as_json(plan: Plan) -> str:
    """All numbers of the report, in bytes, seconds and hours, as one JSON object."""
    setup, fit, times = plan.setup, plan.fit, plan.timeline
    return json.dumps(
        {
            "words": setup.words,
            "model": setup.model,
            "parameters": setup.shape.parameters,
            "device": _device(plan),
            "devices": setup.devices,
            "strategy": setup.strategy,
            "memory": {
                "held": {part.name: part.size for part in fit.held},
                "phases": {part.name: part.size for part in fit.phases},
                "server": {part.name: part.size for part in fit.server},
                "total": fit.total,
                "usable": fit.usable,
                "fits": fit.fits,
                "rows_at_once": fit.slots,
                "advice": plan.advice,
            },
            "seconds": {
                "phases": {phase.name: phase.seconds for phase in times.phases},
                "iteration": times.iteration,
                "evaluation": times.evaluation.seconds,
                "bottleneck": times.bottleneck.name,
            },
            "run": {
                "iterations": times.iterations,
                "evaluations": times.evaluations,
                "hours": times.hours,
                "device_hours": times.device_hours,
                "usd": plan.cost,
            },
            "simulated": [
                {
                    "gpus": row.gpus,
                    "samplers": row.samplers,
                    "staleness": row.staleness,
                    "seconds": row.seconds,
                    "waiting": row.idle,
                    "speed_up": row.speedup,
                }
                for row in plan.simulated
            ],
            "assumptions": {
                "lengths": plan.lengths.source,
                "rows_with_a_gradient": plan.setup.shares.basis,
                "rates": plan.run.source if plan.run else None,
                "simulation": " ".join(SIMULATED) if plan.simulated else None,
                **{one.name: one.value for one in plan.stated.used()},
            },
        },
        indent=1,
        ensure_ascii=False,
    )


def _gb(size: float) -> str:
    return f"{size / GB:,.1f}" if size >= GB or size == 0 else f"{size / GB:.3f}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.3f}"
