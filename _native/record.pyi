from collections.abc import Iterable
from typing import final

@final
class RecordBatch:
    @property
    def count(self) -> int: ...
    def drop(self, stream_id: int, position: int) -> None:
        """Leave out a stream's records from ``position`` on."""

    @staticmethod
    def from_buffers(records: Iterable[bytes | bytearray | memoryview]) -> RecordBatch: ...
