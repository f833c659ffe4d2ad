"""Walk the log from a checkpoint to its end, across files, and tell torn from damaged.

Source: docs/format-wal.md, "Recovery". The walk only reads: it must never change anything on
disk, since with damage nothing may be changed (I6). One frame is in flight at a time, so any
valid sign of later life (a frame, a file that continues this one) proves that a bad place was
durable once.
"""
cimport cython

import re

from .wal_format cimport (
    FILE_KIND_RECOVERY,
    FRAME_FLAG_LINK,
    FRAME_HEADER_SIZE,
    WAL_PAGE_SIZE,
    FrameHeader,
    frame_span,
)
from .wal_reader cimport (
    FRAME_BODY_BAD,
    FRAME_GOOD,
    FRAME_HEADER_BAD,
    FrameVerdict,
    WalFile,
)

from .wal_types import Damage, Torn

FILE_NAME = re.compile(r"(\d{20})\.wal")


@cython.final
cdef class WalWalk:
    def __cinit__(self, Disk disk not None, str directory not None, bytes store_id not None):
        self.disk = disk
        self.directory = directory
        self.store_id = store_id
        self.files = {}
        self.chain, self.torn, self.damage, self.harmless = [], [], [], []
        self.file = self.cut_file = None
        self.expected_lsn = 1
        for name in disk.list_directory(directory):
            if match := FILE_NAME.fullmatch(name):
                sequence = int(match[1])
                self.files[sequence] = WalFile.examine(
                    disk, f"{directory}/{name}", sequence, store_id
                )

    # -- where to start -------------------------------------------------------------------

    def begin(self, checkpoint):
        """Find the start. A recovery file that contains all behind the checkpoint is one."""
        lsn, sequence, position = checkpoint or (0, 0, 0)
        self.last_lsn = self.base_lsn = lsn
        cdef WalFile file = self.standalone(sequence, lsn)
        if file is not None:
            self.last_lsn = self.base_lsn = file.header.base_lsn
            self.enter(file)
        elif checkpoint is not None:
            self.resume(sequence, position)
        elif self.files:
            file = self.files[min(self.files)]
            self.damage.append(Damage(
                file.path, 0, 1, 0, file.problem or "the log does not start with this file"
            ))

    def standalone(self, sequence_above, lsn):
        """The newest recovery file above a sequence that needs no predecessor for its records."""
        found = [
            file
            for file in self.files.values()
            if file.problem is None
            and file.kind == FILE_KIND_RECOVERY
            and file.sequence > sequence_above
            and file.base_lsn <= lsn
        ]
        return max(found, key=lambda file: file.sequence, default=None)

    def resume(self, uint64_t sequence, uint64_t position):
        """Start at a checkpoint's frame boundary."""
        cdef WalFile file = self.files.get(sequence)
        if file is None or file.problem is not None:
            path = f"{self.directory}/{sequence:020d}.wal"
            what = "the checkpoint's file is missing" if file is None else file.problem
            self.damage.append(Damage(path, position, self.last_lsn + 1, 0, what))
            return
        if position % WAL_PAGE_SIZE or not file.header.kept_end <= position <= file.header.size:
            raise ValueError(f"{file.path}: no frame can start at position {position}")
        self.stand_in(file)
        if not file.reaches(position):
            self.damage.append(Damage(
                file.path, position, self.last_lsn + 1, 0,
                "the file is older than the checkpoint, which it does not reach",
            ))
        self.position = position
        self.expected_lsn = max(self.last_lsn + 1, file.header.resume_lsn)
        self.mark_proven()

    # -- frame by frame -------------------------------------------------------------------

    cdef bint advance(self) except -1:
        """Go to the next frame with records: ``records``, whose first LSN was expected."""
        cdef FrameVerdict verdict
        cdef WalFile next_file
        cdef uint64_t lsn_max
        cdef const FrameHeader *header
        while self.file is not None and not self.damage:
            next_file = self.replacement()
            if next_file is not None:
                self.enter(next_file)
                continue
            # Kept frames may leave LSNs out; their file vouches for them as a whole.
            lsn_max = self.expected_lsn
            if self.position < self.file.header.kept_end:
                lsn_max = self.file.header.kept_lsn
            with nogil:
                verdict = self.file.check_frame(self.position, self.expected_lsn, lsn_max)
            header = self.file.frame(self.position)
            if verdict == FRAME_BODY_BAD and not self.proven_later(
                self.position + frame_span(header.size), header.first_lsn
            ):
                verdict = FRAME_HEADER_BAD      # never acknowledged: torn like any other
            if verdict != FRAME_GOOD and verdict != FRAME_BODY_BAD:
                if not self.look_ahead():
                    break
                continue
            self.body_bad = verdict == FRAME_BODY_BAD
            self.accept()
            if header.flags & FRAME_FLAG_LINK:
                self.follow_link(header)
            elif header.record_count > 0:
                return True
        self.leave()
        return False

    cdef void accept(self) noexcept:
        """Move behind the frame, which is good enough."""
        cdef const FrameHeader *header = self.file.frame(self.position)
        cdef bint kept = self.position < self.file.header.kept_end
        if header.watermark >= self.last_lsn:
            self.mark_proven()                  # all before this frame
        self.records = <const uint8_t *>header + FRAME_HEADER_SIZE
        self.records_size = header.size
        self.position += frame_span(header.size)
        if header.record_count > 0:
            self.last_lsn = header.first_lsn + header.record_count - 1
            self.expected_lsn = self.last_lsn + 1
        if kept and self.position >= self.file.header.kept_end:
            self.expected_lsn = self.file.header.resume_lsn
        if kept or header.record_count == 0 and self.base_lsn == self.last_lsn:
            self.mark_proven()                  # and this frame, too

    cdef void mark_proven(self) noexcept:
        self.base_lsn = self.last_lsn
        self.cut_file = self.file
        self.cut_position = self.position

    # -- file by file ---------------------------------------------------------------------

    cdef int enter(self, WalFile file) except -1:
        """Go on at the start of ``file``, which proves all that came before it."""
        if self.file is not None:
            self.chain.append((self.file.sequence, self.position, self.file.filled))
            self.file.unload()
        self.stand_in(file)
        self.position = WAL_PAGE_SIZE
        self.expected_lsn = file.header.first_lsn
        if file.header.kept_end == WAL_PAGE_SIZE:
            self.expected_lsn = file.header.resume_lsn
        self.mark_proven()
        return 0

    cdef int stand_in(self, WalFile file) except -1:
        """Load ``file`` and find those that name it as their predecessor, oldest first."""
        cdef WalFile other
        file.load(self.disk)
        self.file = file
        self.successors = []
        for sequence in sorted(self.files):
            other = self.files[sequence]
            if (
                other.problem is None
                and other.header.predecessor_sequence == file.header.sequence
                and other.header.predecessor_incarnation == file.header.incarnation
            ):
                self.successors.append(other)
        return 0

    cdef WalFile replacement(self):
        """The recovery file that makes the frames from here on void, if there is one."""
        cdef WalFile file
        for file in reversed(self.successors):
            if (
                file.header.kind == FILE_KIND_RECOVERY
                and file.header.predecessor_cut == self.position
                and file.header.base_lsn == self.last_lsn
            ):
                return file
        return None

    cdef int follow_link(self, const FrameHeader *link) except -1:
        """Enter the file that a LINK frame names; it was durable before the frame was."""
        cdef uint64_t sequence = link.successor_sequence
        cdef WalFile file = self.files.get(sequence)
        path = f"{self.directory}/{sequence:020d}.wal"
        if file is None:
            return self.blame_file(path, f"named by {self.file.path}, but missing")
        if file.problem is not None:
            return self.blame_file(path, file.problem)
        if file.header.incarnation != link.successor_incarnation:
            return self.blame_file(path, f"not the file that {self.file.path} named")
        if file.header.base_lsn != self.last_lsn:
            return self.blame_file(path, f"does not continue LSN {self.last_lsn}")
        return self.enter(file)

    cdef int blame_file(self, str path, str what) except -1:
        self.damage.append(Damage(path, 0, self.expected_lsn, 0, what))
        return 0

    # -- what a bad frame means -----------------------------------------------------------

    cdef bint proven_later(self, uint64_t position, uint64_t lsn) except -1:
        """Whether something written after ``lsn`` was durable is there from ``position`` on."""
        if self.position < self.file.header.kept_end:
            return True
        cdef uint64_t found = self.file.find_frame(position)
        if found and self.file.frame(found).watermark >= lsn:
            return True
        return bool(self.successors)

    cdef bint look_ahead(self) except -1:
        """Judge a bad frame by what comes after. True: nothing is missing, the walk goes on."""
        cdef WalFile file
        cdef uint64_t found
        with nogil:
            found = self.file.find_frame(self.position)
        if self.file.readable < self.file.header.size:
            self.blame(0, f"cannot be read from position {self.file.readable} on")
        elif self.position < self.file.header.kept_end:
            self.blame(self.file.header.kept_lsn, "a rewritten frame is damaged")
        elif found:
            return self.skip_to(found)
        else:
            for file in self.successors:
                if file.header.base_lsn == self.last_lsn:
                    self.enter(file)            # only the LINK, or a watermark, is missing
                    return True
                self.blame(file.header.base_lsn, f"{file.path} shows that there was more")
                return False
            if self.file.looks_torn(self.position):
                self.tear()
        return False

    cdef bint skip_to(self, uint64_t found) except -1:
        """A valid frame header lies at or behind the bad place: was there a record between?"""
        cdef uint64_t first_lsn = self.file.frame(found).first_lsn
        if found > self.position and first_lsn == self.expected_lsn:
            self.harmless.append(Damage(
                self.file.path, self.position, first_lsn, 0, "a frame without records is damaged"
            ))
            self.position = found
            return True
        if found > self.position:
            self.blame(first_lsn - 1, "an acknowledged frame is damaged")
        elif first_lsn != self.expected_lsn or self.proven_later(
            found + WAL_PAGE_SIZE, first_lsn
        ):
            self.blame(
                first_lsn + self.file.frame(found).record_count - 1,
                "an acknowledged frame is damaged",
            )
        else:
            self.tear()
        return False

    cdef int tear(self) except -1:
        """A write was begun here and never finished."""
        size = self.file.torn_size(self.position)
        self.torn.append(Torn(self.file.path, self.position, size, ""))
        return 0

    cdef int blame(self, uint64_t last_lsn, str what) except -1:
        self.damage.append(
            Damage(self.file.path, self.position, self.expected_lsn, last_lsn, what)
        )
        return 0

    cdef int leave(self) except -1:
        """The end: no file may be left that the chain should have led to."""
        cdef WalFile file
        if self.file is None:
            return 0
        self.chain.append((self.file.sequence, self.position, self.file.filled))
        for sequence in sorted(self.files):
            if sequence > self.file.sequence and not self.damage:
                file = self.files[sequence]
                what = file.problem or f"does not follow {self.file.path}, where the log ends"
                self.blame_file(file.path, what)
        return 0

    def frame_bytes(self, uint64_t position, uint64_t size):
        """What stands at a place of the file where the walk ended."""
        return <bytes>self.file.memory[position : position + size]
