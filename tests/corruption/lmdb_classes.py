"""Which bytes of an LMDB file mean what: its pages walked as docs/format-metadata.md says.

Only for files that are whole. Every byte that this does not name is one that nothing reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from durastream.engine.metadata import PathRow

PAGE = 4096
BRANCH, LEAF, OVERFLOW = 1, 2, 4
BIG = 1
NOTHING = 2**64 - 1
HEADER, NODE = 16, 8
META_FIELDS = [  # of the 136 bytes behind a meta page's header
    ("head", 16), ("map size", 8), ("page size", 4), ("head", 2), ("free tree", 42), ("head", 6),
    ("main tree", 42), ("last page", 8), ("transaction", 8),
]  # fmt: skip


class Piece(NamedTuple):
    """Bytes [start, end) of the file, of one class; ``stream_id`` is the only one they concern."""

    name: str
    start: int
    end: int
    stream_id: int | None = None


class Tree(NamedTuple):
    name: str
    root: int


class LmdbFile:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.pieces: list[Piece] = []
        self.live = {0, 1}
        transactions = [self._u64(page * PAGE + HEADER + 128) for page in (0, 1)]
        self.newer = transactions.index(max(transactions))

    def classify(self) -> list[Piece]:
        self._metas()
        top = self.newer * PAGE + HEADER
        self._tree(Tree("free", self._u64(top + 24 + 40)))
        tables = list(self._tree(Tree("tables", self._u64(top + 72 + 40))))
        for table in tables:
            self._tree(table)
        last_page = self._u64(top + 120)
        for number in range(last_page + 1):
            if number not in self.live:
                self._add("free page", number * PAGE, (number + 1) * PAGE)
        return self.pieces

    def _u16(self, at: int) -> int:
        return int(struct.unpack_from("<H", self.content, at)[0])

    def _u64(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self.content, at)[0])

    def _add(self, name: str, start: int, end: int, stream_id: int | None = None) -> None:
        if start < end <= len(self.content):
            self.pieces.append(Piece(f"lmdb {name}", start, end, stream_id))

    def _metas(self) -> None:
        for page in (0, 1):
            which = "newer meta" if page == self.newer else "older meta"
            at = page * PAGE
            self._add(f"{which}: head", at, at + 8)
            self._add("pad of a page", at + 8, at + 10)
            self._add(f"{which}: head", at + 10, at + 12)
            at += HEADER
            for name, size in META_FIELDS:
                self._add(f"{which}: {name}", at, at + size)
                at += size
            self._add("meta page: rest", at, (page + 1) * PAGE)

    def _tree(self, tree: Tree) -> list[Tree]:
        return list(self._page(tree, tree.root)) if tree.root != NOTHING else []

    def _page(self, tree: Tree, number: int) -> Iterator[Tree]:
        at = number * PAGE
        self.live.add(number)
        flags, lower, upper = self._u16(at + 10), self._u16(at + 12), self._u16(at + 14)
        kind = "branch" if flags == BRANCH else "leaf"
        assert flags in (BRANCH, LEAF)
        self._add(f"{kind}: page number", at, at + 8)
        self._add("pad of a page", at + 8, at + 10)
        self._add(f"{kind}: flags and bounds", at + 10, at + HEADER)
        self._add(f"{kind}: pointers", at + HEADER, at + lower)
        self._add("page: room", at + lower, at + upper)
        for index in range((lower - HEADER) // 2):
            node = at + self._u16(at + HEADER + 2 * index)
            if flags == BRANCH:
                yield from self._branch_node(tree, node, index)
            else:
                yield from self._leaf_node(tree, node)

    def _branch_node(self, tree: Tree, node: int, index: int) -> Iterator[Tree]:
        key_size = self._u16(node + 6)
        name = "branch: key" if index else "branch: first key"
        self._add("branch: child", node, node + 6)
        self._add("branch: key size", node + 6, node + NODE)
        self._add(name, node + NODE, node + NODE + key_size)
        self._add("node: pad", node + NODE + key_size, node + (NODE + key_size + 1 & ~1))
        yield from self._page(tree, self._u64(node) & (1 << 48) - 1)

    def _leaf_node(self, tree: Tree, node: int) -> Iterator[Tree]:
        size = self._u16(node) | self._u16(node + 2) << 16
        flags, key_size = self._u16(node + 4), self._u16(node + 6)
        value = node + NODE + key_size
        stored = 8 if flags == BIG else size
        self._add("leaf: node header", node, node + NODE)
        self._add(f"{tree.name}: key", node + NODE, value)
        self._add("node: pad", value + stored, node + (value - node + stored + 1 & ~1))
        key = self.content[node + NODE : value]
        if flags == BIG:
            self._add("leaf: first page of a value", value, value + 8)
            value = self._overflow(self._u64(value), size)
        if tree.name == "tables":
            self._add("tables: description", value, value + size)
            yield Tree(key.decode(), self._u64(value + 40))
        elif tree.name == "free":
            self._add("free: list", value, value + 8 * (1 + self._u64(value)))
            self._add("free: room", value + 8 * (1 + self._u64(value)), value + size)
        else:
            self._row(tree.name, key, value, size)

    def _overflow(self, number: int, size: int) -> int:
        at = number * PAGE
        count = self._u64(at + 8) >> 32
        self.live |= set(range(number, number + count))
        self._add("value's page: number", at, at + 8)
        self._add("pad of a page", at + 8, at + 10)
        self._add("value's page: flags and count", at + 10, at + HEADER)
        self._add("value's page: room", at + HEADER + size, at + count * PAGE)
        return at + HEADER

    def _row(self, table: str, key: bytes, value: int, size: int) -> None:
        stream_id = None
        if table in ("streams", "producers"):
            stream_id = int.from_bytes(key[:8], "big")
        elif table == "paths":
            raw = self.content[value : value + size - 8]
            stream_id = msgspec.msgpack.decode(raw, type=PathRow).stream_id
        elif table == "deadlines":
            stream_id = int.from_bytes(key[8:], "big")
        self._add(f"{table}: value", value, value + size - 8, stream_id)
        self._add(f"{table}: checksum", value + size - 8, value + size, stream_id)
