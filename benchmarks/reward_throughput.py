"""Throughput of a reward function that does nothing, in processes of its own.

`python -m benchmarks.reward_throughput` prints rows a second, 4,096 rows of 70 tokens a call.
"""

import time
from statistics import median

import torch

from winnow.rewards.reward import JudgedGroup
from winnow.rewards.reward_function import RewardFunction
from winnow.rewards.reward_functions import Limits, RewardFunctions
from winnow.types import Completion, Finish, Prompt
from winnow.verdict import Judgement, Verdict

PROMPTS, SAMPLES, TOKENS, REPEATS = 256, 16, 70, 9


def nothing(prompts: list[str], completions: list[str], **columns: object) -> list[float]:
    return [0.0] * len(completions)


def main() -> None:
    numbers = torch.zeros(TOKENS)
    completion = Completion(tuple(range(TOKENS)), numbers, numbers, Finish.EOS)
    judgement = Judgement(Verdict.wrong, None)
    group = JudgedGroup(
        (completion,) * SAMPLES, ("a word " * 10,) * SAMPLES, (judgement,) * SAMPLES, tuple(range(SAMPLES))
    )
    prompts = [Prompt(str(p), (5, 6), "1+1?", "2") for p in range(PROMPTS)]
    function = RewardFunction("nothing", "benchmarks.reward_throughput:nothing")
    source = RewardFunctions([function], [1.0], None, Limits(2, 10.0, 2048))
    source.rewards_of(prompts[:1], [group], 0)  # starts the workers
    rates = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        source.rewards_of(prompts, [group] * PROMPTS, 0)
        rates.append(PROMPTS * SAMPLES / (time.perf_counter() - began))
    source.close()
    print(f"rows a second: {median(rates):,.0f} at the median, {min(rates):,.0f} to {max(rates):,.0f}")


if __name__ == "__main__":
    main()
