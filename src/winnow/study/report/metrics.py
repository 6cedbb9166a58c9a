"""What curves show: the metric, and how its panel is titled and scaled."""

from dataclasses import dataclass

from winnow.study.curves import ACCURACY, Axis

AXIS_TITLES: dict[Axis, str] = {
    "iterations": "iteration",
    "sampled_tokens": "response tokens sampled",
    "trained_tokens": "response tokens trained on",
    "seconds": "seconds",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`smooth` for figures of every iteration, which are drawn as a running mean; evaluations are drawn as they are.
    `log` for what is compared by ratios, in verdicts too.
    """

    key: str
    title: str
    unit: str
    percent: bool = False
    from_zero: bool = False
    log: bool = False
    smooth: bool = True

    def text(self, value: float) -> str:
        return f"{100 * value:.3g}%" if self.percent else f"{value:.3g}"


HELD_OUT = Metric(ACCURACY, "Held-out accuracy", "% of samples correct", percent=True, smooth=False)
REWARD = Metric("rollout/acc", "Training reward", "(1 + r) / 2: % of training samples correct", percent=True)
ENTROPY = Metric("train/entropy", "Entropy", "of the sampling distribution, nats a token; log scale", log=True)
KL = Metric("train/kl_ref", "KL to the initial model", "k3 estimate, nats a token; log scale", log=True)
LENGTH = Metric("rollout/length/mean", "Response length", "mean of all samples, tokens")
CLIPPED = Metric("train/clip_frac", "Clip fraction", "% of trained tokens", percent=True, from_zero=True)

POSITIVE = Metric("train/signal/positive", "Positive gradient mass", "Σ |∂objective / ∂log π|", from_zero=True)
NEGATIVE = Metric("train/signal/negative", "Negative gradient mass", "Σ |∂objective / ∂log π|", from_zero=True)
TRAINED = Metric("train/signal/tokens_frac", "Trained share", "% of sampled tokens", percent=True, from_zero=True)
EFFECTIVE = Metric(
    "train/signal/effective_rows", "Effective sample size", "rows an iteration, (Σ|w|)² / Σw²", from_zero=True
)
ALL_WRONG, ALL_CORRECT = "train/groups/frac_all_wrong", "train/groups/frac_all_correct"

OVERVIEW = (HELD_OUT, REWARD, ENTROPY, KL, LENGTH, CLIPPED)
SIGNAL = (POSITIVE, NEGATIVE, TRAINED, EFFECTIVE)
