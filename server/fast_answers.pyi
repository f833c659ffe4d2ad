from collections.abc import Sequence
from typing import final

from uvicorn.server import ServerState

from .answer import Answer
from .asgi_types import Header

@final
class Answers:
    """Renders answers.

    Args:
        server_state: whose default headers each answer begins with.
        base_headers: of every answer, ``DurableStreamApp.base_headers``.
        cache_scope: as in ``ServerConfig``.
    """

    def __init__(
        self, server_state: ServerState, base_headers: Sequence[Header], cache_scope: str
    ) -> None: ...
    def refusal(self, answer: Answer) -> bytes:
        """An ``Answer`` of the application, whole."""
