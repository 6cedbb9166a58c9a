"""Reward model: the score that a sequence-classification model of Hugging Face gives to a prompt and its completion."""

from collections.abc import Sequence
from typing import Any

from winnow.errors import ConfigError
from winnow.process_group import local_rank
from winnow.rewards.builtin import Completions, Message

Prompts = Sequence[str | list[Message]]


class RewardModel:
    """A model of one label (`AutoModelForSequenceClassification`) from a folder or the hub, whose logit is the reward.

    A prompt and its completion are given to it as a chat, by its tokenizer's chat template; without a template they
    are one text. Of more than `max_tokens` tokens the first ones are cut off. `device` is cpu, cuda or auto, which is
    cuda where there is one. Rewards do not depend on `batch_size` but for rounding.
    """

    def __init__(self, path: str, device: str = "auto", batch_size: int = 16, max_tokens: int = 2048) -> None:
        # Here, because this module is imported with the package, and so in every worker process.
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._torch, self.batch_size, self.max_tokens = torch, batch_size, max_tokens
        self.device = _device_of(device, torch.cuda.device_count())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left", truncation_side="left")
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(path).to(self.device).eval()
        if self._model.config.num_labels != 1:
            labels = self._model.config.num_labels
            raise ConfigError(f"reward.functions: {path} has {labels} labels, and a reward model has one")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.config.pad_token_id = self._tokenizer.pad_token_id

    def __call__(self, prompts: Prompts, completions: Completions) -> list[float]:
        texts = [self._text(*pair) for pair in zip(prompts, completions, strict=True)]
        parts = [texts[start : start + self.batch_size] for start in range(0, len(texts), self.batch_size)]
        return [score for part in parts for score in self._scores(part)]

    def _scores(self, texts: Sequence[str]) -> list[float]:
        given = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
            add_special_tokens=self._tokenizer.chat_template is None,
        )
        with self._torch.no_grad():
            logits = self._model(**given.to(self.device)).logits
        return logits[:, 0].float().cpu().tolist()

    def _text(self, prompt: str | list[Message], completion: str | list[Message]) -> str:
        asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        answered = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
        if self._tokenizer.chat_template is None:
            return "".join(message["content"] for message in [*asked, *answered])
        return str(self._tokenizer.apply_chat_template([*asked, *answered], tokenize=False))


def _device_of(wanted: str, gpus: int) -> str:
    """The device on which a reward model computes on a machine with so many GPUs: this rank's own, by its number,
    because functions are loaded before a rank's GPU is the current one."""
    if wanted == "cuda" or (wanted == "auto" and gpus):
        return f"cuda:{local_rank() % max(1, gpus)}"
    return "cpu" if wanted == "auto" else wanted
