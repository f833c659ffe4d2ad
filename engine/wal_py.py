"""Readable twin of the log's reader: one file, frame by frame, judged by its bytes alone.

Source: docs/format-wal.md. For tests, tools and whoever wants to understand the format. It
reads one file and does not follow the chain; recovery is ``_native/recovery.pyx``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .._native.checksum import xxh64

PAGE_SIZE = 4096
FILE_MAGIC = b"DSTRMWAL"
FRAME_MAGIC = b"DSFM"
VERSION = 1
FILE_HEADER = struct.Struct("<8sIHH16s12Q")
FRAME_HEADER = struct.Struct("<4sHHQQQIIQQQ")
RECORD_HEADER = struct.Struct("<QQQQIIIIBBHIQ")
FLAG_SIZES = 1


class WalError(ValueError):
    """Bytes that are not what this format allows; the message says which and where."""


class FileHeader(NamedTuple):
    magic: bytes
    version: int
    kind: int  # 1: roll, 2: recovery
    flags: int  # 1: filled
    store_id: bytes
    sequence: int
    incarnation: int
    size: int
    predecessor_sequence: int
    predecessor_incarnation: int
    predecessor_cut: int
    base_lsn: int
    first_lsn: int
    kept_lsn: int
    kept_end: int
    resume_lsn: int
    checksum: int


class FrameHeader(NamedTuple):
    magic: bytes
    version: int
    flags: int  # 1: LINK, 2: WATERMARK
    incarnation: int
    first_lsn: int
    watermark: int
    size: int
    record_count: int
    successor_sequence: int
    successor_incarnation: int
    checksum: int


class RecordHeader(NamedTuple):
    header_checksum: int
    lsn: int
    stream_id: int
    base: int
    size: int
    data_size: int
    meta_size: int
    message_count: int
    kind: int
    flags: int
    reserved: int
    reserved2: int
    body_checksum: int


class Record(NamedTuple):
    header: RecordHeader
    message_sizes: tuple[int, ...]
    meta: bytes
    data: bytes


class Frame(NamedTuple):
    position: int
    header: FrameHeader
    records: list[Record]


def read_file_header(page: bytes) -> FileHeader:
    if len(page) < FILE_HEADER.size:
        raise WalError("file header: the file is too short")
    header = FileHeader._make(FILE_HEADER.unpack_from(page))
    if header.magic != FILE_MAGIC or header.version != VERSION:
        raise WalError("not a file of the log, or of another version")
    if header.checksum != xxh64(page[:120]):
        raise WalError("file header: checksum mismatch")
    return header


def read_frame(content: bytes, position: int, header: FileHeader) -> Frame:
    """The frame at ``position``; WalError if there is none, or a damaged one."""
    if position + FRAME_HEADER.size > len(content):
        raise WalError(f"no frame at {position}: the file ends")
    raw = content[position : position + FRAME_HEADER.size]
    frame = FrameHeader._make(FRAME_HEADER.unpack(raw))
    if frame.magic != FRAME_MAGIC or frame.incarnation != header.incarnation:
        raise WalError(f"no frame of this file at {position}")
    if frame.checksum != xxh64(raw[:56], position):
        raise WalError(f"frame at {position}: checksum mismatch")
    start = position + FRAME_HEADER.size
    records = list(read_records(content[start : start + frame.size], frame))
    return Frame(position, frame, records)


def read_records(content: bytes, frame: FrameHeader) -> Iterator[Record]:
    position = 0
    for lsn in range(frame.first_lsn, frame.first_lsn + frame.record_count):
        if position + RECORD_HEADER.size > len(content):
            raise WalError(f"record {lsn}: the frame ends before it")
        header = RecordHeader._make(RECORD_HEADER.unpack_from(content, position))
        raw = content[position : position + header.size]
        if header.header_checksum != xxh64(raw[8:64]) or header.lsn != lsn:
            raise WalError(f"record {lsn}: header checksum mismatch")
        if header.body_checksum != xxh64(raw[64:]):
            raise WalError(f"record {lsn}: body checksum mismatch")
        if header.size != parts_size(header):
            raise WalError(f"record {lsn}: sizes of its parts do not add up")
        yield read_record(raw, header)
        position += header.size
    if position != frame.size:
        raise WalError(f"frame of LSN {frame.first_lsn}: sizes of its records do not add up")


def parts_size(header: RecordHeader) -> int:
    """The size that a record has by the sizes of its parts."""
    sizes = padded(4 * header.message_count) if header.flags & FLAG_SIZES else 0
    return RECORD_HEADER.size + sizes + padded(header.meta_size) + padded(header.data_size)


def read_record(raw: bytes, header: RecordHeader) -> Record:
    cursor, sizes = RECORD_HEADER.size, (header.data_size,) * bool(header.message_count)
    if header.flags & FLAG_SIZES:
        sizes = struct.unpack_from(f"<{header.message_count}I", raw, cursor)
        cursor += padded(4 * header.message_count)
    meta = raw[cursor : cursor + header.meta_size]
    cursor += padded(header.meta_size)
    return Record(header, sizes, meta, raw[cursor : cursor + header.data_size])


def read_frames(content: bytes) -> tuple[FileHeader, list[Frame]]:
    """The header of a file and its frames up to the first place where there is none."""
    header = read_file_header(content[:PAGE_SIZE])
    frames: list[Frame] = []
    position = PAGE_SIZE
    while True:
        try:
            frame = read_frame(content, position, header)
        except WalError:
            return header, frames
        frames.append(frame)
        position += -(-(FRAME_HEADER.size + frame.header.size) // PAGE_SIZE) * PAGE_SIZE


def padded(size: int) -> int:
    return -(-size // 8) * 8
