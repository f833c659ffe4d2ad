def xxh64(data: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """XXH64 of contiguous bytes, as an unsigned integer of 64 bits.

    Raises: TypeError if ``data`` is no buffer, BufferError if it is not contiguous.
    """
