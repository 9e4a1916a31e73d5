"""Text to token ids, and token ids to the content that the engine's cache goes by.

A real server knows a prompt by its token ids, and its cache by hashes over full blocks of them. No vocabulary is
needed for that: here a token is a piece of text of a fixed shape, and its id a hash of the piece. English comes out at
about four characters a token.

Ids are kept packed, four bytes each: a history of 50,000 tokens is then a few joins and slices.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from concur_agents.simulation.content import Prompt

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from concur_agents.simulation.content import Segment

ID_BYTES = array("I").itemsize
VOCABULARY = 150_000
"""About that of Qwen3, 151,669 tokens (its tokenizer_config.json). [tokens]"""
LONGEST_WORD = 6
"""Letters of a token at most: a longer word is several tokens. [characters]"""
CACHED_CHARACTERS = 64_000_000
"""Text whose tokens are remembered, since agents send their whole history with every turn. [characters]"""
KNOWN_PIECES = 500_000
ENTRY_CHARACTERS = 200
"""What remembering a text costs beside the text. [characters]"""

# The last space before a word belongs to the word, so text that begins with a space can be added to any other, and no
# token changes. Every character is in one of the four shapes.
_PIECES = re.compile(rf" ?[^\W\d_]{{1,{LONGEST_WORD}}}| ?\d{{1,3}}| ?(?:[^\w\s]|_){{1,3}}|\s{{1,8}}(?!\S)|\s")
_SPECIAL = 2


def _packed(*ids: int) -> bytes:
    return array("I", ids).tobytes()


_MESSAGE_START = _packed(0)
_MESSAGE_END = _packed(1)


class _Ids(dict[str, int]):
    """The id of each piece, made when it is first asked for."""

    def __missing__(self, piece: str) -> int:
        if len(self) >= KNOWN_PIECES:
            self.clear()
        # JSON can hold half of a surrogate pair, which UTF-8 proper cannot.
        number = self[piece] = _SPECIAL + crc32(piece.encode("utf-8", "surrogatepass")) % (VOCABULARY - _SPECIAL)
        return number


class Tokenizer:
    """Makes tokens of text, the same ones in every process.

    Args:
        cached_characters: Text whose tokens are remembered. [characters]
    """

    def __init__(self, *, cached_characters: int = CACHED_CHARACTERS) -> None:
        self._ids = _Ids()
        self._cached: OrderedDict[str, bytes] = OrderedDict()
        self._room = cached_characters
        self._newline = self.ids(["\n"])

    def pieces(self, text: str) -> list[str]:
        """The text of each token; joined, they are the text."""
        return _PIECES.findall(text)

    def ids(self, pieces: Iterable[str]) -> bytes:
        """The packed ids of tokens given by their text."""
        return array("I", map(self._ids.__getitem__, pieces)).tobytes()

    def encode(self, text: str) -> bytes:
        """The packed ids of a text.

        A text begins with the tokens of any beginning of it, but for the last of these, which may grow.
        """
        cached = self._cached
        known = cached.get(text)
        if known is not None:
            cached.move_to_end(text)
            return known
        ids = self.ids(_PIECES.findall(text))
        cached[text] = ids
        self._room -= len(text) + ENTRY_CHARACTERS
        while self._room < 0 and cached:
            self._room += len(cached.popitem(last=False)[0]) + ENTRY_CHARACTERS
        return ids

    def render_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> bytes:
        """The packed ids of a conversation, up to where the assistant is to answer.

        The frame is that of ChatML, as in Qwen's chat templates: each message is `<|im_start|>role`, a line break, the
        text, `<|im_end|>` and a line break; the tools are told in the system message.

        Args:
            messages: In the form of the OpenAI API, checked before.
            tools: The tools as given.
        """
        parts: list[bytes] = []
        if tools:
            first = messages[0] if messages else {}
            system = message_text(first) if first.get("role") in _SYSTEM_ROLES else ""
            listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
            self._add(parts, "system", f"{system}\n\n# Tools\n\n<tools>\n{listed}\n</tools>")
            if first.get("role") in _SYSTEM_ROLES:
                messages = messages[1:]
        for message in messages:
            self._add(parts, message["role"], message_text(message))
        parts += (_MESSAGE_START, self.encode("assistant"), self._newline)
        return b"".join(parts)

    def _add(self, parts: list[bytes], role: str, text: str) -> None:
        newline = self._newline
        parts += (_MESSAGE_START, self.encode(role), newline, self.encode(text), _MESSAGE_END, newline)


_SYSTEM_ROLES = {"system", "developer"}


def message_text(message: Mapping[str, Any]) -> str:
    """What a message says: its text, and after it the tools it calls, in the form in which a model writes them."""
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(part if isinstance(part, str) else part["text"] for part in content)
    calls = [
        tool_call_text(call["function"]["name"], call["function"].get("arguments") or "{}")
        for call in message.get("tool_calls") or ()
    ]
    return "\n".join(filter(None, [content, *calls]))


def tool_call_text(name: str, arguments: str) -> str:
    """A tool call as models of the Hermes and Qwen families write it.

    Args:
        name: The function.
        arguments: Its arguments, as JSON.
    """
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'


def unpacked(ids: bytes) -> list[int]:
    """Packed ids as numbers."""
    numbers = array("I")
    numbers.frombytes(ids)
    return numbers.tolist()


def packed(ids: Sequence[int]) -> bytes:
    """Numbers as packed ids.

    Raises:
        TypeError: If one is no integer.
        OverflowError: If one is negative, or over 32 bits.
    """
    return array("I", ids).tobytes()


class Exchange(NamedTuple):
    """A prompt, and the prompt and its output as one, as the engine takes them."""

    prompt: Prompt
    content: Prompt


def exchange_of(prompt: bytes, output: bytes, block_size: int, cache_salt: str | None = None) -> Exchange:
    """What the cache knows a request by: a segment for each full block, named by the ids in it, and one for the tail.

    So two requests agree in exactly their common full blocks, as with vLLM's block hashes (vLLM 0.32
    v1/core/kv_cache_utils.py `hash_block_tokens`). As there, the salt is in the first block only, and every other
    block counts only after the ones before it.

    Args:
        prompt: Packed ids, at least one.
        output: Packed ids.
        block_size: Tokens a KV block. [tokens]
        cache_salt: Splits the cache.
    """
    size = block_size * ID_BYTES
    full = len(prompt) // size * size
    names: list[Hashable] = [prompt[start : start + size] for start in range(0, full, size)]
    tail = prompt[full:]
    if cache_salt is not None and names:
        names[0] = (cache_salt, names[0])
    salt = None if full else cache_salt
    shared = Prompt.of_blocks(names, block_size)
    return Exchange(
        shared.then(*_segments(tail, size, salt)),
        shared.then(*_segments(tail + output, size, salt)),
    )


def _segments(ids: bytes, size: int, cache_salt: str | None) -> list[Segment]:
    segments: list[Segment] = []
    for start in range(0, len(ids), size):
        block = ids[start : start + size]
        segments.append((block, len(block) // ID_BYTES))
    if cache_salt is not None and segments:
        name, tokens = segments[0]
        segments[0] = ((cache_salt, name), tokens)
    return segments
