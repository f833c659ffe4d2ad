"""DELETE: remove a stream, or hide it while forks still need its bytes (section 4.3)."""

from __future__ import annotations

from ..protocol.errors import StreamNotFound
from .answer import Answer
from .request import Request
from .service import Service


async def delete(service: Service, request: Request) -> Answer:
    if not await service.aio.delete(request.path):
        raise StreamNotFound(request.path)
    await service.hooks.deleted(request.path)
    return Answer(204)
