"""A GRPO run as TRL's own documentation writes it, on a Qwen2 of random weights, with a checkpoint every step.

It is the program that `benchmarks.stock_faults` injects faults into. Nothing in it guards against them.
"""

import argparse
import hashlib
import os
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset  # pyright: ignore[reportMissingImports]
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

WORDS = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, 64)}}


def tiny_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


class Reward:
    """Whether the sum of a completion's ids is odd, with the fault that the third call brings.

    `nan_reward`: NaN for one completion. `hang`: the call never returns. `exit`: it ends the process. `raise`: it
    raises. `tied`: all rewards are 1 from the third call on.
    """

    __name__ = "parity"

    def __init__(self, fault: str, seconds: float) -> None:
        self.fault, self.seconds, self.calls = fault, seconds, 0
        self.before: str | None = None
        self.model: nn.Module | None = None

    def __call__(self, completion_ids: list[list[int]], **_: object) -> list[float]:
        self.calls += 1
        time.sleep(self.seconds)
        rewards = [float(sum(ids) % 2) for ids in completion_ids]
        if self.calls < 3:
            return rewards
        if self.calls == 3:
            assert self.model is not None
            self.before = weights_hash(self.model)
            if self.fault == "nan_reward":
                return [float("nan"), *rewards[1:]]
            if self.fault == "hang":
                time.sleep(3600)
            if self.fault == "exit":
                os._exit(0)
            if self.fault == "raise":
                raise ValueError("an answer that the parser does not take")
        return [1.0 for _ in rewards] if self.fault == "tied" else rewards


class Poison(TrainerCallback):
    """Sets one weight of the head to NaN after the second step."""

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if state.global_step == 2:  # pyright: ignore[reportAttributeAccessIssue]
            model = kwargs["model"]
            assert isinstance(model, Qwen2ForCausalLM)
            with torch.no_grad():
                model.lm_head.weight[5, 0] = float("nan")


def weights_hash(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--fault", default="")
    parser.add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args()
    data = Dataset.from_list([{"prompt": f"w{3 + i % 60} w{3 + i * 7 % 60}"} for i in range(64)])
    reward, model = Reward(args.fault, args.seconds), tiny_model()
    if args.fault == "top_p":
        model.generation_config.top_p = 0.8
        model.generation_config.top_k = 20
    config = GRPOConfig(
        output_dir=str(args.directory),
        max_steps=args.steps,
        use_cpu=True,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        learning_rate=1e-3,
        save_steps=args.every,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        bf16=False,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=data,
        processing_class=tiny_tokenizer(),
        callbacks=[Poison()] if args.fault == "nan_weight" else [],
    )
    reward.model = trainer.model
    if args.fault == "top_p":
        print(f"sampling top_p {trainer.generation_config.top_p} top_k {trainer.generation_config.top_k}")
        return
    print("training", flush=True)
    trainer.train(resume_from_checkpoint=str(args.resume) if args.resume else None)
    assert trainer.model is not None
    finite = all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    moved = reward.before != weights_hash(trainer.model)
    print(f"weights {weights_hash(trainer.model)} finite {finite} moved {moved}", flush=True)


if __name__ == "__main__":
    main()
