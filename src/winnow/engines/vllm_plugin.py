"""The part of Winnow that vLLM loads in a server's processes, through the entry point `vllm.general_plugins`.

Nothing else of Winnow is imported there, so that its package may be installed beside a server without what training
takes.
"""

BACKEND = "winnow_files"
"""Winnow's way of transferring weights, by the name that `vllm serve --weight-transfer-config` takes."""


def register() -> None:
    """Tell vLLM of the back-end; it calls this in every process, and may do so twice."""
    from vllm.distributed.weight_transfer.factory import (  # pyright: ignore[reportMissingImports]
        WeightTransferEngineFactory,
    )

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, "winnow.engines.weight_reader", "WeightReader")
