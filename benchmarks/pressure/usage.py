"""What a process holds: memory of its own apart from mapped files, descriptors, mappings.

Pages of mapped files are the kernel's to take back at any time, so they are no part of a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

KIB, MIB = 1024, 1024 * 1024
PERIOD = 0.02  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes in bytes."""

    anonymous: int  # RssAnon: heap, stacks, slabs
    mapped: int  # RssFile and RssShmem: code and mapped files
    descriptors: int
    mappings: int

    @classmethod
    def of(cls, pid: int) -> Self:
        fields = dict(_fields(Path(f"/proc/{pid}/status")))
        return cls(
            anonymous=_size(fields["RssAnon"]),
            mapped=_size(fields["RssFile"]) + _size(fields["RssShmem"]),
            descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            mappings=Path(f"/proc/{pid}/maps").read_text().count("\n"),
        )


def anonymous(pid: int) -> int:
    """Bytes."""
    return _size(dict(_fields(Path(f"/proc/{pid}/status")))["RssAnon"])


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        yield name, value


def _size(value: str) -> int:
    return int(value.split()[0]) * KIB


class Watch:
    """The largest ``anonymous`` memory of a process while the context lasts."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = anonymous(pid)

    def _look(self) -> None:
        while not self._done.wait(PERIOD):
            try:
                self.peak = max(self.peak, anonymous(self._pid))
            except (OSError, KeyError):  # it ended
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
