from typing import Literal

def scan(
    data: bytes,
) -> (
    tuple[int, bytes, bytes, bytes | None, bytes | None, bytes | None, int | None, bool]
    | Literal[0]
    | None
):
    """What ``scan_head`` finds: None if a parser has to look, 0 if bytes are missing.

    Else the size of the head, method, path, query, Content-Type, If-None-Match, Content-Length,
    and whether there is an Origin.
    """
