"""The compiled load client, and the requests that it plays.

Its source is benchmarks/loadgen; it is compiled on demand into ``.cache`` of the checkout and is no
part of what is installed. It runs pinned beside the server, and prints JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parent.parent / "loadgen"
CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "loadgen"
FLAGS = ("-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
LENGTH = struct.Struct("<I")
ROOT = "/v1/stream/"

Figures = dict[str, Any]


def binary() -> Path:
    """The client, compiled if its source is not what it was compiled from."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    path = CACHE / f"loadgen-{digest[:12]}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        draft = path.with_suffix(f".{os.getpid()}")
        programs = [str(source) for source in sources if source.suffix == ".c"]
        command = [compiler.split()[0], *FLAGS, *programs, "-o", str(draft)]
        subprocess.run(command, check=True)
        draft.replace(path)
    return path


def play(
    port: int,
    requests: Iterable[bytes],
    *,
    connections: int = 1,
    seconds: float = 0,
    interval: float = 0,
) -> Figures:
    """Play them in turn: for so long, or with 0 seconds once each.

    Args:
        interval: seconds from one request to the next; 0: each as soon as a connection is free.

    Raises: RuntimeError if the client failed.
    """
    with tempfile.NamedTemporaryFile(prefix="durastream-requests-") as file:
        for request in requests:
            file.write(LENGTH.pack(len(request)) + request)
        file.flush()
        arguments = ["--requests", file.name, "--connections", str(connections)]
        arguments += ["--seconds", str(seconds), "--interval", str(interval)]
        command = [str(binary()), "requests", "--port", str(port), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip())
    return dict(json.loads(answer.stdout))


def fill(port: int, requests: Iterable[bytes], connections: int = 32) -> None:
    """Play them once. Raises: RuntimeError unless all were accepted."""
    figures = play(port, requests, connections=connections)
    if figures["refused"] or figures["broken"]:
        raise RuntimeError(f"the server refused what was to fill it: {figures}")


@contextmanager
def readers(command: str, port: int, path: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``loadgen readers`` or ``idle``; entered as soon as all readers are served."""
    place = [str(binary()), command, "--port", str(port), "--path", ROOT + path]
    with subprocess.Popen(
        [*place, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith('{"ready"'):
            raise RuntimeError(f"the readers of {path} were not served")
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


# -- requests ------------------------------------------------------------------------------


def put(path: str, content_type: str) -> bytes:
    return _request("PUT", path, f"Content-Type: {content_type}\r\n", b"")


def post(path: str, content_type: str, body: bytes) -> bytes:
    return _request("POST", path, f"Content-Type: {content_type}\r\n", body)


def get(path: str, offset: str) -> bytes:
    return _request("GET", f"{path}?offset={offset}")


def head(path: str) -> bytes:
    return _request("HEAD", path)


def _request(method: str, path: str, headers: str = "", body: bytes | None = None) -> bytes:
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    text = f"{method} {ROOT}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{length}\r\n"
    return text.encode() + (body or b"")
