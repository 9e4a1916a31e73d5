"""What a batch has finished, in a file: written as each item ends, read by the next run.

JSON Lines: a header, then `{"key": …, "result": …}` for each finished item, in the order in which they ended. A line is
written by one `write` and forced to the disk, so a crash can tear at most the last one; that one is cut off when the
file is opened again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concur_agents.errors import CheckpointError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from io import FileIO

log = logging.getLogger("concur_agents")

FORMAT = "concur-agents checkpoint"
VERSION = 1


class Checkpoint:
    """An open checkpoint; only one can be open on a file, where the system has file locks.

    Results stay in the file; what is held is where each one stands. Items with equal keys are counted: two stored
    results serve two of them.

    Args:
        path: The file; made if it is not there.

    Raises:
        CheckpointError: If the file is something else, is damaged, or is open elsewhere. It is left as it is.
        OSError: If it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._stored: dict[bytes, deque[tuple[int, int]]] = {}
        is_new = not self._path.exists()
        self._file: FileIO = self._path.open("a+b", buffering=0)
        try:
            self._lock()
            self._end = self._read()
            if self._end == 0:
                self._append(_line({"format": FORMAT, "version": VERSION}))
            if is_new:
                _sync_folder(self._path.parent)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return sum(map(len, self._stored.values()))

    def take(self, key: str) -> tuple[bool, Any]:
        """The stored result of an item with this key, which serves no other item of this run.

        Returns:
            Whether there is one, and the result.
        """
        places = self._stored.get(_digest(key))
        if not places:
            return False, None
        offset, length = places.popleft()
        self._file.seek(offset)
        return True, json.loads(self._file.read(length))["result"]

    def add(self, key: str, item: str, result: Any) -> Any:
        """Store the result of an item.

        Args:
            key: Its key, as `canonical` gives it.
            item: What the item is called in errors.
            result: Anything that JSON can hold.

        Returns:
            The result as the next run will read it: a tuple has become a list.

        Raises:
            TypeError: If JSON cannot hold the result.
            OSError: If it cannot be written. The file is as it was.
        """
        try:
            text = json.dumps(result)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"the result of {item}, a {type(result).__name__}, cannot be stored in the checkpoint {self._path}: "
                f"{error}. Return what JSON can hold, such as a dict of strings and numbers"
            ) from error
        self._append(f'{{"key": {key}, "result": {text}}}\n'.encode())
        return json.loads(text)

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def _lock(self) -> None:
        if sys.platform == "win32":  # there nothing keeps two writers apart
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"the checkpoint {self._path} is in use by another batch: wait for its end, or give each its own file"
            ) from error

    def _append(self, line: bytes) -> None:
        try:
            written = self._file.write(line)
            while written < len(line):  # a signal, or little room on the disk
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    def _read(self) -> int:
        """Note where each result stands, and cut off what a crash has torn.

        Returns:
            Where the last whole line ends. [bytes]
        """
        header = _line({"format": FORMAT, "version": VERSION})
        end = 0
        with self._path.open("rb") as lines:
            first = lines.readline(len(header) + 1)
            if first != header:
                if not (header.startswith(first) and not lines.read(1)):
                    raise CheckpointError(self._not_ours(first))
                return self._cut(0, first)
            end = len(header)
            for number, line in enumerate(lines, 2):
                digest = _digest_of(line)
                if digest is None:
                    if lines.read(1):
                        raise CheckpointError(
                            f"line {number} of the checkpoint {self._path} is damaged, and others follow it: mend or "
                            "remove that line, its item will run again"
                        )
                    return self._cut(end, line)
                self._stored.setdefault(digest, deque()).append((end, len(line)))
                end += len(line)
        return end

    def _cut(self, end: int, torn: bytes) -> int:
        if torn:
            log.warning("the last line of the checkpoint %s was torn by a crash: its item runs again", self._path)
            self._file.truncate(end)
        return end

    def _not_ours(self, first: bytes) -> str:
        try:
            header = json.loads(first)
        except ValueError:
            header = None
        if isinstance(header, dict) and header.get("format") == FORMAT:
            return (
                f"the checkpoint {self._path} has version {header.get('version')!r}, and this is version {VERSION}: "
                "use the release of concur-agents that wrote it, or another file"
            )
        return f"{self._path} is no checkpoint of concur-agents: its first line is another. Give another path"


def canonical(value: object, item: str) -> str:
    """A key as JSON that is the same for equal values.

    Args:
        value: What tells the item from others.
        item: What the item is called in errors.

    Raises:
        TypeError: If JSON cannot hold it.
    """
    try:
        return _sorted(json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{item} cannot be told from others in a checkpoint: a {type(value).__name__} is not JSON ({error}). "
            "Give key=, such as key=lambda task: task.id"
        ) from error


def _digest(key: str) -> bytes:
    # Keys are as large as the items: whole tasks. What is held of each has one size.
    return hashlib.sha256(key.encode()).digest()


def _digest_of(line: bytes) -> bytes | None:
    """Which key a line is about; None if the line is damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.keys() != {"key", "result"}:
        return None
    return _digest(_sorted(entry["key"]))


def _sorted(value: object) -> str:
    """JSON that is the same for equal values, where `value` is what JSON gave back: a number as a key is a string."""
    return json.dumps(value, sort_keys=True)


def _line(entry: object) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    """Force a new file's name to the disk."""
    if sys.platform == "win32":  # it cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
