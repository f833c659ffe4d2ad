"""Every limit and tuning knob, with the reason for its value. Sizes are bytes, times seconds.

``Limits`` affect behaviour and hold for every store; ``FileStoreOptions`` affect
performance, space and durability of the file store only.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    body_size_max: int = 64 * MIB  # one append; it must fit into one file of the log
    path_size_max: int = 4 * KIB  # UTF-8 bytes of a path
    content_type_size_max: int = 1 * KIB
    producer_id_size_max: int = 1 * KIB
    seq_size_max: int = 1 * KIB
    fork_depth_max: int = 64  # a read walks the chain of forks
    json_depth_max: int = 128  # nesting that every client's parser takes
    # What is kept of streams whose creator does not say; None: everything. Read when a stream is
    # created: those that are there keep what they were created with.
    retention_seconds: int | None = None
    retention_bytes: int | None = None


# One chunk of an answer is at most this, or one message. Part of the format of offsets: in an
# append longer than a chunk, each multiple of it counted from the append's start is an offset
# that readers may have been given, so it cannot be an option.
READ_SIZE_MAX = 4 * MIB


@dataclass(frozen=True, slots=True)
class FileStoreOptions:
    wal_file_size: int = 65 * MIB  # body_size_max and its frame fit into one
    wal_size_max: int = 256 * MIB  # bounds recovery and disk use
    slab_size: int = 1 * MIB  # staging memory is taken in these
    flush_size: int = 16 * MIB  # staged bytes that start a flush: bounds recovery time
    flush_age: float = 600.0  # the oldest unflushed record is at most about so old
    backlog_size_max: int = 128 * MIB  # staged and unflushed bytes, beyond: StoreBusy
    # Flushed bytes that slow readers hold in memory. Beyond, what is not flushed yet is read in
    # copies of 64 KiB, and what does not fit into one waits for a flush: StoreBusy.
    pinned_size_max: int = 64 * MIB
    idle_watermark_delay: float = 0.02  # quiet time after which a watermark frame proves the last
    streams_cached_max: int = 131_072  # rows kept in memory though unused: some 1 KiB each
    sweep_interval: float = 1.0  # how often expiry is looked for
    lmdb_map_size: int = 64 * 1024 * MIB  # address space, not disk
    reserve_size: int = 64 * MIB  # given up when the disk is full
    segment_count_max: int = 12  # segments that a look-up probes; beyond, some are merged
    dead_share_max: float = 0.3  # of the segments' bytes; beyond, segments are rewritten
    scrub_rate: int = 16 * MIB  # bytes a second, a tenth of what a slow disk reads; 0: off
    scrub_interval: float = 7 * 86_400.0  # from start to start: rot is known in a week; 0: off
