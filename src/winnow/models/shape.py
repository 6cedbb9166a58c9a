"""Shape of a decoder: the sizes from which its parameters, its memory and its arithmetic are counted.

Nothing here imports torch or transformers. `tests/models/test_shape.py` holds the counts against the models that
transformers builds from the same sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that its memory and its arithmetic depend on; parameters are counts.

    `backbone` is the model without its output layer, `kv_width` the number of key heads times their size, and
    `query_width` that of the query heads.
    """

    parameters: int
    trainable: int
    backbone: int
    backbone_trainable: int
    layers: int
    width: int
    intermediate: int
    kv_width: int
    vocabulary: int
    query_width: int

    @property
    def table(self) -> int:
        """Parameters of the embedding: vocabulary × width. The output layer has as many, or is the same table."""
        return self.vocabulary * self.width

    @property
    def block(self) -> float:
        """Mean parameters of a layer: the backbone without its embedding, ÷ layers."""
        return (self.backbone - self.table) / self.layers

    @property
    def outside(self) -> float:
        """Parameters outside of the layers: the embedding, and the output layer where it is a table of its own."""
        return self.parameters - self.layers * self.block


@dataclass(frozen=True, slots=True)
class Adapters:
    """Rank and places of LoRA's adapters, as in `conf/model/lora/adapter.yaml`."""

    rank: int
    target_modules: str | Sequence[str]


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The published sizes of the model at the path `of`: a Llama, or with `biases` of its queries, keys and values a
    Qwen2.

    A block has queries, keys, values and an output (width × heads · head_size and back), an MLP of three matrices, and
    two norms.
    """

    of: str
    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    tied: bool
    biases: bool

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a block's seven linear layers, by transformers' names."""
        width, queries, keys = self.width, self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "q_proj": (width, queries),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (queries, width),
            "gate_proj": (width, self.intermediate),
            "up_proj": (width, self.intermediate),
            "down_proj": (self.intermediate, width),
        }

    def sizes(self, adapters: Adapters | None = None) -> ModelShape:
        """The counts that follow from these sizes, with LoRA's `adapters` if there are any.

        Raises:
            ConfigError: the adapters name a module that is no linear layer of a block.
        """
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        biases = queries + 2 * keys if self.biases else 0
        block = sum(i * o for i, o in self.linears.values()) + biases + 2 * self.width
        table = self.vocabulary * self.width
        backbone = table + self.layers * block + self.width  # the last norm
        added = 0 if adapters is None else self.layers * self._adapter(adapters)
        return ModelShape(
            parameters=backbone + (0 if self.tied else table) + added,
            trainable=added or backbone + (0 if self.tied else table),
            backbone=backbone + added,
            backbone_trainable=added or backbone,
            layers=self.layers,
            width=self.width,
            intermediate=self.intermediate,
            kv_width=keys,
            vocabulary=self.vocabulary,
            query_width=queries,
        )

    def _adapter(self, adapters: Adapters) -> int:
        """Parameters of a block's adapters: rank · (inputs + outputs) of each adapted layer."""
        named = adapters.target_modules
        names = list(self.linears) if named == "all-linear" else [named] if isinstance(named, str) else list(named)
        if unknown := [name for name in names if name not in self.linears]:
            raise ConfigError(
                f"model.lora.target_modules: {unknown[0]} is none of {', '.join(self.linears)}; "
                "type model.lora.target_modules=all-linear"
            )
        return sum(adapters.rank * (i + o) for i, o in (self.linears[name] for name in names))
