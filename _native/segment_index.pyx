"""Check header, footer and index of a segment before anything in them is used.

Source: docs/format-segment.md. After ``index_open`` returned true, every number in an entry
is within the file, so that sums of them cannot overflow and the parts of extents neither
overlap nor leave gaps. Without the GIL; allocates one slice; never raises.
"""
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from .segment_format cimport (
    SEGMENT_ENTRY_SIZE,
    SEGMENT_FOOTER_MAGIC,
    SEGMENT_FOOTER_SIZE,
    SEGMENT_HEADER_MAGIC,
    SEGMENT_HEADER_SIZE,
    SEGMENT_VERSION,
    entry_checksum,
    extent_layout,
    footer_checksum,
    header_checksum,
)

cdef enum:
    SLICE_ENTRIES = 8192                # entries read at once: 768 KiB


cdef bint load(
    MappedFile file, void *buffer, uint64_t size, uint64_t position, Finding *finding
) noexcept nogil:
    cdef int64_t error = file.load(<uint8_t *>buffer, size, position)
    if error < 0:
        report(finding, b"unreadable", position)
        finding.error = error
    return error == 0


cdef bint all_zero(const uint8_t *bytes, uint64_t size) noexcept nogil:
    cdef uint64_t at
    for at in range(size):
        if bytes[at] != 0:
            return False
    return True


cdef bint header_ok(
    const SegmentHeader *header, const uint8_t *store_id, uint64_t number, Finding *finding
) noexcept nogil:
    if header.magic != SEGMENT_HEADER_MAGIC:
        return report(finding, b"header: no segment of durastream", 0)
    if header.version != SEGMENT_VERSION:
        return report(finding, b"header: format version unknown to this release", 8)
    if header.checksum != header_checksum(header):
        return report(finding, b"header: checksum mismatch", 0)
    if memcmp(header.store_id, store_id, 16) != 0:
        return report(finding, b"header: the segment belongs to another store", 16)
    if header.number != number:
        return report(finding, b"header: the segment bears another number", 32)
    if header.after_lsn > header.upto_lsn:
        return report(finding, b"header: after_lsn is above upto_lsn", 40)
    if not all_zero(header.reserved, sizeof(header.reserved)):
        return report(finding, b"header: reserved bytes are not zero", 64)
    return True


cdef bint footer_ok(const SegmentIndex *index, uint64_t file_size, Finding *finding) noexcept nogil:
    cdef const SegmentFooter *footer = &index.footer
    cdef uint64_t at = file_size - SEGMENT_FOOTER_SIZE, room
    if footer.magic != SEGMENT_FOOTER_MAGIC:
        return report(finding, b"footer: missing, the file was cut or overwritten", at)
    if footer.version != SEGMENT_VERSION:
        return report(finding, b"footer: format version unknown to this release", at + 8)
    if footer.checksum != footer_checksum(footer):
        return report(finding, b"footer: checksum mismatch", at)
    if footer.header_checksum != index.seed:
        return report(finding, b"footer: belongs to another header", at + 16)
    if footer.file_size != file_size:
        return report(finding, b"footer: states another file size", at + 56)
    room = at - SEGMENT_HEADER_SIZE
    if (
        footer.extent_count > room // SEGMENT_ENTRY_SIZE
        or footer.index_position != at - footer.extent_count * SEGMENT_ENTRY_SIZE
    ):
        return report(finding, b"footer: the index does not fit its place", at + 24)
    if footer.flags != 0 or not all_zero(<const uint8_t *>footer.reserved, 56):
        return report(finding, b"footer: reserved bytes are not zero", at + 64)
    return True


