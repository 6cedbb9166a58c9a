"""Lines at start-up about the model's forwards and the iteration's batches, against what is counted."""

import re
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from transformers import CohereConfig, CohereForCausalLM, PreTrainedModel

from engines.models import tiny
from running import CONF, composed
from winnow.assemble.start_lines import algorithm_summary, batch_arithmetic, slow_path_notices
from winnow.config.instantiate import build_algorithm
from winnow.experience.batching import deal
from winnow.models.backbone import pack_where_exact
from winnow.models.policy import Policy
from winnow.packed import pack
from winnow.types import Row

ROWS = [Row((3, 4, 5, 6, *response), 4) for response in ((7, 8), (9, 7, 8), (8,))]
"""Three responses to a prompt of four tokens. Once each, 4 + 1 + 2 + 0 tokens have a successor; padded, 3 × 6 do."""


def cohere() -> PreTrainedModel:
    """A model that multiplies its logits by a number after the output layer."""
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    return CohereForCausalLM(CohereConfig(vocab_size=32, pad_token_id=0, logit_scale=0.5, **shape)).eval()


MODELS = {style: partial(tiny, style) for style in ("qwen2", "llama", "gpt2", "qwen2_sliding")} | {"cohere": cohere}


@pytest.mark.parametrize("name", MODELS)
def test_prompts_are_computed_and_logits_are_held_as_often_as_the_lines_say(name: str):
    """A plain head is applied chunk by chunk in `head_scores`, and is never called on a whole micro-batch."""
    model = MODELS[name]().eval()
    pack_where_exact(model)
    policy = Policy(model, 1.0)
    said = slow_path_notices(OmegaConf.create({"hardware": {"attention": "auto"}}), policy)
    entered, left = [], []
    model.get_input_embeddings().register_forward_hook(lambda _, given, found: entered.append(found.shape[:-1].numel()))
    model.get_output_embeddings().register_forward_hook(lambda _, given, found: left.append(found.shape[:-1].numel()))
    with torch.no_grad():
        policy(pack(ROWS))
    assert sum(entered) == (3 * 6 if any("packed" in line for line in said) else 4 + 1 + 2)
    assert sum(left) == (2 + 3 + 1 if any("logits" in line for line in said) else 0)


@pytest.mark.parametrize("algo", ["grpo", "sft", "dpo"])
@pytest.mark.parametrize(("prompts", "samples", "minibatches", "epochs"), [(6, 4, 4, 1), (5, 3, 2, 2), (3, 2, 1, 1)])
def test_updates_are_as_many_and_as_large_as_the_line_says(algo, prompts, samples, minibatches, epochs):
    words = [f"rollout.prompts={prompts}", f"rollout.samples={samples}"]
    cfg = composed(f"algo={algo}", *words, f"update.minibatches={minibatches}", f"update.epochs={epochs}")
    line = batch_arithmetic(cfg, build_algorithm(cfg))
    rows = prompts if algo == "sft" else prompts * samples
    batches = deal(rows, minibatches, epochs, seed=0)
    assert f" {minibatches} update" in line
    assert len(batches) == minibatches * epochs
    assert (f"{epochs} epochs" in line) == (epochs > 1)
    if algo != "dpo":
        assert int(re.findall(r"\d+", line.split("of")[-1])[0]) == max(map(len, batches))
        assert ("up to" in line) == (len(set(map(len, batches))) > 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "clip ppo(low=0.2, high=0.2)"),
        (("algo.clip._target_=winnow.ops.clip.dual", "+algo.clip.c=3.0"), "clip winnow.ops.clip.dual(low=0.2, "),
        (("algo/clip=dual",), "clip dual("),
        (("algo/entropy=adaptive",), "entropy adaptive(target=0.2, "),
        (("algo/kl=k2", "algo.kl.reference=synced", "algo.kl.sync.every=5"), "sync.every=5, sync.share=1.0)"),
    ],
)
def test_a_function_that_was_typed_over_the_choice_is_named(words: tuple[str, ...], said: str):
    assert said in algorithm_summary(composed("algo=grpo", *words))


@pytest.mark.parametrize("algo", sorted(path.stem for path in (CONF / "algo").glob("*.yaml")))
def test_options_are_told_by_their_names(algo: str):
    """Also those that build on another option, as GSPO's bounds on PPO's clipping."""
    assert "winnow." not in algorithm_summary(composed(f"algo={algo}"))
