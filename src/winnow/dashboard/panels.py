"""What a dashboard shows, as data: the workspace and the report are both drawn from `SECTIONS`."""

from dataclasses import dataclass

ITERATION = "iteration"
ACCURACY = "^eval/[^/]+/acc$"
PASS_AT_K = "^eval/[^/]+/pass@[0-9]+$"


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over `x`: the `metrics`, or all those whose names match `pattern` (RE2), as sets have names of their own."""

    title: str
    metrics: tuple[str, ...] = ()
    pattern: str = ""
    x: str = ITERATION


@dataclass(frozen=True, slots=True)
class Points:
    """A point a run, `y` against `x`: the last value of a metric, or an entry of `summary.json`."""

    title: str
    x: str
    y: str


@dataclass(frozen=True, slots=True)
class Table:
    """The newest table that each run logged under `key`."""

    key: str


Panel = Lines | Points | Table


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    about: str
    panels: tuple[Panel, ...]


SECTIONS = (
    Section(
        "Evaluation",
        "Held-out accuracy against what it took: iterations, sampled tokens, tokens under a gradient, seconds. "
        "Arms that spend differently are equal on one axis at most.",
        (
            Lines("Held-out accuracy", pattern=ACCURACY),
            Lines("Held-out accuracy by sampled tokens", pattern=ACCURACY, x="train/tokens_total"),
            Lines("Held-out accuracy by trained tokens", pattern=ACCURACY, x="train/tokens_trained_total"),
            Lines("Held-out accuracy by seconds", pattern=ACCURACY, x="time/total"),
            Lines("pass@k", pattern=PASS_AT_K),
            Points("Final accuracy against KL to the initial model", x="train/kl_ref", y="eval_last"),
        ),
    ),
    Section(
        "Training",
        "All but the clip fraction look at all samples, whatever the arm trains on. Where arms differ in their reward scale, "
        "training accuracy is what compares.",
        (
            Lines("Reward", ("train/reward/mean",)),
            Lines("Training accuracy", ("rollout/acc",)),
            Lines("Entropy", ("train/entropy",)),
            Lines("KL to the initial model", ("train/kl_ref",)),
            Lines("Clip fraction", ("train/clip_frac",)),
            Lines("Response length", ("rollout/length/mean",)),
            Lines("Responses cut short", ("rollout/truncated_frac",)),
        ),
    ),
    Section(
        "Signal",
        "How much of what was sampled moves the policy, and in which direction.",
        (
            Lines(
                "Prompts by outcome",
                ("train/groups/frac_all_wrong", "train/groups/frac_mixed", "train/groups/frac_all_correct"),
            ),
            Lines("Rows kept, and rows with a gradient", ("train/samples/kept_frac", "train/signal/rows_frac")),
            Lines(
                "Tokens kept, and tokens with a gradient", ("train/signal/tokens_kept_frac", "train/signal/tokens_frac")
            ),
            Lines("Gradient mass of positive and negative rows", ("train/signal/positive", "train/signal/negative")),
            Lines("Effective rows", ("train/signal/effective_rows",)),
            Lines("Sampled tokens per trained token", ("train/signal/sampled_per_trained",)),
            Lines("Entropy of positive and negative rows", ("train/entropy/positive", "train/entropy/negative")),
        ),
    ),
    Section(
        "Stability",
        "Early warnings: gradients that grow, updates that are skipped, a policy that leaves its sampler.",
        (
            Lines("Gradient norm", ("train/grad_norm",)),
            Lines("Updates skipped", ("train/updates_skipped_empty", "train/updates_skipped_nonfinite")),
            Lines("Importance ratio", ("train/ratio/mean",)),
            Lines("KL to the sampler, as updates go on", ("train/kl_old",)),
            Lines("KL of sampler to trainer at the same weights", ("rollout/mismatch_kl",)),
            Lines("Verdicts that failed", ("verifier/timeout_frac", "verifier/crash_frac")),
        ),
    ),
    Section(
        "Speed",
        "Where the seconds go.",
        (
            Lines("Seconds an iteration", ("perf/iteration_s",)),
            Lines(
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
            Lines("Tokens per second", ("perf/tokens_per_s",)),
            Lines("Seconds since the start", ("time/total",)),
        ),
    ),
    Section("Samples", "Some responses of each run's last iteration, with their verdicts.", (Table("samples"),)),
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
