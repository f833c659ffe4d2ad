"""XXH64 for Python callers: the checksum of every file of the store.

Source: docs/format-wal.md, "Checksums". The algorithm is in checksum.pxd, for C callers. It
detects accidents, not attackers: never use it as a key that a client may choose.
"""


def xxh64(data not None, uint64_t seed=0):
    cdef const uint8_t[::1] view = data
    cdef uint64_t size = <uint64_t>view.shape[0]
    cdef const uint8_t *start = &view[0] if size else NULL
    if size < 65536:                # below some 5 us the GIL is not worth giving away
        return xxh64_of(start, size, seed)
    cdef uint64_t value
    with nogil:
        value = xxh64_of(start, size, seed)
    return value
