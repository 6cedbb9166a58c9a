"""Reward functions as users of TRL and of verl write them, and some that do harm. Nothing here knows of Winnow."""

import asyncio
import math
import os
import re
import sys
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


def reward_boxed(completions, **kwargs):
    """Of chats: whether the message is steps, a semicolon and one box."""
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(r"^[^;]+;\\boxed\{\d+\}$", content) else 0.0 for content in contents]


def reward_ground_truth(completions, ground_truth, **kwargs):
    matches = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
    contents = [match.group(1) if match else "" for match in matches]
    return [1.0 if content == truth else 0.0 for content, truth in zip(contents, ground_truth, strict=True)]


def reward_tokens(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def graded(completions, **kwargs):
    """A continuous reward with ties: the closer to 13 characters the better, in steps of 0.1."""
    return [-abs(13 - len(completion)) / 10 for completion in completions]


class Counting:
    """A callable object with a setting."""

    def __init__(self, letter):
        self.letter = letter

    def __call__(self, completions, **kwargs):
        return [completion.count(self.letter) for completion in completions]


def reward_of_ids(completions_ids, **kwargs):
    return [float(len(ids)) for ids in completions_ids]


def make_repetition(most=-1.0):
    """Makes a reward function."""

    def repetition(completion_ids, **kwargs):
        return [most * (1 - len(set(ids)) / len(ids)) for ids in completion_ids]

    return repetition


repetition = make_repetition(-0.5)


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    right = ground_truth in solution_str
    return {"score": 1.0 if right else -1.0, "acc": right, "source": data_source}


def gsm8k_score(data_source, solution_str, ground_truth, extra_info):
    assert data_source == "openai/gsm8k"
    answer = re.findall(r"\\boxed\{(\d+)\}", solution_str)
    return {"score": float(answer[-1:] == [ground_truth]), "index": extra_info["index"]}


def plain_score(data_source, solution_str, ground_truth, extra_info):
    return float(solution_str.strip() == ground_truth) + 0.1 * extra_info["level"]


def fails_at_sevens(completions, **kwargs):
    """Raises, returns NaN or too few values, by the lengths of the completions modulo 7."""
    rests = [len(completion) % 7 for completion in completions]
    if 0 in rests:
        raise KeyError("no such length")
    if 6 in rests:
        return []
    return [math.nan if rest == 2 else rest / 10 for rest in rests]


def leaves_at_sevens(completions, **kwargs):
    """Ends the program where the length of a completion is a multiple of 7."""
    if any(len(completion) % 7 == 0 for completion in completions):
        sys.exit("enough")
    return [len(completion) / 10 for completion in completions]


def fails_later(completions, trainer_state, **kwargs):
    if trainer_state.global_step >= 1:
        raise ConnectionError("the judge does not answer")
    return [len(completion) / 10 for completion in completions]


def hang(completions, **kwargs):
    if any("9" in completion for completion in completions):
        time.sleep(1000)
    return [1.0 for _ in completions]


def hangs_and_takes_all(completion_ids, **kwargs):
    """Hangs at some responses, and allocates 4 GB at others, by the sum of their tokens."""
    rests = [sum(ids) % 16 for ids in completion_ids]
    if 0 in rests:
        time.sleep(1000)
    return [float(len(bytearray(4 << 30))) if rest == 1 else rest / 10 for rest in rests]


def always_hang(completions, **kwargs):
    time.sleep(1000)


def fail(completions, **kwargs):
    return [1 / (9 - int(completion)) for completion in completions]


def leave(completions, **kwargs):
    if "9" in completions:
        sys.exit("enough")
    return [1.0] * len(completions)


def rewrite(prompts, completions, level, **kwargs):
    """Changes what it is given."""
    for completion in completions:
        completion[0]["content"] = "7"
    level.clear()
    return [1.0] * len(completions)


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
