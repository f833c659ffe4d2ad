"""Durable streams: an embedded storage engine, a server and a command line.

The names below are the public ones. They are imported when first used, so that a program
that embeds a store does not load a server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.errors import DirectoryInUse as DirectoryInUse
    from .engine.errors import OpenError as OpenError
    from .engine.errors import StorageError as StorageError
    from .engine.file_store import FileBackedStreamStore as FileBackedStreamStore
    from .engine.memory_store import StreamStore as StreamStore
    from .engine.options import FileStoreOptions as FileStoreOptions
    from .engine.options import Limits as Limits
    from .engine.store import AsyncStore as AsyncStore
    from .engine.store import Store as Store
    from .protocol.cursor import DEFAULT_CURSOR_EPOCH as DEFAULT_CURSOR_EPOCH
    from .protocol.cursor import (
        DEFAULT_CURSOR_INTERVAL_SECONDS as DEFAULT_CURSOR_INTERVAL_SECONDS,
    )
    from .protocol.cursor import CursorOptions as CursorOptions
    from .protocol.cursor import calculate_cursor as calculate_cursor
    from .protocol.cursor import generate_response_cursor as generate_response_cursor
    from .protocol.cursor import handle_cursor_collision as handle_cursor_collision
    from .protocol.errors import StreamError as StreamError
    from .protocol.path_encoding import decode_stream_path as decode_stream_path
    from .protocol.path_encoding import encode_stream_path as encode_stream_path
    from .server.app import create_app as create_app
    from .server.cors import Cors as Cors
    from .server.hooks import LifecycleHooks as LifecycleHooks
    from .server.hooks import StreamLifecycleEvent as StreamLifecycleEvent
    from .server.hooks import create_registry_hooks as create_registry_hooks
    from .server.lifecycle import DurableStreamServer as DurableStreamServer
    from .server.lifecycle import DurableStreamTestServer as DurableStreamTestServer

_ENGINE_ERRORS = (
    "StorageError OpenError DirectoryInUse UnknownFormat StoreClosed ForeignProcess StoreBusy "
    "StoreFull StoreFailed ReadOnly Damaged StreamQuarantined"
)
_PROTOCOL_ERRORS = (
    "StreamError InvalidRequest InvalidOffset InvalidJson EmptyAppend InvalidContentType "
    "InvalidForkOffset TooLarge StreamNotFound StreamGone OffsetGone Conflict StreamExists "
    "ForkSourceNotFound ForkSourceGone ContentTypeMismatch SequenceConflict StreamClosed"
)
_NAMES_BY_MODULE = {
    "engine.errors": _ENGINE_ERRORS,
    "engine.file_store": "FileBackedStreamStore",
    "engine.memory_store": "StreamStore",
    "engine.options": "FileStoreOptions Limits",
    "engine.store": "AsyncStore Store",
    "protocol.cursor": (
        "CursorOptions DEFAULT_CURSOR_EPOCH DEFAULT_CURSOR_INTERVAL_SECONDS calculate_cursor "
        "generate_response_cursor handle_cursor_collision"
    ),
    "protocol.errors": _PROTOCOL_ERRORS,
    "protocol.path_encoding": "decode_stream_path encode_stream_path",
    "protocol.results": (
        "AppendResult CloseResult ProducerResult ReadResult Stream StreamMessage WaitResult"
    ),
    "server.app": "create_app",
    "server.cors": "Cors",
    "server.hooks": "LifecycleHooks StreamLifecycleEvent create_registry_hooks",
    "server.lifecycle": "DurableStreamServer DurableStreamTestServer",
}
_MODULE_BY_NAME = {
    name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()
}

__all__ = ["__version__", *sorted(_MODULE_BY_NAME)]


def __getattr__(name: str) -> Any:
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
