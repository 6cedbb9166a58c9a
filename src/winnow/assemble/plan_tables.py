"""Tables of plans: the paper's Table 1, and a model on 1, 8 and 64 GPUs; each row with the words that make it fit."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from winnow.assemble.plan_advice import advised
from winnow.assemble.planning import Options, plan_of
from winnow.plan.plan import Plan
from winnow.plan.report import as_json, assumed

ARMS = ("raft", "raftpp", "dpo", "reinforce", "grpo", "ppo", "reinforce_rej")
"""The rows of Table 1, which is conf/experiment/paper/table1.yaml; each is an experiment of its own."""
MODELS = ("qwen_7b", "llama")
"""The paper's two models."""
COUNTS = (1, 8, 64)
GPUS_PER_NODE = 8
HEAD = ("run", "GPUs", "fits with", "GB of a GPU", "s an iteration", "hours", "GPU-hours", "bottleneck")


@dataclass(frozen=True)
class Row:
    """A planned run of a table, and the words that were added to make it fit; `plan` is the last that was tried."""

    name: str
    plan: Plan
    added: tuple[str, ...]

    def cells(self) -> list[str]:
        times, fit = self.plan.timeline, self.plan.fit
        count = f"{self.plan.setup.devices} × {self.plan.setup.gpu.name if self.plan.setup.gpu else 'CPU'}"
        if not fit.fits:
            return [self.name, count, "does not fit", f"{fit.total / 1e9:,.0f}", *["–"] * 4, *self._cost("–")]
        how = " ".join(f"`{word}`" for word in self.added) or "as it is"
        share = times.bottleneck.seconds / times.iteration
        return [
            self.name,
            count,
            how,
            f"{fit.total / 1e9:,.0f}",
            f"{times.iteration:,.0f}",
            f"{times.hours:,.1f}",
            f"{times.device_hours:,.0f}",
            f"{times.bottleneck.name} {share:.0%}",
            *self._cost(f"{self.plan.cost or 0:,.0f}"),
        ]

    def _cost(self, text: str) -> list[str]:
        return [] if self.plan.price is None else [text]


def rows_of(table: str, words: Sequence[str], options: Options) -> Iterator[Row]:
    """The rows of the table `paper` (every arm on both models) or `devices` (both models on 1, 8 and 64 GPUs)."""
    if table == "paper":
        for model in MODELS:
            for arm in ARMS:
                yield _row(f"{arm} of {model}", [f"experiment=paper/{arm}", f"model={model}", *words], options)
        return
    for model in MODELS:
        for count in COUNTS:
            own = ["experiment=paper/grpo", f"model={model}", *devices_words(count), *words]
            yield _row(model, own, options)


def devices_words(count: int) -> list[str]:
    """The words for so many GPUs, eight to a machine."""
    nodes = -(-count // GPUS_PER_NODE)
    return [f"hardware.devices={count // nodes}", *([f"hardware.nodes={nodes}"] if nodes > 1 else [])]


def _row(name: str, words: Sequence[str], options: Options) -> Row:
    plan = advised(plan_of(words, options), words, options)
    here = [added for added in plan.advice if not any(word.startswith("hardware.devices=") for word in added)]
    if plan.fit.fits or not here:
        return Row(name, plan, ())
    added = here[0]
    replaced = {word.partition("=")[0] for word in added}
    return Row(name, plan_of([w for w in words if w.partition("=")[0] not in replaced] + [*added], options), added)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, their sum, and the assumptions of the first that fits."""
    price = rows[0].plan.price
    head = [*HEAD, *([] if price is None else [f"USD at {price:g}"])]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    fitting = [row.plan for row in rows if row.plan.fit.fits]
    total = sum(plan.timeline.device_hours for plan in fitting)
    cost = "" if price is None else f", {total * price:,.0f} USD"
    lines += ["", f"{len(fitting)} of {len(rows)} runs fit: {total:,.0f} GPU-hours of one seed each{cost}.", ""]
    return "\n".join([*lines, *assumed((fitting or [rows[0].plan])[-1])])


def rows_as_json(rows: Sequence[Row]) -> str:
    """The rows for programs: for each its name, the added words and the numbers of its plan."""
    return json.dumps(
        [{"run": row.name, "added": row.added, **json.loads(as_json(row.plan))} for row in rows],
        indent=1,
        ensure_ascii=False,
    )
