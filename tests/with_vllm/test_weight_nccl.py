"""The trainer's side of NCCL as far as it goes without a GPU: what vLLM is handed."""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from wide_heads import random_model

from winnow.engines.vllm_http import Fault, Kind, VllmHttp, address_of
from winnow.engines.weight_nccl import ByNccl
from winnow.models.lora import Lora

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: type make test-vllm")


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `trainer_init` gets, and the requests that are sent."""
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    found: dict[str, Any] = {"requests": []}

    def trainer_init(info: Any, *, client: Any, source: Any) -> Any:
        found.update(info=info, client=client, source=source)
        return SimpleNamespace(send_weights=lambda: client.start_weight_update(), shutdown=lambda: None)

    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", trainer_init)
    monkeypatch.setattr(VllmHttp, "get", lambda self, path: {"world_size": 2})
    monkeypatch.setattr(VllmHttp, "post", lambda self, path, body=None: found["requests"].append((path, body)))
    return found


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4, target_modules="all-linear")], ids=["whole", "adapters"])
def test_vllm_is_handed_every_weight_once_and_a_group_of_trainer_and_workers(handed: dict[str, Any], lora: Lora | None):
    transfer, language_model = ByNccl(), random_model(lora)
    http = VllmHttp(address_of("http://127.0.0.1:8000", remote=False), 5)
    transfer.connect(http, language_model.model)
    transfer.send(http, language_model.model)
    info = handed["info"]
    assert (info.world_size, info.rank, info.master_address) == (3, 0, "127.0.0.1")
    assert info.master_port > 0
    plain = random_model().model
    described = [(meta.name, meta.dtype, meta.shape) for meta in handed["source"].metadata()]
    assert described == [(name, weight.dtype, tuple(weight.shape)) for name, weight in handed["source"]]
    assert {name for name, _, _ in described} == {name for name, _ in plain.named_parameters()}
    assert handed["requests"] == [("/start_weight_update", None)]


def test_a_broadcast_that_fails_leaves_a_damaged_server(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    def broken() -> None:
        raise RuntimeError("NCCL error: unhandled system error")

    trainer = SimpleNamespace(send_weights=broken, shutdown=lambda: None)
    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", lambda info, **more: trainer)
    http = VllmHttp(address_of("http://127.0.0.1:8000", remote=False), 5)
    with pytest.raises(Fault, match=r"a broadcast failed .NCCL error: unhandled system error") as found:
        ByNccl().send(http, random_model().model)
    assert found.value.kind is Kind.DAMAGED
    assert torch.is_grad_enabled()