cdef bint entry_ok(
    const SegmentEntry *entry, uint64_t seed, uint64_t room, uint64_t at, Finding *finding
) noexcept nogil:
    """``room`` is an upper bound of every size, small enough that sums cannot overflow."""
    if entry.checksum != entry_checksum(entry, seed):
        return report(finding, b"index entry: checksum mismatch", at)
    if entry.end < entry.base or entry.end - entry.base > room:
        return report(finding, b"index entry: impossible range", at + 8)
    if entry.message_count > entry.end - entry.base or entry.message_count > room // 8:
        return report(finding, b"index entry: impossible message count", at + 32)
    if (entry.message_count == 0) != (entry.end == entry.base):
        return report(finding, b"index entry: data and message count disagree", at + 32)
    if entry.position > room:
        return report(finding, b"index entry: impossible position", at + 24)
    if entry.row_size > room:
        return report(finding, b"index entry: impossible row size", at + 40)
    if entry.flags != 0 or not all_zero(<const uint8_t *>entry.reserved, 32):
        return report(finding, b"index entry: reserved bytes are not zero", at + 44)
    return True


cdef bint follows(
    const SegmentEntry *entry, const SegmentEntry *last, uint64_t at, Finding *finding
) noexcept nogil:
    """Sorted, without overlap, and stored directly behind the extent before."""
    if entry.stream_id < last.stream_id or (
        entry.stream_id == last.stream_id and entry.base < last.end
    ):
        return report(finding, b"index entry: out of order", at)
    if entry.position != extent_layout(last).next:
        return report(finding, b"index entry: not behind the extent before it", at + 24)
    return True


cdef bint entries_ok(
    MappedFile file, SegmentIndex *index, SegmentEntry *slice, Finding *finding
) noexcept nogil:
    cdef uint64_t done = 0, size, number, at, data_size = 0, message_count = 0
    cdef SegmentEntry last              # at first an empty one that ends with the header
    memset(&last, 0, SEGMENT_ENTRY_SIZE)
    last.position = SEGMENT_HEADER_SIZE - SEGMENT_ENTRY_SIZE
    while done < index.count:
        size = min(index.count - done, <uint64_t>SLICE_ENTRIES)
        at = index.footer.index_position + done * SEGMENT_ENTRY_SIZE
        if not load(file, slice, size * SEGMENT_ENTRY_SIZE, at, finding):
            return False
        for number in range(size):
            if not entry_ok(slice + number, index.seed, file.size, at, finding):
                return False
            if not follows(slice + number, &last, at, finding):
                return False
            last = slice[number]
            data_size += last.end - last.base
            message_count += last.message_count
            at += SEGMENT_ENTRY_SIZE
        done += size
    at = file.size - SEGMENT_FOOTER_SIZE
    if extent_layout(&last).next != index.footer.index_position:
        return report(finding, b"footer: the index is not behind the last extent", at + 24)
    if data_size != index.footer.data_size or message_count != index.footer.message_count:
        return report(finding, b"footer: sums of the index disagree", at + 40)
    return True


cdef bint index_open(
    MappedFile file,
    const uint8_t *store_id,
    uint64_t number,
    SegmentIndex *index,
    Finding *finding,
) noexcept nogil:
    cdef bint ok
    cdef SegmentEntry *slice
    finding.what, finding.position, finding.error = NULL, 0, 0
    if file.size < SEGMENT_HEADER_SIZE + SEGMENT_FOOTER_SIZE:
        return report(finding, b"the file is too short for a segment", file.size)
    if not load(file, &index.header, SEGMENT_HEADER_SIZE, 0, finding):
        return False
    if not header_ok(&index.header, store_id, number, finding):
        return False
    index.seed = index.header.checksum
    if not load(
        file, &index.footer, SEGMENT_FOOTER_SIZE, file.size - SEGMENT_FOOTER_SIZE, finding
    ) or not footer_ok(index, file.size, finding):
        return False
    index.count = index.footer.extent_count
    index.entries = <const SegmentEntry *>(file.address + index.footer.index_position)
    slice = <SegmentEntry *>malloc(SLICE_ENTRIES * SEGMENT_ENTRY_SIZE)
    if slice == NULL:
        report(finding, b"index: no memory to read it", index.footer.index_position)
        finding.error = -ENOMEM
        return False
    ok = entries_ok(file, index, slice, finding)
    free(slice)
    return ok
