"""The losses of TRL's DPOTrainer and of `algo=dpo` on the same pairs."""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from benchmarks.parity.numbers import PROMPTS, SAMPLES, Loss, Numbers
from winnow.algorithm import Preference
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.experience.batching import collate_pairs
from winnow.models.precision import new_tensors_in_float64
from winnow.types import Pair, Row

PAIRS = [(prompt * SAMPLES + chosen, prompt * SAMPLES + 1 - chosen) for prompt in range(PROMPTS) for chosen in (0,)]
"""Each prompt's first response is the chosen one, its second the rejected one."""
CHOSEN, REJECTED = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]


def our_pair_loss(words: Sequence[str], of: Numbers) -> Loss:
    """Winnow's loss of all pairs as one optimiser batch."""
    algorithm = build_algorithm(composed("train", words, ("algo",)))
    assert isinstance(algorithm, Preference)
    with new_tensors_in_float64():
        leaves = [row.clone().requires_grad_() for row in of.current]

        def row(i: int) -> Row:
            return Row((40, 41, *of.tokens[i]), 2, ref_logprobs=pad(of.reference[i], (2, 0)))

        pairs = [Pair(row(chosen), row(rejected)) for chosen, rejected in PAIRS]
        batch = collate_pairs(pairs, torch.ones(len(pairs)), float(len(pairs)), 1)
        width = batch.chosen.response.shape[1]
        chosen, rejected = (
            torch.stack([pad(leaves[i], (2, width - 2 - len(leaves[i]))) for i in rows]) for rows in (CHOSEN, REJECTED)
        )
        loss = algorithm.objective(chosen, rejected, batch).value
        return _loss(loss, leaves)


def trl_pair_loss(settings: Mapping[str, object], of: Numbers) -> Loss:
    """TRL's loss of the same pairs, by `DPOTrainer._compute_loss` with its attributes taken from a DPOConfig."""
    from accelerate import Accelerator
    from trl import DPOConfig, DPOTrainer  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    with new_tensors_in_float64(), tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(output_dir=folder, use_cpu=True, report_to="none", bf16=False, **settings)  # pyright: ignore[reportArgumentType]
        leaves = [row.clone().requires_grad_() for row in of.current]
        rows = [*CHOSEN, *REJECTED]
        logprobs = pad(pad_sequence([leaves[i] for i in rows], batch_first=True), (1, 0))
        mask = pad(pad_sequence([torch.ones(len(leaves[i]), dtype=torch.long) for i in rows], batch_first=True), (2, 0))
        reference = torch.stack([of.reference[i].sum() for i in rows])
        nothing = torch.zeros_like(logprobs)
        outputs = SimpleNamespace(log_probs=logprobs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=False),
            accelerator=Accelerator(cpu=True),
            args=args,
            loss_types=args.loss_type,
            loss_weights=args.loss_weights or [1.0] * len(args.loss_type),
            precompute_ref_logps=True,
            aux_loss_enabled=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            **{
                name: getattr(args, name)
                for name in (
                    "beta",
                    "ld_alpha",
                    "f_divergence_type",
                    "f_alpha_divergence_coef",
                    "label_smoothing",
                    "use_weighting",
                )
            },
        )
        inputs = {
            "input_ids": torch.zeros_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_chosen_logps": reference[: len(PAIRS)],
            "ref_rejected_logps": reference[len(PAIRS) :],
        }
        compute: Any = DPOTrainer._compute_loss  # on what stands for a trainer
        loss = compute(trainer, lambda **_: outputs, inputs, return_outputs=False)
        return _loss(loss, leaves)


def _loss(loss: Tensor, leaves: Sequence[Tensor]) -> Loss:
    slopes = torch.autograd.grad(loss, list(leaves), allow_unused=True)
    filled = [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, slopes, strict=True)]
    return Loss(float(loss.detach()), filled)
