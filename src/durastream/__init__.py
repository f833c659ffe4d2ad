"""Durable streams: an embedded storage engine, a server and a command line.

Everything public is here. The file store and the server are imported when first used, so
that a program does not load what it does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .engine.errors import (
    Damaged,
    DirectoryInUse,
    ForeignProcess,
    OpenError,
    ReadOnly,
    StorageError,
    StoreBusy,
    StoreClosed,
    StoreFailed,
    StoreFull,
    StreamQuarantined,
    UnknownFormat,
)
from .engine.memory_store import StreamStore
from .engine.options import FileStoreOptions, Limits
from .engine.store import AsyncStore, Store
from .protocol.cursor import (
    DEFAULT_CURSOR_EPOCH,
    DEFAULT_CURSOR_INTERVAL_SECONDS,
    CursorOptions,
    calculate_cursor,
    generate_response_cursor,
    handle_cursor_collision,
)
from .protocol.errors import (
    Conflict,
    ContentTypeMismatch,
    EmptyAppend,
    ForkSourceGone,
    ForkSourceNotFound,
    InvalidContentType,
    InvalidForkOffset,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    OffsetGone,
    SequenceConflict,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    TooLarge,
)
from .protocol.path_encoding import decode_stream_path, encode_stream_path
from .protocol.results import (
    AppendResult,
    CloseResult,
    ProducerResult,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)

if TYPE_CHECKING:
    from .engine.file_store import FileBackedStreamStore
    from .server.app import create_app
    from .server.cors import Cors
    from .server.hooks import LifecycleHooks, StreamLifecycleEvent, create_registry_hooks
    from .server.lifecycle import DurableStreamServer, DurableStreamTestServer

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_CURSOR_EPOCH",
    "DEFAULT_CURSOR_INTERVAL_SECONDS",
    "AppendResult",
    "AsyncStore",
    "CloseResult",
    "Conflict",
    "ContentTypeMismatch",
    "Cors",
    "CursorOptions",
    "Damaged",
    "DirectoryInUse",
    "DurableStreamServer",
    "DurableStreamTestServer",
    "EmptyAppend",
    "FileBackedStreamStore",
    "FileStoreOptions",
    "ForeignProcess",
    "ForkSourceGone",
    "ForkSourceNotFound",
    "InvalidContentType",
    "InvalidForkOffset",
    "InvalidJson",
    "InvalidOffset",
    "InvalidRequest",
    "LifecycleHooks",
    "Limits",
    "OffsetGone",
    "OpenError",
    "ProducerResult",
    "ReadOnly",
    "ReadResult",
    "SequenceConflict",
    "StorageError",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreFailed",
    "StoreFull",
    "Stream",
    "StreamClosed",
    "StreamError",
    "StreamExists",
    "StreamGone",
    "StreamLifecycleEvent",
    "StreamMessage",
    "StreamNotFound",
    "StreamQuarantined",
    "StreamStore",
    "TooLarge",
    "UnknownFormat",
    "WaitResult",
    "__version__",
    "calculate_cursor",
    "create_app",
    "create_registry_hooks",
    "decode_stream_path",
    "encode_stream_path",
    "generate_response_cursor",
    "handle_cursor_collision",
]

_LAZY = {
    "Cors": "server.cors",
    "DurableStreamServer": "server.lifecycle",
    "DurableStreamTestServer": "server.lifecycle",
    "FileBackedStreamStore": "engine.file_store",
    "LifecycleHooks": "server.hooks",
    "StreamLifecycleEvent": "server.hooks",
    "create_app": "server.app",
    "create_registry_hooks": "server.hooks",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
