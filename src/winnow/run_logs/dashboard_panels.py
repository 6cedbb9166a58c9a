"""Panels of the W&B dashboard, as data."""

from dataclasses import dataclass

ITERATION = "iteration"
ACCURACY = "^eval/[^/]+/acc$"
PASS_AT_K = "^eval/[^/]+/pass@[0-9]+$"


@dataclass(frozen=True, slots=True)
class LinesPanel:
    """Curves over `x`: the `metrics`, or all those whose names match `pattern` (RE2), as sets have names of their own."""

    title: str
    metrics: tuple[str, ...] = ()
    pattern: str = ""
    x: str = ITERATION


@dataclass(frozen=True, slots=True)
class PointsPanel:
    """A point a run, `y` against `x`: the last value of a metric, or an entry of `summary.json`."""

    title: str
    x: str
    y: str


@dataclass(frozen=True, slots=True)
class TablePanel:
    """The newest table that each run logged under `key`."""

    key: str


DashboardPanel = LinesPanel | PointsPanel | TablePanel


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    about: str
    panels: tuple[DashboardPanel, ...]


SECTIONS = (
    Section(
        "Evaluation",
        "Held-out accuracy against what it took: iterations, sampled tokens, tokens under a gradient, seconds. "
        "Arms that spend differently are equal on one axis at most.",
        (
            LinesPanel("Held-out accuracy", pattern=ACCURACY),
            LinesPanel("Held-out accuracy by sampled tokens", pattern=ACCURACY, x="train/sampled_tokens_total"),
            LinesPanel("Held-out accuracy by trained tokens", pattern=ACCURACY, x="train/tokens_trained_total"),
            LinesPanel("Held-out accuracy by seconds", pattern=ACCURACY, x="time/total"),
            LinesPanel("pass@k", pattern=PASS_AT_K),
            PointsPanel("Final accuracy against KL to the initial model", x="train/kl_ref", y="eval_last"),
        ),
    ),
    Section(
        "Training",
        "All but the clip fraction look at all samples, whatever the arm trains on. Where arms differ in their reward scale, "
        "training accuracy is what compares.",
        (
            LinesPanel("Reward", ("train/reward/mean",)),
            LinesPanel("Training accuracy", ("rollout/acc",)),
            LinesPanel("Entropy", ("train/entropy",)),
            LinesPanel("KL to the initial model", ("train/kl_ref",)),
            LinesPanel("Clip fraction", ("train/clip_frac",)),
            LinesPanel("Response length", ("rollout/length/mean",)),
            LinesPanel("Responses cut short", ("rollout/truncated_frac",)),
        ),
    ),
    Section(
        "Signal",
        "How much of what was sampled moves the policy, and in which direction.",
        (
            LinesPanel(
                "Prompts by outcome",
                ("train/groups/frac_all_wrong", "train/groups/frac_mixed", "train/groups/frac_all_correct"),
            ),
            LinesPanel(
                "Rows kept, and rows with a gradient", ("train/samples/kept_frac", "train/gradient_mass/rows_frac")
            ),
            LinesPanel(
                "Tokens kept, and tokens with a gradient",
                ("train/gradient_mass/tokens_kept_frac", "train/gradient_mass/tokens_frac"),
            ),
            LinesPanel(
                "Gradient mass of positive and negative rows",
                ("train/gradient_mass/positive", "train/gradient_mass/negative"),
            ),
            LinesPanel("Effective rows", ("train/gradient_mass/effective_rows",)),
            LinesPanel("Sampled tokens per trained token", ("train/gradient_mass/sampled_per_trained",)),
            LinesPanel("Entropy of positive and negative rows", ("train/entropy/positive", "train/entropy/negative")),
        ),
    ),
    Section(
        "Stability",
        "Early warnings: gradients that grow, updates that are skipped, a policy that leaves its sampler.",
        (
            LinesPanel("Gradient norm", ("train/grad_norm",)),
            LinesPanel("Updates skipped", ("train/updates_skipped_empty", "train/updates_skipped_nonfinite")),
            LinesPanel("Importance ratio", ("train/ratio/mean",)),
            LinesPanel("KL to the sampler, as updates go on", ("train/kl_old",)),
            LinesPanel("KL of sampler to trainer at the same weights", ("rollout/mismatch_kl",)),
            LinesPanel("Verdicts that failed", ("verifier/timeout_frac", "verifier/crash_frac")),
        ),
    ),
    Section(
        "Speed",
        "Where the seconds go.",
        (
            LinesPanel("Seconds an iteration", ("perf/iteration_s",)),
            LinesPanel(
                "Seconds by part",
                (
                    "time/generate",
                    "time/sync",
                    "time/reward",
                    "time/score",
                    "time/update",
                    "time/eval",
                    "time/checkpoint",
                ),
            ),
            LinesPanel("Tokens per second", ("perf/tokens_per_s",)),
            LinesPanel("Seconds since the start", ("time/total",)),
        ),
    ),
    Section("Samples", "Some responses of each run's last iteration, with their verdicts.", (TablePanel("samples"),)),
)

GROUP_BY = ("group", "config.arm")
"""The sweep, then the arm: W&B draws the runs of a group as one curve."""
COLUMNS = (
    "run:displayName",
    "config:arm.value",
    "config:seed.value",
    "summary:status",
    "summary:eval_first",
    "summary:eval_last",
    "summary:sampled_tokens",
    "summary:trained_tokens",
)
CURVES = 40
"""Groups that a panel shows at most; W&B's own 10 would hide some of the thirteen arms."""
