"""A training run as Lightning's own documentation writes it: shuffled data, dropout, AdamW, a checkpoint every step.

It is the program that `benchmarks.stock_faults` injects faults into. Nothing in it guards against them.
"""

import argparse
import hashlib
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regression(pl.LightningModule):
    """Least squares by two layers with dropout.

    Args:
        fault: `nan_loss` makes the third step's loss NaN; `zero_gradient` multiplies the loss by 0 from the third step.
        seconds: How long a step waits, so that a signal meets one.
    """

    def __init__(self, fault: str, seconds: float) -> None:
        super().__init__()
        self.fault, self.seconds = fault, seconds
        self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))
        self.at_step_two: str | None = None

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        time.sleep(self.seconds)
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        if self.global_step == 2:
            self.at_step_two = weights_hash(self)
            return loss * float("nan") if self.fault == "nan_loss" else loss * 0.0 if self.fault else loss
        return loss * 0.0 if self.fault == "zero_gradient" and self.global_step > 2 else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def weights_hash(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--fault", default="")
    parser.add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args()
    pl.seed_everything(1)
    x = torch.randn(60, 8)
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)
    module = Regression(args.fault, args.seconds)
    trainer = pl.Trainer(
        max_steps=args.steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(args.directory, filename="{step}", every_n_train_steps=args.every, save_top_k=-1)],
    )
    print("training", flush=True)
    trainer.fit(module, data, ckpt_path=args.resume)
    finite = all(bool(p.isfinite().all()) for p in module.parameters())
    moved = module.at_step_two != weights_hash(module)
    print(f"weights {weights_hash(module)} finite {finite} moved {moved}", flush=True)


if __name__ == "__main__":
    main()
