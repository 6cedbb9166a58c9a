"""Shards that rest in main memory while GPUs share the model (hardware.offload), on a machine without a GPU."""

import subprocess
import sys

SCRIPT = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from winnow.distributed import device_of
from winnow.models.sharding import _with_shard

dist.init_process_group("cuda:fake", rank=0, world_size=2, store=FakeStore())
mesh = DeviceMesh("cuda", torch.arange(2))
empty = DTensor.from_local(torch.empty(2, 3, device="meta"), mesh, [Shard(0)], run_check=False)
module = nn.Module()
module.weight = nn.Parameter(_with_shard(nn.Parameter(empty), torch.ones(2, 3)))
assert module.weight.shape == (4, 3)
assert module.weight.device.type == module.weight.to_local().device.type == "cpu"
assert device_of(module).type == "cuda"
"""


def test_shards_stay_where_they_rest_and_the_model_computes_on_its_gpus():
    """FSDP2 refuses shards that are on a GPU already, and rows have to be where the gathered weights will be."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
