"""What a file holds, what of it is durable, and what a crash may leave of the rest.

Bytes that were synced stay, as long as no page they lie in is written again. What was not synced
may survive a crash in any part and in any order, or as something that nobody wrote. Nothing here
may be kinder than that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

SECTOR_SIZE = 512  # bytes: what an old disk writes whole or not at all
PAGE_SIZE = 4096  # the same of a new one, and of the page cache

# What becomes of a write: besides the obvious, "grown" is the size without the data, "zeroed" and
# "scribbled" replace some of its pages by what nobody wrote, synced neighbours included.
FATES = ["kept", "lost", "torn", "grown", "zeroed", "scribbled"]


@dataclass
class Write:
    position: int
    data: bytes

    @property
    def end(self) -> int:
        return self.position + len(self.data)


@dataclass
class Resize:
    size: int
    shrinks: bool = False


@dataclass(eq=False)
class Inode:
    durable: bytearray = field(default_factory=bytearray)
    current: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Resize] = field(default_factory=list)

    def apply(self, change: Write | Resize) -> None:
        if isinstance(change, Resize):
            change.shrinks = change.size < len(self.current)
        self.unsynced.append(change)
        apply_to(self.current, change)

    def sync(self) -> None:
        # Not a copy of ``current``: that may hold what an earlier failed sync has lost.
        for change in self.unsynced:
            apply_to(self.durable, change)
        self.unsynced.clear()

    def after_crash(self, rng: random.Random) -> Inode:
        content = bytearray(self.durable)
        for change in any_order(self.unsynced, rng):
            survive(content, change, rng)
        return Inode(bytearray(content), content)


def apply_to(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.end - len(content))))
    content[change.position : change.end] = change.data


def any_order(changes: list[Write | Resize], rng: random.Random) -> Iterator[Write | Resize]:
    """The changes reordered, but for what was cut off: no earlier write brings that back."""
    group: list[Write | Resize] = []
    for change in changes:
        if isinstance(change, Resize) and change.shrinks:
            yield from rng.sample(group, len(group))
            yield change
            group = []
        else:
            group.append(change)
    yield from rng.sample(group, len(group))


def survive(content: bytearray, change: Write | Resize, rng: random.Random) -> None:
    """Apply what a crash leaves of one change."""
    fate = rng.choice(FATES)
    if isinstance(change, Resize):
        if fate not in ("lost", "torn") and (change.shrinks or change.size > len(content)):
            apply_to(content, change)
    elif fate == "kept":
        apply_to(content, change)
    elif fate == "grown":  # the size was journalled, the data was not written
        content.extend(bytes(max(0, change.end - len(content))))
    elif fate != "lost":
        size = rng.choice([SECTOR_SIZE, PAGE_SIZE])
        for part in parts(change, size):
            if rng.random() < 0.5:
                apply_to(content, part if fate == "torn" else ruin(content, part, size, fate, rng))


def ruin(content: bytearray, part: Write, size: int, fate: str, rng: random.Random) -> Write:
    """The whole page, or sector, that a part lies in, as far as the file reaches then."""
    start = part.position - part.position % size
    stop = min(start + size, max(part.end, len(content)))
    return Write(start, bytes(stop - start) if fate == "zeroed" else rng.randbytes(stop - start))


def parts(write: Write, size: int) -> Iterator[Write]:
    """A write cut at the multiples of ``size``."""
    position = write.position
    while position < write.end:
        stop = min(write.end, position - position % size + size)
        yield Write(position, write.data[position - write.position : stop - write.position])
        position = stop
