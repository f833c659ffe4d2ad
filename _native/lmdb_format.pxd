# Pages of LMDB 0.9 as a 64-bit little-endian host writes them, docs/format-metadata.md, "Pages".
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    LMDB_PAGE_SIZE_MIN = 512
    LMDB_PAGE_SIZE_MAX = 65536
    LMDB_PAGE_HEADER_SIZE = 16
    LMDB_NODE_HEADER_SIZE = 8
    LMDB_VERSION = 1
    LMDB_DEPTH_MAX = 32                 # LMDB's own stack of pages
    LMDB_KEY_SIZE_MAX = 511
    LMDB_BRANCH = 1                     # flags of a page
    LMDB_LEAF = 2
    LMDB_OVERFLOW = 4
    LMDB_META = 8
    LMDB_NODE_BIG = 1                   # flags of a leaf's node: the value lies in pages of its own
    LMDB_NODE_TABLE = 2                 # the value describes a table
    LMDB_INTEGER_KEYS = 8               # flags of a table

cdef enum:
    LMDB_MAGIC = 0xBEEFC0DE


cdef struct LmdbPage:
    uint64_t number
    uint16_t pad
    uint16_t flags
    uint16_t lower                      # behind the pointers; with upper: pages of an overflow
    uint16_t upper                      # where the nodes begin


cdef struct LmdbTable:
    uint32_t pad                        # the page size in a meta page's first one
    uint16_t flags
    uint16_t depth
    uint64_t branch_pages
    uint64_t leaf_pages
    uint64_t overflow_pages
    uint64_t entries
    uint64_t root                       # all ones if it is empty


cdef struct LmdbMeta:
    uint32_t magic
    uint32_t version
    uint64_t address
    uint64_t map_size
    LmdbTable free
    LmdbTable main
    uint64_t last_page
    uint64_t txn_id


cdef struct LmdbMetaPage:
    LmdbPage header
    LmdbMeta meta


# A node: of a branch, the child's page number is low, high and flags; of a leaf, the size of the
# value low and high. The key follows, and in a leaf the value, or its first page's number.
cdef struct LmdbNode:
    uint16_t low
    uint16_t high
    uint16_t flags
    uint16_t key_size


cdef inline uint64_t even(uint64_t size) noexcept nogil:
    return (size + 1) & ~<uint64_t>1


cdef inline uint64_t node_child(const LmdbNode *node) noexcept nogil:
    return node.low | <uint64_t>node.high << 16 | <uint64_t>node.flags << 32


cdef inline uint64_t node_value_size(const LmdbNode *node) noexcept nogil:
    return node.low | <uint64_t>node.high << 16


cdef inline uint64_t overflow_pages(uint64_t value_size, uint64_t page_size) noexcept nogil:
    return (LMDB_PAGE_HEADER_SIZE - 1 + value_size) // page_size + 1
