"""Walk every page of an LMDB file, and check what LMDB believes.

LMDB has no checksums: a flipped bit in a page can send it beyond the file's end, which kills the
process, or let keys vanish without an error. This walk reads the same pages through the disk
seam, each into memory of its own, and uses nothing in them before it was compared with the
page's bounds; so it ends, whatever it reads. Every byte that LMDB would follow is covered: by
the accounting of all pages, by order and bounds of keys, or by the rows' own checksums. It
never writes, and it does not say what damage means.
Layout: docs/format-metadata.md, "Pages".
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

import os

from .checksum cimport load_u64, xxh64_of
from .disk cimport Disk, disk_read_all
from .lmdb_format cimport (
    LMDB_BRANCH,
    LMDB_DEPTH_MAX,
    LMDB_INTEGER_KEYS,
    LMDB_KEY_SIZE_MAX,
    LMDB_LEAF,
    LMDB_MAGIC,
    LMDB_META,
    LMDB_NODE_BIG,
    LMDB_NODE_HEADER_SIZE,
    LMDB_NODE_TABLE,
    LMDB_OVERFLOW,
    LMDB_PAGE_HEADER_SIZE,
    LMDB_PAGE_SIZE_MAX,
    LMDB_PAGE_SIZE_MIN,
    LMDB_VERSION,
    LmdbMeta,
    LmdbMetaPage,
    LmdbNode,
    LmdbPage,
    LmdbTable,
    even,
    node_child,
    node_value_size,
    overflow_pages,
)

from .lmdb_types import Doubt, Pages, PagesDamaged, TablePages

cdef enum:
    TABLES_MAX = 32
    NAME_SIZE_MAX = 32                  # bytes of a table's name; ours are shorter
    UNWRITTEN_PAGES_MAX = 64            # at the end: a commit allocated them and gave them back
    CHECKSUM_SIZE = 8

cdef enum PageUse:
    UNUSED = 0
    LIVE = 1
    FREE = 2

cdef enum TreeKind:
    FREE_PAGES = 0                      # which pages are free, by transaction
    TABLES = 1                          # the named tables
    ROWS = 2                            # one of them


cdef struct Key:
    const uint8_t *bytes                # NULL: no bound
    uint64_t size


cdef struct Tree:
    TreeKind kind
    LmdbTable stated
    LmdbTable found
    uint64_t total                      # of the rows' checksums
    uint8_t name[NAME_SIZE_MAX]
    uint64_t name_size
    uint8_t last[LMDB_KEY_SIZE_MAX]     # the last whole row's key
    uint64_t last_size                  # 0: there is none
    uint64_t damaged_count              # rows since then


cdef inline bint keys_ascend(TreeKind kind, Key low, Key high, bint strictly) noexcept nogil:
    """Whether ``low`` sorts before ``high``, or is the same."""
    cdef int order
    if low.bytes == NULL or high.bytes == NULL:
        return True
    if kind == FREE_PAGES:
        return load_u64(low.bytes) < load_u64(high.bytes) + <uint64_t>(not strictly)
    order = memcmp(low.bytes, high.bytes, min(low.size, high.size))
    if order == 0:
        return low.size < high.size or (low.size == high.size and not strictly)
    return order < 0


def check_pages(Disk disk not None, str path not None, txn_id=None):
    return _PageWalk(disk, path, txn_id).check()


@cython.final
cdef class _PageWalk:
    cdef Disk disk
    cdef str path
    cdef int fd
    cdef uint64_t file_size, page_size, page_count
    cdef uint64_t txn_id
    cdef bint is_pinned                 # to the commit ``txn_id``, not to the newest
    cdef uint8_t *uses                  # PageUse of each page
    cdef uint8_t *stack                 # a page for each level
    cdef uint8_t *row                   # table, key and value of a row, as they are hashed
    cdef uint64_t row_room
    cdef uint8_t *value                 # of a row that has pages of its own
    cdef uint64_t value_room
    cdef Tree tables[TABLES_MAX]
    cdef int table_count
    cdef list doubts                    # of the table being walked
    cdef const char *what
    cdef uint64_t where                 # a page's number
    cdef int64_t error

    def __cinit__(self, Disk disk, str path, txn_id):
        self.disk, self.path, self.fd = disk, path, -1
        self.is_pinned, self.txn_id = txn_id is not None, txn_id or 0
        self.fd = disk.open(path, os.O_RDONLY)
        self.file_size = disk.size(self.fd)

    def __dealloc__(self):
        free(self.uses)
        free(self.stack)
        free(self.row)
        free(self.value)
        if self.fd >= 0:
            self.disk.ops.close(self.disk.context, self.fd)

    cdef object check(self):
        cdef LmdbMeta meta
        cdef Tree pages, main
        cdef bint ok
        cdef int index
        cdef dict found = {}
        with nogil:
            ok = self.begin(&meta) and self.walk_top(&meta, &pages, &main)
        if not ok:
            raise self.trouble()
        for index in range(self.table_count):
            self.doubts = []
            with nogil:
                ok = self.walk_tree(&self.tables[index])
            if not ok:
                raise self.trouble()
            self.end_doubt(&self.tables[index], None)
            name = self.tables[index].name[: self.tables[index].name_size]
            name = name.decode(errors="backslashreplace")
            found[name] = TablePages(
                self.tables[index].found.entries, self.tables[index].total, self.doubts
            )
        with nogil:
            ok = self.all_used()
        if not ok:
            raise self.trouble()
        return Pages(self.txn_id, self.page_count * self.page_size, found)

    cdef object trouble(self):
        what = self.what.decode()
        if self.error < 0:
            what = f"{what}: {os.strerror(<int>-self.error)}"
        return PagesDamaged(self.path, self.where * self.page_size, f"page {self.where}: {what}")

    cdef bint bad(self, uint64_t page, const char *what) noexcept nogil:
        self.where, self.what = page, what
        return False

    # -- where to start -------------------------------------------------------------------

    cdef bint begin(self, LmdbMeta *meta) noexcept nogil:
        """Find the meta page that the last commit wrote, or the one that is pinned."""
        cdef LmdbMeta first, second
        self.page_size = LMDB_PAGE_SIZE_MIN
        if not self.load_meta(0, &first):
            return False
        self.page_size = first.free.pad
        if not LMDB_PAGE_SIZE_MIN <= self.page_size <= LMDB_PAGE_SIZE_MAX:
            return self.bad(0, b"impossible page size")
        if not self.load_meta(1, &second):
            return False
        if second.free.pad != self.page_size:
            return self.bad(1, b"the meta pages disagree about the page size")
        # Commits take turns: the even ones write page 0.
        if first.txn_id % 2 or (second.txn_id % 2 == 0 and second.txn_id):
            return self.bad(0, b"a meta page of another commit")
        meta[0] = first if first.txn_id > second.txn_id else second
        if first.txn_id + second.txn_id + 1 != 2 * meta.txn_id and meta.txn_id > 0:
            return self.bad(0, b"the meta pages are not those of the last two commits")
        if self.is_pinned:
            meta[0] = first if first.txn_id == self.txn_id else second
            if meta.txn_id != self.txn_id:
                return self.bad(0, b"two commits came since")
        self.txn_id, self.page_count = meta.txn_id, meta.last_page + 1
        if meta.last_page == 0:
            return self.bad(meta.txn_id % 2, b"its last page is a meta page")
        if meta.last_page > self.file_size // self.page_size + UNWRITTEN_PAGES_MAX:
            return self.bad(meta.txn_id % 2, b"more pages than the file has: it was cut short")
        return self.take_memory()

    cdef bint load_meta(self, uint64_t number, LmdbMeta *meta) noexcept nogil:
        cdef LmdbMetaPage page
        if not self.read(&page, sizeof(page), number):
            return False
        meta[0] = page.meta
        if page.header.number != number or page.header.flags != LMDB_META:
            return self.bad(number, b"not a meta page")
        if meta.magic != LMDB_MAGIC or meta.version != LMDB_VERSION or meta.address != 0:
            return self.bad(number, b"a meta page of another version")
        if meta.free.flags != LMDB_INTEGER_KEYS or meta.main.flags or meta.main.pad:
            return self.bad(number, b"a meta page with other flags")
        return True

    cdef bint take_memory(self) noexcept nogil:
        self.uses = <uint8_t *>calloc(self.page_count, 1)
        self.stack = <uint8_t *>malloc(LMDB_DEPTH_MAX * self.page_size)
        if self.uses == NULL or self.stack == NULL:
            return self.bad(0, b"no memory to check the pages")
        self.uses[0] = self.uses[1] = LIVE
        return True

    cdef bint read(self, void *buffer, uint64_t size, uint64_t number) noexcept nogil:
        """The first ``size`` bytes from a page on."""
        cdef int64_t got = disk_read_all(
            &self.disk.ops, self.disk.context, self.fd, <uint8_t *>buffer, size,
            number * self.page_size,
        )
        if got == <int64_t>size:
            return True
        self.error = min(got, <int64_t>0)
        return self.bad(number, b"cannot be read" if got < 0 else b"the file ends before it")

    # -- trees ----------------------------------------------------------------------------

    cdef bint walk_top(self, const LmdbMeta *meta, Tree *pages, Tree *main) noexcept nogil:
        memset(pages, 0, sizeof(Tree))
        memset(main, 0, sizeof(Tree))
        pages.kind, pages.stated = FREE_PAGES, meta.free
        main.kind, main.stated = TABLES, meta.main
        return self.walk_tree(pages) and self.walk_tree(main)

    cdef bint walk_tree(self, Tree *tree) noexcept nogil:
        cdef LmdbTable *stated = &tree.stated
        cdef LmdbTable *found = &tree.found
        cdef uint64_t top = self.where
        cdef Key unbound = Key(NULL, 0)
        if stated.root == <uint64_t>-1:
            if stated.depth or stated.entries or stated.leaf_pages:
                return self.bad(top, b"a tree without a root that is not empty")
            return True
        if not 0 < stated.depth <= LMDB_DEPTH_MAX:
            return self.bad(stated.root, b"a tree of an impossible depth")
        if not self.walk(tree, stated.root, 0, unbound, unbound):
            return False
        if (
            found.entries != stated.entries
            or found.branch_pages != stated.branch_pages
            or found.leaf_pages != stated.leaf_pages
            or found.overflow_pages != stated.overflow_pages
        ):
            return self.bad(stated.root, b"the tree has other entries or pages than it states")
        return True

    cdef bint walk(
        self, Tree *tree, uint64_t number, int depth, Key low, Key high
    ) noexcept nogil:
        """One page and all below it, whose keys must be within [low, high)."""
        cdef uint8_t *page = self.stack + depth * self.page_size
        cdef bint is_leaf = depth + 1 == tree.stated.depth
        if not self.claim(number, 1, LIVE) or not self.read(page, self.page_size, number):
            return False
        if not self.nodes_fit(number, page, is_leaf):
            return False
        if is_leaf:
            tree.found.leaf_pages += 1
            return self.walk_leaf(tree, number, page, low, high)
        tree.found.branch_pages += 1
        return self.walk_branch(tree, number, page, depth, low, high)

    cdef bint claim(self, uint64_t number, uint64_t count, PageUse use) noexcept nogil:
        """Take pages for what uses them: nothing else may."""
        cdef uint64_t at
        if number < 2 or number >= self.page_count or count > self.page_count - number:
            return self.bad(number, b"a page beyond the last one is used")
        for at in range(number, number + count):
            if self.uses[at] != UNUSED:
                return self.bad(at, b"used twice")
            self.uses[at] = use
        return True

    cdef bint all_used(self) noexcept nogil:
        cdef uint64_t number
        for number in range(self.page_count):
            if self.uses[number] == UNUSED:
                return self.bad(number, b"neither used nor free")
        return True

    cdef bint nodes_fit(self, uint64_t number, uint8_t *page, bint is_leaf) noexcept nogil:
        """Whether the page is what it should be and its nodes fill it up to its end."""
        cdef const LmdbPage *header = <const LmdbPage *>page
        cdef const uint16_t *pointers = <const uint16_t *>(page + LMDB_PAGE_HEADER_SIZE)
        cdef const LmdbNode *node
        cdef uint64_t at, size, used = 0, room, count
        if header.number != number:
            return self.bad(number, b"bears the number of another page")
        if header.flags != (LMDB_LEAF if is_leaf else LMDB_BRANCH):
            return self.bad(number, b"not the kind of page that it must be")
        if header.lower % 2 or header.upper > self.page_size or (
            not LMDB_PAGE_HEADER_SIZE < header.lower <= header.upper
        ):
            return self.bad(number, b"impossible bounds of its nodes")
        count = (header.lower - LMDB_PAGE_HEADER_SIZE) // 2
        for at in range(count):
            if not header.upper <= pointers[at] <= self.page_size - LMDB_NODE_HEADER_SIZE:
                return self.bad(number, b"a node outside of the page")
            node = <const LmdbNode *>(page + pointers[at])
            room = self.page_size - pointers[at]
            size = LMDB_NODE_HEADER_SIZE + <uint64_t>node.key_size
            if is_leaf:
                size += 8 if node.flags & LMDB_NODE_BIG else node_value_size(node)
            if pointers[at] % 2 or size > room:
                return self.bad(number, b"a node reaches beyond the page")
            used += even(size)
        if used != self.page_size - header.upper:
            return self.bad(number, b"its nodes do not fill it")
        return True

    cdef bint walk_branch(
        self, Tree *tree, uint64_t number, uint8_t *page, int depth, Key low, Key high
    ) noexcept nogil:
        cdef uint64_t count = ((<const LmdbPage *>page).lower - LMDB_PAGE_HEADER_SIZE) // 2, at
        cdef const uint16_t *pointers = <const uint16_t *>(page + LMDB_PAGE_HEADER_SIZE)
        cdef const LmdbNode *node
        cdef Key first = low, behind
        for at in range(count):
            behind = high
            if at + 1 < count:
                behind = self.key_of(tree, page + pointers[at + 1])
                if not self.key_fits(tree, number, behind, first, high, at > 0):
                    return False
            node = <const LmdbNode *>(page + pointers[at])
            if not self.walk(tree, node_child(node), depth + 1, first, behind):
                return False
            first = behind
        return True

    cdef Key key_of(self, Tree *tree, const uint8_t *node) noexcept nogil:
        return Key(node + LMDB_NODE_HEADER_SIZE, (<const LmdbNode *>node).key_size)

    cdef bint key_fits(
        self, Tree *tree, uint64_t number, Key key, Key low, Key high, bint strictly
    ) noexcept nogil:
        if not 0 < key.size <= LMDB_KEY_SIZE_MAX or (tree.kind == FREE_PAGES and key.size != 8):
            return self.bad(number, b"a key of an impossible size")
        if not keys_ascend(tree.kind, low, key, strictly):
            return self.bad(number, b"its keys are not in order")
        if not keys_ascend(tree.kind, key, high, True):
            return self.bad(number, b"a key beyond the bound of its page")
        return True

    cdef bint walk_leaf(
        self, Tree *tree, uint64_t number, uint8_t *page, Key low, Key high
    ) noexcept nogil:
        cdef uint64_t count = ((<const LmdbPage *>page).lower - LMDB_PAGE_HEADER_SIZE) // 2, at
        cdef const uint16_t *pointers = <const uint16_t *>(page + LMDB_PAGE_HEADER_SIZE)
        cdef const uint8_t *node
        cdef Key key
        tree.found.entries += count
        for at in range(count):
            node = page + pointers[at]
            key = self.key_of(tree, node)
            if not self.key_fits(tree, number, key, low, high, at > 0):
                return False
            if not self.entry(tree, number, key, <const LmdbNode *>node):
                return False
            low = key
        return True

    # -- entries --------------------------------------------------------------------------

    cdef bint entry(
        self, Tree *tree, uint64_t number, Key key, const LmdbNode *node
    ) noexcept nogil:
        cdef const uint8_t *value = key.bytes + key.size
        cdef uint64_t size = node_value_size(node)
        if tree.kind == TABLES:
            return self.add_table(number, key, value, size, node.flags)
        if node.flags & ~<int>LMDB_NODE_BIG:
            return self.bad(number, b"a node with unknown flags")
        if node.flags:
            if not self.load_value(tree, load_u64(value), size):
                return False
            value = self.value + LMDB_PAGE_HEADER_SIZE
        if tree.kind == FREE_PAGES:
            return self.free_pages(number, key, value, size)
        return self.add_row(tree, number, key, value, size)

    cdef bint load_value(self, Tree *tree, uint64_t number, uint64_t size) noexcept nogil:
        """A value with pages of its own, behind the header of the first."""
        cdef uint64_t needed = overflow_pages(size, self.page_size), count
        cdef LmdbPage header
        if not self.read(&header, sizeof(header), number):
            return False
        count = header.lower | <uint64_t>header.upper << 16
        if header.number != number or header.flags != LMDB_OVERFLOW:
            return self.bad(number, b"not the first page of a value")
        if count < needed:                      # more: a larger one was there before it
            return self.bad(number, b"a value larger than its pages")
        if not self.claim(number, count, LIVE):
            return False
        if not self.grow(&self.value, &self.value_room, needed * self.page_size, number):
            return False
        tree.found.overflow_pages += count
        return self.read(self.value, needed * self.page_size, number)

    cdef bint grow(
        self, uint8_t **buffer, uint64_t *room, uint64_t size, uint64_t number
    ) noexcept nogil:
        cdef uint8_t *grown
        if size <= room[0]:
            return True
        grown = <uint8_t *>realloc(buffer[0], size)
        if grown == NULL:
            return self.bad(number, b"no memory to check a value")
        buffer[0], room[0] = grown, size
        return True

    cdef bint add_table(
        self, uint64_t number, Key key, const uint8_t *value, uint64_t size, int flags
    ) noexcept nogil:
        cdef Tree *table = &self.tables[self.table_count]
        if flags != LMDB_NODE_TABLE or size != sizeof(LmdbTable):
            return self.bad(number, b"not the description of a table")
        if key.size > NAME_SIZE_MAX or self.table_count == TABLES_MAX:
            return self.bad(number, b"more tables, or longer names, than there can be")
        memset(table, 0, sizeof(Tree))
        table.kind = ROWS
        memcpy(&table.stated, value, sizeof(LmdbTable))
        memcpy(table.name, key.bytes, key.size)
        table.name_size = key.size
        if table.stated.flags or table.stated.pad:
            return self.bad(number, b"a table with other flags")
        self.table_count += 1
        return True

    cdef bint free_pages(
        self, uint64_t number, Key key, const uint8_t *value, uint64_t size
    ) noexcept nogil:
        cdef uint64_t at, count
        if size < 8 or not 0 < load_u64(key.bytes) <= self.txn_id:
            return self.bad(number, b"not a list of free pages")
        count = load_u64(value)
        if count >= size // 8:
            return self.bad(number, b"not a list of free pages")
        for at in range(count):
            if not self.claim(load_u64(value + 8 * (at + 1)), 1, FREE):
                return False
        return True

    cdef bint add_row(
        self, Tree *tree, uint64_t number, Key key, const uint8_t *value, uint64_t size
    ) noexcept nogil:
        cdef uint64_t at = tree.name_size, stored = 0
        cdef uint16_t key_size = <uint16_t>key.size
        cdef bint whole = size >= CHECKSUM_SIZE
        if not self.grow(&self.row, &self.row_room, NAME_SIZE_MAX + 3 + key.size + size, number):
            return False
        if whole:
            size -= CHECKSUM_SIZE
            stored = load_u64(value + size)
            memcpy(self.row, tree.name, at)
            self.row[at] = 0
            memcpy(self.row + at + 1, &key_size, 2)
            memcpy(self.row + at + 3, key.bytes, key.size)
            memcpy(self.row + at + 3 + key.size, value, size)
            whole = stored == xxh64_of(self.row, at + 3 + key.size + size, 0)
        if not whole:
            tree.damaged_count += 1
        else:
            if tree.damaged_count:
                with gil:
                    self.end_doubt(tree, (<const char *>key.bytes)[: key.size])
            memcpy(tree.last, key.bytes, key.size)
            tree.last_size = key.size
        tree.total += stored
        return True

    cdef int end_doubt(self, Tree *tree, object before) except -1:
        """The next whole row, if any: what stands between may have had other keys."""
        if tree.damaged_count:
            after = None
            if tree.last_size:
                after = (<const char *>tree.last)[: tree.last_size]
            self.doubts.append(Doubt(after, before, tree.damaged_count))
        tree.damaged_count = 0
        return 0
