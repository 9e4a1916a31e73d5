"""Models that an engine can serve: what of their architecture costs time and memory.

Every figure is from the `config.json` of the model's Hugging Face repository at the precision published there;
`total_params` is the number of parameters that this configuration makes, counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KV_BYTES = 2
"""Keys and values are kept in BF16, vLLM's default (`--kv-cache-dtype auto`). [bytes]"""

BF16_BYTES = 2
MXFP4_BYTES = 4.25 / 8
"""4 bits, and 8 bits of scale for each 32 (OCP Microscaling Formats specification 1.0). [bytes]"""


@dataclass(frozen=True, slots=True)
class Experts:
    """The routed experts of a mixture; shared ones count as a plain layer.

    Attributes:
        layers: Layers that have them.
        count: In each layer.
        per_token: Of those, how many a token goes through.
        width: Hidden size of one; it has three matrices of it.
        bytes_per_param: As kept in memory. [bytes]
    """

    layers: int
    count: int
    per_token: int
    width: int
    bytes_per_param: float = BF16_BYTES


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: the cache holds one compressed vector for all heads.

    Attributes:
        rank: Of the compressed keys and values (`kv_lora_rank`).
        rope: Dimensions of the key that carry the position (`qk_rope_head_dim`).
        nope: Dimensions of a head's key that do not (`qk_nope_head_dim`).
        value: Dimensions of a head's value (`v_head_dim`).
    """

    rank: int
    rope: int
    nope: int
    value: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The shape of one model. Input and output embeddings are separate and in BF16 in all of them.

    Attributes:
        name: The key in `MODELS`.
        hf_id: The Hugging Face repository whose `config.json` this is.
        layers: Transformer layers.
        hidden: Hidden size.
        heads: Query heads.
        kv_heads: Key-value heads.
        head_dim: Dimensions of a head.
        vocab: Size of the vocabulary.
        total_params: All parameters.
        max_model_len: Longest context it is configured for. [tokens]
        weight_bytes_per_param: Of all weights but experts and embeddings. [bytes]
        experts: Its routed experts, if any.
        latent: Its latent attention, if any; `kv_heads` and `head_dim` are then of no account.
        sliding_layers: Layers that attend the last `sliding_window` tokens only.
        sliding_window: [tokens]
        fp8: Whether its linear layers are computed in FP8 on GPUs that can.
    """

    name: str
    hf_id: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    total_params: int
    max_model_len: int
    weight_bytes_per_param: float = BF16_BYTES
    experts: Experts | None = None
    latent: Latent | None = None
    sliding_layers: int = 0
    sliding_window: int = 0
    fp8: bool = False

    @property
    def expert_params(self) -> int:
        """Parameters of one routed expert in one layer."""
        return 3 * self.hidden * self.experts.width if self.experts else 0

    @property
    def routed_params(self) -> int:
        """Parameters of all routed experts."""
        return self.experts.layers * self.experts.count * self.expert_params if self.experts else 0

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through, both embeddings included."""
        if self.experts is None:
            return self.total_params
        idle = self.experts.count - self.experts.per_token
        return self.total_params - self.experts.layers * idle * self.expert_params

    @property
    def embedding_params(self) -> int:
        """Parameters of the input embedding; the output embedding (`lm_head`) has as many."""
        return self.vocab * self.hidden

    @property
    def routed_bytes(self) -> float:
        """Weights of all routed experts. [bytes]"""
        return self.routed_params * self.experts.bytes_per_param if self.experts else 0.0

    @property
    def plain_bytes(self) -> float:
        """Weights of everything but routed experts and the two embeddings. [bytes]"""
        plain = self.total_params - self.routed_params - 2 * self.embedding_params
        return plain * self.weight_bytes_per_param

    @property
    def embedding_bytes(self) -> int:
        """Weights of one of the two embeddings. [bytes]"""
        return self.embedding_params * BF16_BYTES

    @property
    def weight_bytes(self) -> float:
        """All weights in memory. [bytes]"""
        return self.plain_bytes + self.routed_bytes + 2 * self.embedding_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token of context adds to the KV cache, on all GPUs together if none of it is replicated. [bytes]

        Layers with a sliding window give up what lies behind it (vLLM 0.32 v1/core/single_type_kv_cache_manager.py
        `SlidingWindowManager`), so a longer context does not grow in them.
        """
        return self.kv_bytes_per_token_on(1)

    def kv_bytes_per_token_on(self, gpus: int) -> int:
        """The same on each of some GPUs that are tensor parallel. [bytes]

        Key-value heads are split, or repeated if there are more GPUs (vLLM 0.32 config/model.py `get_num_kv_heads`).
        Latent KV has one head, so every GPU holds all of it.

        Args:
            gpus: How many.
        """
        if self.latent:
            return self.layers * (self.latent.rank + self.latent.rope) * KV_BYTES
        return (self.layers - self.sliding_layers) * self.kv_layer_bytes_on(gpus)

    def kv_layer_bytes_on(self, gpus: int) -> int:
        """Keys and values of one token in one layer without latent attention, on each of some GPUs. [bytes]"""
        return 2 * max(1, self.kv_heads // gpus) * self.head_dim * KV_BYTES

    def check_split(self, gpus: int) -> None:
        """See whether vLLM would split the model over so many GPUs.

        Args:
            gpus: How many.

        Raises:
            ValueError: The heads cannot be shared out evenly (vLLM 0.32 config/model.py `verify_with_parallel_config`,
                model_executor/models/llama.py `LlamaAttention`).
        """
        if self.heads % gpus or max(self.kv_heads, gpus) % min(self.kv_heads, gpus):
            raise ValueError(
                f"{self.name} has {self.heads} heads and {self.kv_heads} key-value heads, which {gpus} GPUs cannot "
                f"share evenly: use a power of two up to {self.heads & -self.heads}"
            )


MODELS: Mapping[str, ModelShape] = MappingProxyType(
    {
        model.name: model
        for model in (
            ModelShape("qwen3-8b", "Qwen/Qwen3-8B", 36, 4096, 32, 8, 128, 151936, 8_190_735_360, 40960),
            ModelShape("qwen3-32b", "Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 151936, 32_762_123_264, 40960),
            ModelShape(
                "qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 151936, 30_532_122_624, 40960,
                experts=Experts(48, 128, 8, 768),
            ),
            ModelShape(
                "qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B", 94, 4096, 64, 4, 128, 151936, 235_093_634_560, 40960,
                experts=Experts(94, 128, 8, 1536),
            ),
            ModelShape(
                "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", 32, 4096, 32, 8, 128, 128256, 8_030_261_248, 131072
            ),
            ModelShape(
                "llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", 80, 8192, 64, 8, 128, 128256, 70_553_706_496,
                131072,
            ),
            ModelShape(
                "deepseek-v3", "deepseek-ai/DeepSeek-V3", 61, 7168, 128, 128, 192, 129280, 671_026_404_352, 163840,
                weight_bytes_per_param=1, experts=Experts(58, 256, 8, 2048, 1), latent=Latent(512, 64, 128, 128),
                fp8=True,
            ),
            ModelShape(
                "gpt-oss-120b", "openai/gpt-oss-120b", 36, 2880, 64, 8, 64, 201088, 116_829_156_672, 131072,
                experts=Experts(36, 128, 4, 2880, MXFP4_BYTES), sliding_layers=18, sliding_window=128,
            ),
            ModelShape(
                "glm-4.5-air", "zai-org/GLM-4.5-Air", 46, 4096, 96, 8, 128, 151552, 106_852_245_504, 131072,
                experts=Experts(45, 128, 8, 1408),
            ),
        )
    }
)  # fmt: skip
"""The models known, by the name that `parse_model` takes.

DeepSeek-V3 is without its multi-token prediction layer, which vLLM loads for speculative decoding only; V3.1 and R1
have the same shape. The experts of gpt-oss are in MXFP4, the rest of it in BF16.
"""


def parse_model(name: str) -> ModelShape:
    """Find a model by its name here or its Hugging Face id.

    Args:
        name: Such as `qwen3-32b` or `Qwen/Qwen3-32B`; letter case does not matter.

    Returns:
        Its shape.

    Raises:
        ValueError: It is unknown.
    """
    wanted = name.strip().lower()
    for model in MODELS.values():
        if wanted in {model.name, model.hf_id.lower()}:
            return model
    raise ValueError(f"no model is known as {name!r}: use one of {', '.join(MODELS)}, or its Hugging Face id")
