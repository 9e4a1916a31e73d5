"""One argument of a server, with the reason why it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

YOURS = "as you gave it"


@dataclass(frozen=True, slots=True)
class Flag:
    """An option of a server's command line.

    Attributes:
        name: As the server knows it, such as `--max-model-len`; empty for words that belong to no option.
        values: What follows it: nothing for a switch, mostly one.
        reason: Why it is there, in one line.
    """

    name: str
    values: tuple[str, ...] = ()
    reason: str = YOURS

    @classmethod
    def of(cls, name: str, value: object = None, *, reason: str) -> Flag:
        """A flag with one value, or none; a mapping becomes JSON."""
        if value is None:
            return cls(name, (), reason)
        return cls(name, (json.dumps(value) if isinstance(value, dict) else str(value),), reason)

    @property
    def words(self) -> list[str]:
        """What the command line says for it."""
        return [self.name, *self.values] if self.name else [*self.values]

    @property
    def value(self) -> str | None:
        """The first value, if there is one."""
        return self.values[0] if self.values else None


def parse_flags(words: Sequence[str]) -> list[Flag]:
    """Read arguments as they would be typed.

    Args:
        words: Such as `["--swap-space", "8", "--enforce-eager", "--seed=1"]`.

    Raises:
        ValueError: The first of them is no option.
    """
    flags: list[Flag] = []
    for word in words:
        if is_option(word):
            name, equals, value = word.partition("=")
            flags.append(Flag(name, (value,) if equals else ()))
        elif flags:
            flags[-1] = Flag(flags[-1].name, (*flags[-1].values, word))
        else:
            raise ValueError(f"{word!r} is no option: after -- come the server's own, such as -- --seed 1")
    return flags


def is_option(word: str) -> bool:
    """Whether a word names an option, and is no negative number."""
    return len(word) > 1 and word.startswith("-") and not word[1].isdigit()


def key(name: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """What two spellings of one option have in common: dashes, and one name for all of its names."""
    dashed = name.replace("_", "-")
    return aliases.get(dashed, dashed)


def merged(flags: Iterable[Flag], more: Sequence[Flag], aliases: Mapping[str, str]) -> list[Flag]:
    """Ours, and what was added by hand, which counts where both say something.

    Args:
        flags: Ours.
        more: What was added. `--no-x` takes `--x` away.
        aliases: Other names of options, to the one that we use.
    """
    added = {_positive(key(flag.name, aliases)) for flag in more}
    return [*(flag for flag in flags if key(flag.name) not in added), *more]


def find(flags: Iterable[Flag], name: str, aliases: Mapping[str, str] = MappingProxyType({})) -> Flag | None:
    """The last flag of this name, which is the one that counts."""
    return next((flag for flag in reversed(list(flags)) if key(flag.name, aliases) == name), None)


def _positive(name: str) -> str:
    return f"--{name.removeprefix('--no-')}" if name.startswith("--no-") else name
