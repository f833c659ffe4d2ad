# XXH64, the one checksum of every format of the store: docs/format-wal.md, "Checksums".
#
# Written from the published specification of the algorithm; PyPI's xxhash is the oracle in the
# tests. Inline, so that each module that checksums compiles it into its own loops.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    XXH_STRIPE_SIZE = 32                        # bytes: four lanes of eight

cdef inline uint64_t xxh_prime(int number) noexcept nogil:
    if number == 1:
        return <uint64_t>0x9E3779B185EBCA87
    if number == 2:
        return <uint64_t>0xC2B2AE3D27D4EB4F
    if number == 3:
        return <uint64_t>0x165667B19E3779F9
    if number == 4:
        return <uint64_t>0x85EBCA77C2B2AE63
    return <uint64_t>0x27D4EB2F165667C5


cdef inline uint64_t load_u64(const uint8_t *source) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, source, sizeof(value))       # unaligned; setup.py refuses big-endian hosts
    return value


cdef inline uint32_t load_u32(const uint8_t *source) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, source, sizeof(value))
    return value


cdef inline uint64_t rotate_left(uint64_t value, int count) noexcept nogil:
    return (value << count) | (value >> (64 - count))


cdef inline uint64_t xxh_round(uint64_t lane, uint64_t value) noexcept nogil:
    return rotate_left(lane + value * xxh_prime(2), 31) * xxh_prime(1)


cdef inline uint64_t xxh_merge(uint64_t hashed, uint64_t lane) noexcept nogil:
    return (hashed ^ xxh_round(0, lane)) * xxh_prime(1) + xxh_prime(4)


cdef inline uint64_t xxh_stripes(
    const uint8_t **cursor, const uint8_t *end, uint64_t seed
) noexcept nogil:
    """Consume whole stripes, at least one of which must be there."""
    cdef const uint8_t *at = cursor[0]
    cdef uint64_t a = seed + xxh_prime(1) + xxh_prime(2)
    cdef uint64_t b = seed + xxh_prime(2)
    cdef uint64_t c = seed
    cdef uint64_t d = seed - xxh_prime(1)
    while end - at >= XXH_STRIPE_SIZE:
        a = xxh_round(a, load_u64(at))
        b = xxh_round(b, load_u64(at + 8))
        c = xxh_round(c, load_u64(at + 16))
        d = xxh_round(d, load_u64(at + 24))
        at += XXH_STRIPE_SIZE
    cursor[0] = at
    cdef uint64_t hashed = (
        rotate_left(a, 1) + rotate_left(b, 7) + rotate_left(c, 12) + rotate_left(d, 18)
    )
    return xxh_merge(xxh_merge(xxh_merge(xxh_merge(hashed, a), b), c), d)


cdef inline uint64_t xxh_avalanche(uint64_t hashed) noexcept nogil:
    hashed ^= hashed >> 33
    hashed *= xxh_prime(2)
    hashed ^= hashed >> 29
    hashed *= xxh_prime(3)
    return hashed ^ (hashed >> 32)


cdef inline uint64_t xxh64_of(
    const uint8_t *data, uint64_t size, uint64_t seed
) noexcept nogil:
    """XXH64 of ``size`` bytes at ``data``, which may be NULL if there are none."""
    cdef const uint8_t *at = data
    cdef const uint8_t *end = data + size
    cdef uint64_t hashed
    if size >= XXH_STRIPE_SIZE:
        hashed = xxh_stripes(&at, end, seed)
    else:
        hashed = seed + xxh_prime(5)
    hashed += size
    while end - at >= 8:
        hashed ^= xxh_round(0, load_u64(at))
        hashed = rotate_left(hashed, 27) * xxh_prime(1) + xxh_prime(4)
        at += 8
    if end - at >= 4:
        hashed ^= load_u32(at) * xxh_prime(1)
        hashed = rotate_left(hashed, 23) * xxh_prime(2) + xxh_prime(3)
        at += 4
    while at < end:
        hashed ^= at[0] * xxh_prime(5)
        hashed = rotate_left(hashed, 11) * xxh_prime(1)
        at += 1
    return xxh_avalanche(hashed)
