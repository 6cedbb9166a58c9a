"""Weights and prompts equal to those of TRL's script, and scripted verdicts."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from benchmarks.stand_ins import ScriptedVerdicts
from benchmarks.workload import EOS, SPECIAL, Shape, as_trl_draws_them, texts, write_model, write_problems
from winnow.rng import permutation, seed_of

SMALL = Shape(hidden=16, layers=1, heads=2, kv_heads=1, vocab=40, positions=64)


def test_five_million_parameters():
    """4,096 × 256 embeddings; 4 layers of q, k, v with biases, o, three matrices of the MLP and two norms; a final
    norm."""
    layer = 256 * 256 + 256 + 2 * (256 * 128 + 128) + 256 * 256 + 3 * 256 * 1024 + 2 * 256
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Shape().config())
    assert sum(p.numel() for p in model.parameters()) == 4096 * 256 + 4 * layer + 256 == 4_985_088


def test_weights_are_those_of_the_seed_with_a_scaled_end_row(tmp_path: Path):
    write_model(tmp_path, SMALL, seed=3, eos_scale=20)
    torch.manual_seed(3)
    expected = Qwen2ForCausalLM(SMALL.config())
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    end = SPECIAL.index(EOS)
    assert torch.equal(found.lm_head.weight[end], 20 * expected.lm_head.weight[end])
    assert torch.equal(found.lm_head.weight[end + 1 :], expected.lm_head.weight[end + 1 :])
    assert torch.equal(found.model.layers[0].mlp.up_proj.weight, expected.model.layers[0].mlp.up_proj.weight)


def test_a_word_is_a_token(tmp_path: Path):
    write_model(tmp_path, SMALL, seed=0, eos_scale=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("w17 w3 w39", add_special_tokens=False) == [17, 3, 39]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_prompts_are_those_the_script_draws():
    """For each prompt the script draws a length, the words and a target."""
    random.seed(5)
    expected = []
    for _ in range(3):
        length = random.randint(2, 6)
        expected.append(" ".join(f"w{random.randrange(3, 40)}" for _ in range(length)))
        random.randrange(2)
    assert texts(vocabulary=40, mean_length=4, count=3, seed=5) == expected


def test_the_order_is_that_of_trls_sampler():
    sampler = pytest.importorskip("trl.trainer.utils", reason="trl is not installed; make bench").RepeatSampler
    data = [f"w{i}" for i in range(10)]
    drawn = sampler(data, mini_repeat_count=2, batch_size=3, shuffle=True, seed=7)
    assert as_trl_draws_them(data, 9, seed=7) == [data[i] for i in list(drawn)[::2]]


def test_a_run_draws_problems_and_patterns_in_turn(tmp_path: Path):
    file = tmp_path / "problems.jsonl"
    write_problems(file, ["w3", "w4", "w5"], ["10", "1100"], seed=1)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    drawn = [rows[i] for i in permutation(seed_of(1, "order", 0), 3)]
    assert drawn == [
        {"problem": "w3", "answer": "0 10"},
        {"problem": "w4", "answer": "1 1100"},
        {"problem": "w5", "answer": "2 10"},
    ]


def test_verdicts_are_read_off_the_gold_across_calls():
    with ScriptedVerdicts() as verifier:
        first = verifier.judge(["0 110", "1 01", "0 110"], ["any", "any", ""])
        second = verifier.judge(["1 01", "0 110", "0 110"], ["any", "any", "any"])
    assert [str(j.verdict) for j in first] == ["correct", "wrong", "correct"]
    assert [str(j.verdict) for j in second] == ["correct", "wrong", "correct"]
