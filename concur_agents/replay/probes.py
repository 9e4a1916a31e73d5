"""The requests of a calibration: few, and between them everything that a step's time can depend on."""

from __future__ import annotations

from dataclasses import dataclass

SHORT = 16
"""Prompt of the probes that are about decoding alone. [tokens]"""
LIKE_AGENTS = 2.0
"""Next turns, and prompts beside others that decode, are what agents mostly ask for: their errors count double. Where
the cost of a token depends on how many are computed at once, the fit is then best there."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a probe.

    Attributes:
        prompt: Name of the prompt. Under the same name are the same tokens, which the cache may know by then.
        prompt_tokens: Its length.
        more_tokens: New tokens after it, as in the next turn of an agent.
        output_tokens: What is generated.
        place: Its place in the probe, from 0: where calls do not start at once, each starts a gap after the one before.
    """

    prompt: str
    prompt_tokens: int
    output_tokens: int
    more_tokens: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Requests that are timed together.

    Attributes:
        name: For people, and to look its time up.
        calls: The requests.
        gap_of: Name of an earlier probe whose time is the gap between the starts of two calls; if empty, all start at
            once.
        weight: What its relative error counts.
    """

    name: str
    calls: tuple[Call, ...]
    gap_of: str = ""
    weight: float = 1.0


def make_probes(longest: int, most: int) -> list[Probe]:
    """The probes of one pass, in their order.

    Where a context is decoded, it was computed by the probe before and is in the cache: then prefill and decoding are
    measured apart. Together they compute about 9 times `longest`.

    Args:
        longest: The longest prompt. [tokens]
        most: Requests that may run at once.
    """
    some, eight, many = min(4, most), min(8, most), min(24, most)
    half, quarter, tenth = longest // 2, longest // 4, longest // 10
    next_turn = longest // 20
    probes = [Probe("1 token", _same("short", 1, SHORT, 1))]
    probes += [
        Probe(f"read {tokens:,}", _same(f"alone {tokens}", 1, tokens, 1))
        for tokens in (longest // 32, longest // 8, quarter, half, longest)
    ]
    probes += [
        Probe(f"write at {tokens:,}", _same(f"alone {tokens}", 1, tokens, 33)) for tokens in (SHORT, quarter, longest)
    ]
    probes += [
        Probe(f"{next_turn} more at {tokens:,}", _same(f"alone {tokens}", 1, tokens, 1, next_turn), weight=LIKE_AGENTS)
        for tokens in (quarter, half)
    ]
    for count in sorted({some, min(16, most), min(48, most)}):
        probes += [
            Probe(f"read {count} × {SHORT}", _same(f"short {count}", count, SHORT, 1)),
            Probe(f"write {count} at {SHORT}", _same(f"short {count}", count, SHORT, 25)),
        ]
    for count, tokens in ((eight, quarter), (many, tenth)):
        probes += [
            Probe(f"read {count} × {tokens:,}", _same(f"batch {tokens}", count, tokens, 1)),
            Probe(f"write {count} at {tokens:,}", _same(f"batch {tokens}", count, tokens, 25)),
        ]
        if count == eight:
            more = _same(f"batch {tokens}", count, tokens, 1, next_turn)
            probes.append(Probe(f"{count} × {next_turn} more at {tokens:,}", more, weight=LIKE_AGENTS))
    together = _same("mixed", min(10, most), longest // 8, 25)
    eighth = longest // 8
    mixed = Probe(f"mixed {len(together)} × {eighth:,}", together, gap_of=f"read {eighth:,}", weight=LIKE_AGENTS)
    return [*probes, mixed]


def _same(name: str, count: int, prompt_tokens: int, output_tokens: int, more_tokens: int = 0) -> tuple[Call, ...]:
    return tuple(Call(f"{name}/{place}", prompt_tokens, output_tokens, more_tokens, place) for place in range(count))
