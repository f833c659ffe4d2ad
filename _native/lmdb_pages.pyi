from .disk import Disk
from .lmdb_types import Pages

def check_pages(disk: Disk, path: str, txn_id: int | None = None) -> Pages:
    """Walk every page of the LMDB file ``path``, as of its last commit, without LMDB.

    Args:
        txn_id: of the commit to look at, which a reader keeps from being written over. It must
            be one of the last two; then others may go on.

    Each page must be linked from one place, or be free; its nodes must fill it, in the order of
    their keys and within the bounds that the page above states; the tables' own counts must be
    right. The checksum in each row is compared, too: damaged rows are counted, not raised.
    Without ``txn_id`` nobody may write meanwhile.

    Raises: PagesDamaged; FileNotFoundError and other trouble of opening it.
    """
