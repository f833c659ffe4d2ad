from array import array
from collections.abc import Callable
from os import PathLike
from typing import Self, TypeAlias, final

from .disk import Disk
from .record import RecordBatch
from .tail import Tail
from .wal_types import Checkpoint, Recovery

# (lsn, kind, flags, stream_id, base, meta, data_size, damaged) -> where the data belongs
_Sink: TypeAlias = Callable[[int, int, int, int, int, bytes, int, bool], Tail | None]

@final
class Log:
    """The write-ahead log of one store, in ``directory``, which must exist.

    Sizes are bytes, LSNs count from 1. Methods are safe to call from any thread; ``run``
    belongs to one thread, ``prepare_spare_step`` to another, and ``release`` to a third.

    Args:
        file_size: of new files; a multiple of 4096, below 4 GiB.
        wal_size_max: bytes in files above which records are refused until a flush.
        slab_size: memory is taken in these.
        backlog_size_max: staged and unflushed bytes above which records are refused.
        idle_watermark_delay: seconds of quiet after which the last frame is proven.

    Raises: ValueError for sizes that do not fit each other.
    """

    def __new__(
        cls,
        disk: Disk,
        directory: str | PathLike[str],
        store_id: bytes,
        *,
        file_size: int,
        wal_size_max: int,
        slab_size: int,
        backlog_size_max: int,
        idle_watermark_delay: float,
    ) -> Self: ...
    @property
    def directory(self) -> str: ...
    @property
    def record_size_max(self) -> int:
        """The largest record, headers and padding included; see ``record_size``."""

    @staticmethod
    def record_size(meta_size: int, data_size: int, message_count: int = 1) -> int: ...
    def recover(
        self,
        checkpoint: Checkpoint | None,
        sink: _Sink,
        objection: Callable[[], tuple[int, str] | None] | None = None,
    ) -> Recovery:
        """Replay what lies behind ``checkpoint`` (None: all) and open the log. Comes once.

        ``sink`` gets every record in LSN order and returns the tail that its data belongs to,
        or None. A damaged record comes with ``damaged`` True and no meta: its header is right,
        so the damage is its stream's alone, and later data of that stream no longer joins on:
        the sink must return None for it. With ``Recovery.damage`` nothing was changed on disk, and
        the log stays closed (``failure`` is set). An exception of ``sink`` ends the recovery
        before anything was changed, and the log stays closed. ``objection`` is asked behind the
        last record: an LSN, and what makes damage to it damage to the log.

        Raises: OSError; ValueError for a checkpoint that is none.
        """

    @property
    def next_lsn(self) -> int: ...
    @property
    def staged_lsn(self) -> int: ...
    @property
    def durable_lsn(self) -> int: ...
    def stage(
        self,
        kind: int,
        stream_id: int,
        base: int,
        meta: bytes,
        data: bytes | bytearray | memoryview | None = None,
        message_sizes: array[int] | memoryview | None = None,
        tail: Tail | None = None,
    ) -> int:
        """Copy a record into the log's memory, add its data to ``tail``; returns its LSN.

        It is durable once ``durable_lsn`` has reached the LSN. ``message_sizes`` are unsigned
        32-bit integers; None means one message. Nothing changes if an error is raised.

        Raises: LogFull, LogFailed, RecordTooLarge, ValueError (sizes that are not the data's,
        a base that is not the tail's end, a log that is not open).
        """

    def wait(self, lsn: int, timeout: float | None = None) -> bool:
        """Block, without the GIL, until ``lsn`` is durable; False after ``timeout`` seconds.

        Raises: LogFailed; ValueError if the log is closed meanwhile. A signal handler may
        raise, too; the record stays staged.
        """

    def commit_step(self, *, idle: bool = False) -> bool:
        """Commit what has gathered; or, if ``idle`` and due, prove the last frame.

        For stores without a thread in ``run``. False if nothing was done. Whether it went
        well, ``durable_lsn``, ``failure`` and ``stall`` tell.
        """

    def run(self) -> None:
        """Commit, without the GIL, until ``stop`` or until the log fails."""

    def stop(self) -> None:
        """Let ``run`` commit and prove what is staged, and return."""

    @property
    def failure(self) -> tuple[int, str] | None:
        """(errno, what failed) once nothing more is acknowledged (I7)."""

    @property
    def stall(self) -> int:
        """The errno of what the next file lacks (space, descriptors), or 0.

        What is staged waits, nothing more is taken (LogFull), and both go on by themselves.
        """

    def add_wake_fd(self, fd: int) -> None:
        """Write 8 bytes to a non-blocking eventfd or pipe after a commit, failure or stall."""

    def remove_wake_fd(self, fd: int) -> None:
        """Stop that; when this returns, ``fd`` may be closed."""

    def durable_point(self) -> Checkpoint:
        """The place right behind the last durable frame."""

    def collect(self, after_lsn: int, upto_lsn: int) -> RecordBatch:
        """The records in ``(after_lsn, upto_lsn]`` that were not released, without copying."""

    def release(self, checkpoint: Checkpoint) -> None:
        """Forget memory and files wholly before a checkpoint that is durable elsewhere.

        Raises: OSError if a file could not be removed; the next recovery removes it.
        """

    def prepare_spare_step(self) -> bool:
        """Fill the next MiB of the spare file with zeroes and sync it; True while more is to do.

        Raises: OSError, ENOSPC above all: while the present file lasts, that is no failure.
        """

    def discard_unfinished_spare(self) -> bool:
        """Free the space of a spare that is not whole; False if there is none. Raises: OSError."""

    @property
    def unflushed_size(self) -> int:
        """Bytes staged and not released, by whole slabs."""

    @property
    def pinned_size(self) -> int:
        """Bytes of slabs that were released, and that a reader still holds."""

    @property
    def wal_size(self) -> int:
        """Bytes written to the files in use."""

    @property
    def file_count(self) -> int:
        """Files in use, the spare not counted."""

    @property
    def commits(self) -> int: ...
    @property
    def syncs(self) -> int: ...
    def fill_spare_slice(self) -> bool: ...
    def close(self) -> None:
        """Close the file. What was staged and not committed is lost; ``stop`` comes first."""
