"""A tiny language model to run a real vLLM with: no download, no weights, no third-party package.

It writes what vLLM reads before it loads weights: a Qwen3 `config.json` and a byte-level BPE tokenizer with a
chat template that knows tools. The weights are left out: `--load-format dummy` makes random ones, so the model
babbles evenly over its vocabulary. Scheduler, block manager, prefix cache, metrics and HTTP are the real ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TURN = "<|im_end|>"
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# The tool format is the one that vLLM's `hermes` parser reads.
CHAT_TEMPLATE = r"""
{%- set opening = namespace(system='You are an agent.', rest=messages) -%}
{%- if messages and messages[0].role in ['system', 'developer'] -%}
  {%- set opening.system = messages[0].content -%}
  {%- set opening.rest = messages[1:] -%}
{%- endif -%}
<|im_start|>system
{{ opening.system }}
{%- if tools -%}
{{ '\n\nTools:\n' }}
  {%- for tool in tools -%}
{{ tool | tojson }}{{ '\n' }}
  {%- endfor -%}
To call one: <tool_call>{"name": ..., "arguments": {...}}</tool_call>
{%- endif %}<|im_end|>
{% for message in opening.rest -%}
  {%- if message.role == 'tool' -%}
<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content or '' }}
    {%- for call in message.tool_calls or [] -%}
<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{
      call.function.arguments if call.function.arguments is string else call.function.arguments | tojson
    }}}</tool_call>
    {%- endfor -%}
<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
""".strip("\n")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How big the model is, which is how dear a prompt token is against a decode step.

    Attributes:
        hidden: Width of the residual stream, a multiple of 64.
        layers: Number of transformer blocks.
        max_context: Longest context that the positions reach. [tokens]
    """

    hidden: int = 768
    layers: int = 8
    max_context: int = 32_768


def write_model(directory: Path, size: ModelSize) -> None:
    """Writes the model's files into a directory, which is made if it is missing.

    Args:
        directory: Where to; what is there already under the same names is replaced.
        size: How big the model is.
    """
    tokenizer = _tokenizer()
    vocabulary = len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])
    end_of_turn = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == END_OF_TURN)
    files = {
        "config.json": _config(size, vocabulary=vocabulary, end_of_turn=end_of_turn),
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": size.max_context,
            "eos_token": END_OF_TURN,
            "pad_token": CONTROL_TOKENS[0],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _config(size: ModelSize, *, vocabulary: int, end_of_turn: int) -> dict[str, Any]:
    """A Qwen3 configuration; names as in transformers' Qwen3Config."""
    head_width = 64
    heads = size.hidden // head_width
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": 3 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "head_dim": head_width,
        "hidden_act": "silu",
        "max_position_embeddings": size.max_context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": end_of_turn,
    }


def _tokenizer() -> dict[str, Any]:
    """A byte-level BPE whose tokens are ASCII letters, syllables and two-syllable words.

    An evenly babbling model then says words (" kalo budi"), and what it said survives decoding and encoding:
    no token is half of a UTF-8 character. So a chat history that comes back as text meets the prefix cache.
    Characters beyond ASCII in a prompt become one "?" a byte.
    """
    written_as = {" ": "Ġ", "\n": "Ċ", "\t": "ĉ", "\r": "č"}  # GPT-2's byte-level spelling of these bytes
    letters = [written_as.get(c, c) for c in map(chr, (9, 10, 13, *range(32, 127)))]
    syllables = [(c, v) for c, v in product("bdfgklmnprstvz", "aeiou")]
    merges = [
        *syllables,
        *(("Ġ", c + v) for c, v in syllables),
        *(("Ġ" + "".join(first), "".join(second)) for first, second in product(syllables, syllables)),
    ]
    tokens = letters + [left + right for left, right in merges]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": len(tokens) + place,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": content in CONTROL_TOKENS,
            }
            for place, content in enumerate(CONTROL_TOKENS + MARKUP_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "?",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }
