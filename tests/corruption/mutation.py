"""Damage a file as disks and mistakes do: flipped bits, zeroes, noise, sectors lost or moved."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .classes import ByteClass, Place
from .specimen import Files

SECTORS = (512, 4096)
RUN_MAX = 64


@dataclass(frozen=True)
class Damage:
    """What was done to one file. ``places`` are those of the class that it lies in."""

    file: str
    start: int
    end: int
    what: str
    stream_id: int | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.file}, bytes {self.start} to {self.end}"


def damage(files: Files, byte_class: ByteClass, rng: random.Random) -> tuple[Files, Damage]:
    """The files with one place of the class changed."""
    while True:
        place = rng.choices(byte_class.places, [p.end - p.start for p in byte_class.places])[0]
        content = files[place.file]
        if byte_class.name.endswith("sectors"):
            changed, done = _sector(content, place, rng)
        else:
            changed, done = _run(content, place, rng)
        if changed != content:
            return {**files, place.file: changed}, done


def _run(content: bytes, place: Place, rng: random.Random) -> tuple[bytes, Damage]:
    raw = bytearray(content)
    start = rng.randrange(place.start, place.end)
    what = rng.choice(["flip", "flip", "flip", "zeroes", "noise"])
    end = start + 1
    if what == "flip":
        raw[start] ^= 1 << rng.randrange(8)
    else:
        if rng.random() < 0.3:
            start = place.start
        end = min(place.end, start + rng.choice([1, 4, 8, RUN_MAX]))
        raw[start:end] = bytes(end - start) if what == "zeroes" else rng.randbytes(end - start)
    return bytes(raw), Damage(place.file, start, end, what, place.stream_id)


def _sector(content: bytes, place: Place, rng: random.Random) -> tuple[bytes, Damage]:
    raw = bytearray(content)
    size = rng.choice(SECTORS)
    start = size * rng.randrange(-(-len(raw) // size))
    end = min(len(raw), start + size)
    what = rng.choice(["zeroed", "noise", "swapped"])
    if what == "swapped":
        other = size * rng.randrange(len(raw) // size)
        if other + size > len(raw) or end - start < size:
            return content, Damage(place.file, start, end, what)
        raw[start:end], raw[other : other + size] = raw[other : other + size], raw[start:end]
        what = f"swapped with the sector at {other}"
    else:
        raw[start:end] = bytes(end - start) if what == "zeroed" else rng.randbytes(end - start)
    return bytes(raw), Damage(place.file, start, end, f"sector of {size} {what}")
