"""Reward functions as users of TRL and of verl write them, and some that do harm. Nothing here knows of Winnow."""

import asyncio
import math
import os
import re
import time


def reward_len(completions, **kwargs):
    return [-abs(20 - len(completion)) for completion in completions]


def reward_format(completions, **kwargs):
    """Rewards completions that end with one box."""
    pattern = r"^.*;\\boxed\{[^{}]*\}$"
    return [1.0 if re.match(pattern, content) else 0.0 for content in completions]


def reward_columns(prompts, completions, level, answer, completion_ids, **kwargs):
    assert len(prompts) == len(completions) == len(kwargs["finish"])
    return [
        level_ * (answer_ in completion) + len(ids) / 100
        for completion, level_, answer_, ids in zip(completions, level, answer, completion_ids, strict=True)
    ]


async def reward_async(completions, **kwargs):
    async def one(completion):
        await asyncio.sleep(0.001)
        return float(len(completion) % 2)

    return await asyncio.gather(*map(one, completions))


def reward_schedule(completions, trainer_state, log_extra=None, log_metric=None, **kwargs):
    digits = [sum(c.isdigit() for c in completion) for completion in completions]
    if log_extra:
        log_extra("digits", digits)
    if log_metric:
        log_metric("digits_mean", sum(digits) / len(digits))
    progress = trainer_state.global_step / trainer_state.max_steps
    return [None if n == 0 else progress * n for n in digits]


def reward_chat(prompts, completions, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    return [float(prompt[-1]["content"] in content) for prompt, content in zip(prompts, contents, strict=True)]


class Counting:
    """A callable object with a setting."""

    def __init__(self, letter):
        self.letter = letter

    def __call__(self, completions, **kwargs):
        return [completion.count(self.letter) for completion in completions]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    right = ground_truth in solution_str
    return {"score": 1.0 if right else -1.0, "acc": right, "source": data_source}


def plain_score(data_source, solution_str, ground_truth, extra_info):
    return float(solution_str.strip() == ground_truth) + 0.1 * extra_info["level"]


def hang(completions, **kwargs):
    if any("9" in completion for completion in completions):
        time.sleep(1000)
    return [1.0 for _ in completions]


def always_hang(completions, **kwargs):
    time.sleep(1000)


def fail(completions, **kwargs):
    return [1 / (9 - int(completion)) for completion in completions]


def not_a_number(completions, **kwargs):
    return [math.nan if completion == "9" else 1.0 for completion in completions]


def too_few(completions, **kwargs):
    return [1.0 for completion in completions if completion != "9"]


def four_gigabytes(completions, **kwargs):
    return [len(bytearray(4 << 30)) if completion == "9" else 1.0 for completion in completions]


def die(completions, **kwargs):
    if "9" in completions:
        os._exit(3)
    return [1.0] * len(completions)


def never(completions, **kwargs):
    return [None] * len(completions)


def words(completions, **kwargs):
    return ["good" if completion == "9" else 1 for completion in completions]


def trivial(completions, **kwargs):
    return [1.0] * len(completions)


def batch_sizes(completions, **kwargs):
    return [float(len(completions))] * len(completions)


def odd(completions, **kwargs):
    for completion in completions:
        if not set("13579") & set(completion):
            raise ValueError("no odd digit")
    return [1.0 for _ in completions]
