"""The baseline: a durable store of streams in plain Python, and nothing more.

What one writes first: a file per stream, each message behind its length, an fsync before each
acknowledgement. Create, append, read; no recovery, no producers, no forks. It must stay simple
and honest: it syncs what it acknowledges, and it does no work that the task does not ask for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

LENGTH = struct.Struct("<I")


class PureFileStore:
    """Streams by name in ``directory``. An offset is a position in the stream's file, bytes."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, int] = {}

    def create(self, name: str) -> None:
        """Raises: FileExistsError."""
        path = self._directory / name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        directory = os.open(self._directory, os.O_RDONLY)
        os.fsync(file)
        os.fsync(directory)  # the name, too
        os.close(directory)
        self._files[name] = file

    def append(self, name: str, message: bytes) -> None:
        """Durable when it returns. Raises: KeyError."""
        self.append_batch(name, [message])

    def append_batch(self, name: str, messages: Iterable[bytes]) -> None:
        """All durable when it returns, with one fsync. Raises: KeyError."""
        file = self._files[name]
        frames = b"".join([LENGTH.pack(len(message)) + message for message in messages])
        written = os.write(file, frames)
        if written != len(frames):
            raise OSError(f"{name}: only {written} of {len(frames)} bytes were written")
        os.fsync(file)

    def read(self, name: str, offset: int = 0, count: int | None = None) -> list[bytes]:
        """The messages from ``offset`` on, at most ``count``. Raises: KeyError."""
        file = self._files[name]
        messages: list[bytes] = []
        while count is None or len(messages) < count:
            length = os.pread(file, LENGTH.size, offset)
            if not length:
                break
            (size,) = LENGTH.unpack(length)
            messages.append(os.pread(file, size, offset + LENGTH.size))
            offset += LENGTH.size + size
        return messages

    def read_all(self, name: str) -> list[bytes]:
        """Every message, with the whole file read at once. Raises: KeyError."""
        file = self._files[name]
        content = os.pread(file, os.fstat(file).st_size, 0)
        messages, at = [], 0
        while at < len(content):
            (size,) = LENGTH.unpack_from(content, at)
            at += LENGTH.size
            messages.append(content[at : at + size])
            at += size
        return messages

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
