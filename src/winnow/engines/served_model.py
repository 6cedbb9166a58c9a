"""Comparison of a server that the user has started with what a run needs of it."""

from collections.abc import Mapping
from typing import Any

from winnow.engines.generate_api import GENERATE
from winnow.engines.vllm_http import Fault, Json, Kind, VllmHttp
from winnow.errors import ConfigError

COMPARED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "tie_word_embeddings",
)
"""Settings of a model's configuration that decide the shapes of its weights, or what they compute."""


def start_command(backend: str) -> str:
    """The words that start a server which a run can use."""
    return (
        "start it by VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs "
        f'--weight-transfer-config \'{{"backend": "{backend}"}}\''
    )


def description(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model's configuration that are compared, in values that JSON has."""
    return {name: config[name] for name in COMPARED if config.get(name) is not None}


def difference(trained: Mapping[str, Any], served: Mapping[str, Any]) -> str | None:
    """The first setting in which two descriptions differ, in words; what only one of them has is not compared."""
    for name in COMPARED:
        if name in trained and name in served and trained[name] != served[name]:
            return f"it serves another model: {name} is {served[name]} there, and {trained[name]} in training"
    return None


def require_fit(name: str, http: VllmHttp, dtype: str, backend: str) -> None:
    """Check that the server has the settings that a run needs. `name` begins a message: `engine.url=…`.

    Raises:
        ConfigError: it has not.
        Fault: it does not say.
    """
    info = _info(http)
    model, transfer = info["model_config"], info["weight_transfer_config"]
    served = str(model["dtype"]).removeprefix("torch.")
    problem = None
    if transfer is None or transfer["backend"] != backend:
        has = "none" if transfer is None else f"the back-end {transfer['backend']}"
        other = "; for NCCL type engine.transfer=nccl" if transfer and transfer["backend"] == "nccl" else ""
        problem = f"it has {has} for weights, and this run sends them by {backend}{other}"
    elif model["logprobs_mode"] != "processed_logprobs":
        problem = f"it gives {model['logprobs_mode']}, not those of the distribution that is sampled from"
    elif model["quantization"] is not None:
        raise ConfigError(
            f"{name}: the server's weights are quantised ({model['quantization']}); serve the model that is trained"
        )
    elif served != dtype:
        raise ConfigError(
            f"{name}: the server computes in {served}, and this run samples in {dtype}; start it with --dtype {dtype}, "
            f"or type engine.dtype={served}"
        )
    if problem is not None:
        raise ConfigError(f"{name}: {problem}; {start_command(backend)}")
    try:
        http.post(GENERATE, {})
    except Fault as fault:  # refused as an empty request, or because the endpoint is switched off
        if fault.status in (403, 404):
            raise


def _info(http: VllmHttp) -> Json:
    try:
        info = http.get("/server_info?config_format=json")["vllm_config"]
        return {key: info[key] for key in ("model_config", "weight_transfer_config")}
    except (LookupError, TypeError) as error:
        raise Fault(Kind.REFUSED, "describes itself in another form than vLLM 0.32") from error
