"""What "A Minimalist Approach to LLM Reasoning: from Rejection Sampling to Reinforce" reports (arXiv 2504.11343v2, Table 1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reported:
    """A row of Table 1: average@16 over MATH500, Minerva Math and OlympiadBench, in per cent; None: no such row."""

    qwen: float
    llama: float | None


BASE = Reported(23.6, 13.1)
TABLE_1 = {
    "raft": Reported(52.3, 25.9),
    "raftpp": Reported(56.1, 27.6),
    "dpo": Reported(48.8, None),
    "reinforce": Reported(53.9, 24.2),
    "grpo": Reported(56.3, 28.4),
    "ppo": Reported(52.5, 26.9),
    "reinforce_rej": Reported(56.4, 28.5),
}
"""Qwen2.5-Math-7B-base and LLaMA-3.2-3B-instruct, by arm."""
