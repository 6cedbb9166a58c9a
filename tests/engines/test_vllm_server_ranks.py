"""Two ranks of a trainer and one server: weights go there once, and both ranks learn of what befalls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fake_vllm import FakeVllm
from winnow.models.language_model import LanguageModel

SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/engines"]
import torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
from test_vllm_server import HOW, PROMPTS, SEEDS, engine_at
from winnow import distributed
from winnow.errors import ConfigError
from winnow.models.language_model import FreshTiny
from winnow.models.templates import Plain

small = FreshTiny("small", Plain(), 0, layers=2, width=16, heads=2, kv_heads=1, intermediate=32, positions=128).load()
said = []
engine = engine_at(sys.argv[1], said, dtype="float32")
for version in range(2):
    engine.sync(small.model, version)
    drawn = engine.generate(distributed.strided_shard(PROMPTS), distributed.strided_shard(SEEDS), HOW)
ids = [[one.token_ids for one in group] for group in drawn]
finish = engine.begin(distributed.strided_shard(PROMPTS), distributed.strided_shard(SEEDS), HOW)
assert distributed.all_gather(dist.get_rank()) == [0, 1]  # what ranks exchange meanwhile, as in an update
assert [[one.token_ids for one in group] for group in finish()] == ids
try:  # a prompt of the first rank is too long
    long = PROMPTS[0].__class__("long", tuple(range(3, 80)), "", "")
    engine.generate([long] if dist.get_rank() == 0 else PROMPTS[:1], [[1]], HOW)
    error = None
except ConfigError as refused:
    error = str(refused)
engine.close()
Path(sys.argv[2], f"rank_{{dist.get_rank()}}.json").write_text(json.dumps([said, ids, error]))
"""


@pytest.mark.slow
def test_two_ranks_share_a_server_that_restarts(small: LanguageModel, tmp_path: Path):
    tests = Path(__file__).parents[1]
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT.format(tests=str(tests)))
    with FakeVllm(small.model.config.to_dict()) as fake:
        fake.settings["dtype"] = "torch.float32"
        fake.restarts_at = 18  # in the second iteration, of twelve samples each
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command = [sys.executable, *launcher, script, fake.url, tmp_path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        (said, even, first), (silent, odd, second) = (
            json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)
        )
        assert fake.calls.count("/finish_weight_update") == 3  # two versions, and one of them again
        assert len(said) >= 1
        assert silent == []
        assert [len(even), len(odd)] == [2, 1]
        alone = [[choice(fake, seed) for seed in seeds] for seeds in ([1, 2, 3, 4], [9, 10, 11, 12], [5, 6, 7, 8])]
        assert [*even, *odd] == alone
        assert first == second
        assert "prompt long has 77 tokens, and a sequence may have 64" in first


def choice(fake: FakeVllm, seed: int) -> list[int]:
    """The tokens that the server draws with a seed."""
    return fake._sample(seed, 8)["choices"][0]["token_ids"]
