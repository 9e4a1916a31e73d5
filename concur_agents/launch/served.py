"""What is served: a model that is known, one whose config.json is here, or one that is told in two numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from concur_agents.simulation.models import BF16_BYTES, MODELS, Latent, ModelShape, parse_model

_GIB = 2**30

_GROWING = "full_attention"
_SLIDING = {"sliding_attention", "chunked_attention"}
_ROPE_THAT_SCALES = {"linear", "dynamic", "ntk"}
"""Kinds of rope scaling whose factor vLLM multiplies the context by (vLLM 0.32 config/model.py
`_get_and_verify_max_len`); the other kinds have it in `max_position_embeddings`."""


@dataclass(frozen=True, slots=True)
class ToldModel(ModelShape):
    """A model whose cost of context was told, not worked out.

    Attributes:
        told_kv_bytes: What one token of context takes, all GPUs together. [bytes]
    """

    told_kv_bytes: int = 0

    def kv_bytes_per_token_on(self, gpus: int) -> int:
        """The same on each of some GPUs, split evenly. [bytes]"""
        return math.ceil(self.told_kv_bytes / gpus)

    def check_split(self, gpus: int) -> None:
        """Nothing is known of its heads, so nothing is refused."""


def find_model(
    name: str, *, config: str | None = None, kv_bytes_per_token: int | None = None, weight_gib: float | None = None
) -> ModelShape:
    """The shape of the model to serve.

    Args:
        name: A name or Hugging Face id that is known, or a folder with a config.json.
        config: A config.json, or its folder, where `name` is neither.
        kv_bytes_per_token: Instead of what the shape says, all GPUs together. [bytes]
        weight_gib: Instead of what the files or the shape say, all GPUs together. [GiB]

    Raises:
        ValueError: Nothing tells the shape, with the ways to tell it; or the config.json cannot be understood.
    """
    folder = config or (name if Path(name).is_dir() else None)
    if folder is not None:
        model = read_config(Path(folder), name, kv_told=kv_bytes_per_token is not None, weight_gib=weight_gib)
    else:
        try:
            model = parse_model(name)
        except ValueError:
            if kv_bytes_per_token is None or weight_gib is None:
                raise ValueError(_how_to_tell(name)) from None
            # 8192 and 150k are large: what working memory is estimated from.
            model = ModelShape(name, name, 1, 8192, 1, 1, 1, 150_000, 0, 0)
        if weight_gib is not None:
            model = _with_weights(model, weight_gib * _GIB)
    if kv_bytes_per_token is not None:
        same = {field.name: getattr(model, field.name) for field in fields(ModelShape)}
        model = ToldModel(**same, told_kv_bytes=kv_bytes_per_token)
    return model


def read_config(path: Path, name: str, *, kv_told: bool = False, weight_gib: float | None = None) -> ModelShape:
    """Read a Hugging Face config.json; weights are counted by the files beside it.

    Args:
        path: The file or its folder.
        name: What the model is called.
        kv_told: The cost of context is known otherwise, so that attention need not be understood.
        weight_gib: The weights are known otherwise. [GiB]

    Raises:
        ValueError: It cannot be read, or says something that this does not understand.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        whole = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON: {error}") from error
    if not isinstance(whole, dict):
        raise ValueError(f"{file}: is not the config.json of a model")  # noqa: TRY004  as every other fault of a file
    text = whole.get("text_config", whole)
    heads = _number(text, "num_attention_heads", file)
    hidden = _number(text, "hidden_size", file)
    growing, sliding, window = (1, 0, 0) if kv_told else _layers(text, file)
    shape = ModelShape(
        name=name,
        hf_id=name,
        layers=growing + sliding,
        hidden=hidden,
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or hidden // heads,
        vocab=_number(text, "vocab_size", file),
        total_params=0,
        max_model_len=_context(text),
        latent=_latent(text),
        sliding_layers=sliding,
        sliding_window=window,
    )
    return _with_weights(shape, weight_gib * _GIB if weight_gib is not None else _weights(file.parent, whole, shape))


def _how_to_tell(name: str) -> str:
    return (
        f"no model is known as {name!r}, and nothing is looked up on the network: use one of {', '.join(MODELS)} (or "
        "its Hugging Face id), give a folder that has its config.json as --model or --model-config, or say "
        "--kv-bytes-per-token and --weight-gib"
    )


def _number(config: dict[str, Any], key: str, file: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{file}: {key} is {value!r}: not a shape that is understood; say --kv-bytes-per-token")
    return value


def _layers(config: dict[str, Any], file: Path) -> tuple[int, int, int]:
    """Layers whose cache grows with the context, layers that attend a window, and the window."""
    count = _number(config, "num_hidden_layers", file)
    window = config.get("sliding_window") or 0
    types = config.get("layer_types")
    if types:
        sliding = sum(kind in _SLIDING for kind in types)
        return types.count(_GROWING), sliding, window
    hybrid = {"layers_block_type", "hybrid_override_pattern", "full_attention_interval", "ssm_cfg", "state_size"}
    if hybrid & config.keys() or (window and config.get("use_sliding_window", True)):
        raise ValueError(f"{file}: which layers are of which kind it does not say: say --kv-bytes-per-token")
    return count, 0, 0


def _latent(config: dict[str, Any]) -> Latent | None:
    if not config.get("kv_lora_rank"):
        return None
    parts = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    return Latent(*(config.get(part) or 0 for part in parts))


def _context(config: dict[str, Any]) -> int:
    """The longest context that it is configured for, 0 if it does not say. [tokens]"""
    longest = config.get("max_position_embeddings") or config.get("max_sequence_length") or 0
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    return int(longest * (rope.get("factor") or 1)) if kind in _ROPE_THAT_SCALES else int(longest)


def _weights(folder: Path, config: dict[str, Any], shape: ModelShape) -> float:
    """All weights: what the index or the files say, else what a plain BF16 model of this shape has. [bytes]"""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return float(json.loads(index.read_bytes())["metadata"]["total_size"])
    if files := [file.stat().st_size for file in folder.glob("*.safetensors")]:
        return float(sum(files))
    text = config.get("text_config", config)
    experts = any(key in text for key in ("num_experts", "n_routed_experts", "num_local_experts"))
    if experts or "quantization_config" in config or not isinstance(text.get("intermediate_size"), int):
        raise ValueError(f"{folder}: there are no weights beside the config.json to be counted: say --weight-gib")
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    layer = attention + 3 * shape.hidden * text["intermediate_size"]
    embeddings = (1 if text.get("tie_word_embeddings") else 2) * shape.embedding_params
    return float(text["num_hidden_layers"] * layer + embeddings) * BF16_BYTES


def _with_weights(model: ModelShape, weight_bytes: float) -> ModelShape:
    """The same shape with weights of so many bytes, whatever they are made of."""
    same = {field.name: getattr(model, field.name) for field in fields(ModelShape)}
    counted = {"total_params": math.ceil(weight_bytes / BF16_BYTES), "weight_bytes_per_param": BF16_BYTES}
    return ModelShape(**(same | counted | {"experts": None}))
