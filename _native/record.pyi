from collections.abc import Iterable
from typing import final

@final
class RecordBatch:
    @property
    def count(self) -> int: ...
    @staticmethod
    def from_buffers(records: Iterable[bytes | bytearray | memoryview]) -> RecordBatch: ...
