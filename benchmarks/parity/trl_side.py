"""TRL's side: the methods of a GRPOTrainer on given numbers, from rewards to the loss.

Only its forwards, its sampling and its calls of reward functions are replaced; masks, advantages, corrections and the
loss are TRL's own. The trainer never trains.
"""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.parity.numbers import EOS, MAX_TOKENS, PAD, SAMPLES, Loss, Numbers
from winnow.models.precision import new_tensors_in_float64

Settings = Mapping[str, object]
AFTER = ("use_vllm",)
"""Settings that TRL refuses to begin with where vLLM is not installed, and that are set afterwards."""


def trl_version() -> str:
    """TRL's version.

    Raises:
        PackageNotFoundError: TRL is not installed.
    """
    from importlib.metadata import version

    return version("trl")


def trl_loss(settings: Settings, of: Numbers, functions: int = 1, micro_batches: int = 1) -> Loss:
    """The loss of the iteration as one optimiser step, summed over equal micro-batches as TRL accumulates them."""
    with new_tensors_in_float64(), tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(folder, settings, functions, micro_batches)
        rows = len(of.tokens)
        given = {"old": _padded(of.old), "reference": _padded(of.reference)}
        turns = iter(("old", "reference"))
        trainer._generate = lambda prompts: (
            [[40, 41]] * rows,
            [list(ids) for ids in of.tokens],
            None,
            [""] * rows,
            [row.tolist() for row in of.sampled] if settings.get("use_vllm") else None,
            {},
            None,
            None,
        )
        trainer._calculate_rewards = lambda *_: of.rewards[..., :functions].reshape(rows, functions)
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (given[next(turns)], None, None)
        inputs = trainer._generate_and_score_completions([{"prompt": "w3"}] * rows)
        leaves = [row.clone().requires_grad_() for row in of.current]
        total, size = torch.zeros(()), rows // micro_batches
        for start in range(0, rows, size):
            part = slice(start, start + size)
            current, entropies = _padded(leaves)[part], _padded(of.entropies)[part]
            trainer._get_per_token_logps_and_entropies = lambda *_, c=current, e=entropies, **__: (c, e, None)
            total = total + trainer._compute_loss(trainer.model, {k: _cut(v, part) for k, v in inputs.items()})
        slopes = torch.autograd.grad(total, leaves)
    return Loss(float(total.detach()), list(slopes))


def _cut(value: Tensor, part: slice) -> Tensor:
    return value[part] if value.dim() else value


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)


def _trainer(folder: str, settings: Settings, functions: int, micro_batches: int) -> Any:
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": 2, **{f"w{i}": i for i in range(3, 48)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    spoken = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    shape = Qwen2Config(
        vocab_size=48,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = Qwen2ForCausalLM(shape)
    if settings.get("beta"):  # TRL loads the reference by the path of the model
        model.save_pretrained(f"{folder}/model")
        spoken.save_pretrained(f"{folder}/model")
    args = GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        report_to="none",
        bf16=False,
        disable_tqdm=True,
        per_device_train_batch_size=16 // micro_batches,
        gradient_accumulation_steps=micro_batches,
        steps_per_generation=micro_batches,
        num_iterations=2,  # so that the old log-probabilities are read
        num_generations=SAMPLES,
        max_completion_length=MAX_TOKENS,
        **{name: value for name, value in settings.items() if name not in AFTER},  # pyright: ignore[reportArgumentType]
    )
    trainer = GRPOTrainer(
        model=f"{folder}/model" if settings.get("beta") else model,
        reward_funcs=[_unused] * functions,
        args=args,
        train_dataset=Dataset.from_list([{"prompt": "w3"}] * 16),
        processing_class=spoken,
    )
    trainer.current_gradient_accumulation_steps = micro_batches
    for name in AFTER:
        setattr(trainer, name, settings.get(name, False))
    trainer.model.train()
    return trainer


def _unused(completions: Sequence[str], **_: object) -> list[float]:
    return [0.0] * len(completions)
