"""What every store does the same way with the rest of its contract.

Stores derive from these, so that the type checker holds them to the contract.
"""

from __future__ import annotations

from typing import Self

from ..protocol.results import AppendResult, Bytes
from .store import AsyncStore, Store


class StoreBase(Store):
    """The methods of ``Store`` that follow from the others; a store is a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def has(self, path: str) -> bool:
        found = self.get(path)
        return found is not None and not found.soft_deleted

    def get_current_offset(self, path: str) -> str | None:
        found = self.get(path)
        return None if found is None or found.soft_deleted else found.current_offset

    def append_with_producer(
        self,
        path: str,
        data: Bytes,
        *,
        producer_id: str,
        producer_epoch: int,
        producer_seq: int,
        content_type: str | None = None,
        seq: str | None = None,
        close: bool = False,
    ) -> AppendResult:
        return self.append(
            path,
            data,
            content_type=content_type,
            seq=seq,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            producer_seq=producer_seq,
            close=close,
        )


class AsyncStoreBase(AsyncStore):
    """The same of ``AsyncStore``."""

    async def has(self, path: str) -> bool:
        found = await self.get(path)
        return found is not None and not found.soft_deleted

    async def get_current_offset(self, path: str) -> str | None:
        found = await self.get(path)
        return None if found is None or found.soft_deleted else found.current_offset

    async def append_with_producer(
        self,
        path: str,
        data: Bytes,
        *,
        producer_id: str,
        producer_epoch: int,
        producer_seq: int,
        content_type: str | None = None,
        seq: str | None = None,
        close: bool = False,
    ) -> AppendResult:
        return await self.append(
            path,
            data,
            content_type=content_type,
            seq=seq,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            producer_seq=producer_seq,
            close=close,
        )
