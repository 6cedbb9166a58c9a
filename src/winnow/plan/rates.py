"""Rates of a device: how fast it multiplies, reads memory and sends, nominal × assumed or measured here."""

from dataclasses import dataclass

from winnow.plan.assumptions import Assumptions
from winnow.plan.gpu import Gpu
from winnow.plan.setup import Setup


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates that one device reaches: FLOP/s, bytes/s, seconds.

    `layer_seconds` is spent per layer and decoding step on launches alone. `how` are the formulas.
    """

    update: float
    forward: float
    decode: float
    bandwidth: float
    layer_seconds: float
    link: float
    how: dict[str, str]
    adam: float


def nominal(gpu: Gpu, setup: Setup, stated: Assumptions) -> Rates:
    """The rates of a GPU: nominal peaks × the assumed shares of them."""
    quick = setup.sampler.graphs
    layer = stated["graph_seconds"] if quick else stated["eager_seconds"]
    near = stated["link_share"] * (gpu.link if setup.nodes == 1 else stated["network"])
    peak = gpu.flops / 1e12
    return Rates(
        update=gpu.flops * stated["update_utilisation"],
        forward=gpu.flops * stated["forward_utilisation"],
        decode=gpu.flops * stated["decode_utilisation"],
        bandwidth=gpu.bandwidth * stated["decode_bandwidth"],
        layer_seconds=layer,
        link=near,
        adam=gpu.bandwidth * stated["decode_bandwidth"],
        how={
            "update": f"{peak:,.0f} TFLOP/s × {stated['update_utilisation']:g}",
            "forward": f"{peak:,.0f} TFLOP/s × {stated['forward_utilisation']:g}",
            "decode": f"{gpu.bandwidth / 1e12:.3g} TB/s × {stated['decode_bandwidth']:g}",
            "link": f"{(gpu.link if setup.nodes == 1 else stated['network']) / 1e9:g} GB/s × {stated['link_share']:g}",
        },
    )
