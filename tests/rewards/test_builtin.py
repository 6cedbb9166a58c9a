"""Built-in reward functions on responses whose rewards can be computed by hand; a reward model of a few numbers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForSequenceClassification

from winnow.rewards import (
    RewardModel,
    accuracy,
    format_match,
    inverted_accuracy,
    length_penalty,
    overlong_penalty,
    random_reward,
    repetition_penalty,
    reward_model,
)

TINY = Path(__file__).parents[2] / "src" / "winnow" / "assets" / "tiny"


def tokens(*lengths: int) -> list[list[int]]:
    return [[0] * length for length in lengths]


def test_accuracy_and_its_control():
    verdicts = ["correct", "wrong", "no_answer", "timeout", "crash"]
    assert accuracy([""] * 5, verdict=verdicts) == [1, 0, 0, 0, 0]
    assert inverted_accuracy([""] * 5, verdict=verdicts) == [0, 1, 1, 1, 1]


def test_format_is_a_regular_expression_of_the_whole_completion():
    pattern = r"<think>.*</think>\s*<answer>.*</answer>"
    good = "<think>a\nb</think>\n<answer>7</answer>"
    assert format_match([good, f"so {good}", good + " ", ""], pattern=pattern) == [1, 0, 1, 0]
    assert format_match([[{"role": "assistant", "content": good}]], pattern=pattern) == [1]


def test_length_and_overlong_penalties():
    assert length_penalty([""] * 4, completion_ids=tokens(0, 40, 50, 120), target=40) == [0, 0, -0.25, -2]
    # DAPO's figures divided by 1,024: L_max = 20, L_cache = 4, so that the penalty begins above 16.
    found = overlong_penalty([""] * 5, completion_ids=tokens(16, 17, 18, 20, 21), max_tokens=20, cache=4)
    assert found == [0, -0.25, -0.5, -1, -1]


def test_repeated_words():
    # Trigrams of "a b c a b c": abc, bca, cab, abc, of which one in four is a repetition.
    assert repetition_penalty(["a b c a b c", "A b c d e", "a b", ""]) == [-0.25, 0, 0, 0]
    assert repetition_penalty(["a a a"], ngram=1, most=-3) == [-2]


def test_a_random_reward_has_its_rate_and_is_the_same_again():
    seeds = list(range(10_000))
    found = random_reward([""] * 10_000, random_seed=seeds, rate=0.3)
    assert sum(found) / 10_000 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 10_000) ** 0.5)
    assert random_reward([""] * 10_000, random_seed=seeds, rate=0.3) == found
    assert set(random_reward([""] * 100, random_seed=seeds[:100], rate=0.0)) == {0.0}


def test_a_reward_model_gives_its_logit_whatever_the_batch(tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_labels=1, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )  # fmt: skip
    model = Qwen2ForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    prompts, completions = ["1+1=", "20+30="], ["2", "20+30=50;50"]
    with torch.no_grad():
        texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        alone = [float(model(torch.tensor([tokenizer(text)["input_ids"]])).logits) for text in texts]
    for size in (1, 2):
        found = RewardModel(str(tmp_path), device="cpu", batch_size=size)(prompts, completions)
        assert found == pytest.approx(alone, abs=1e-5)
    assert alone[0] != pytest.approx(alone[1], abs=1e-5)


def test_a_reward_model_is_on_its_own_ranks_gpu(monkeypatch: pytest.MonkeyPatch):
    """Functions are loaded before a rank's GPU is the current one; on the first, models of all ranks would meet."""
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert reward_model._device_of("auto", 8) == reward_model._device_of("cuda", 8) == "cuda:3"
    assert reward_model._device_of("auto", 1) == "cuda:0"  # one GPU is visible to each process
    assert reward_model._device_of("auto", 0) == reward_model._device_of("cpu", 8) == "cpu"
