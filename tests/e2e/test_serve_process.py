"""`durastream serve` as its user meets it: banner, signals, exit status, clear refusals."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import curl
from support.wire import Connection, request_bytes

SECONDS_MAX = 20


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "durastream", *arguments]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("DURASTREAM_")}


def run_to_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    """For command lines that must fail by themselves."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=SECONDS_MAX,
        env=environment(), check=False,
    )  # fmt: skip


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its banner."""
    output = folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            command("--port", "0", *arguments), stdout=file, stderr=file, text=True,
            env=environment(),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS_MAX
        while "Ctrl+C stops" not in (banner := output.read_text()):
            assert process.poll() is None, banner
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process, banner
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def port_of(banner: str) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/v1/stream/\n", banner)
    assert found is not None, banner
    return int(found[1])


@pytest.fixture(params=["--memory", "--data-dir"])
def place(request, tmp_path) -> list[str]:
    extra = [str(tmp_path / "data")] if request.param == "--data-dir" else []
    return [request.param, *extra]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_stops_it_in_good_order(tmp_path, place, number, status):
    with serving(tmp_path, *place) as (process, banner):
        port = port_of(banner)
        with Connection(port) as writer, Connection(port) as poller, Connection(port) as reader:
            kind = {"content_type": "text/plain"}
            writer.send(request_bytes("PUT", "/v1/stream/a", b"data", **kind))
            assert writer.answer().status == 201
            poller.send(request_bytes("GET", "/v1/stream/a?offset=now&live=long-poll"))
            reader.send(request_bytes("GET", "/v1/stream/a?offset=-1&live=sse"))
            reader.head()
            assert b"data:data" in reader.chunk()
            process.send_signal(number)
            assert poller.answer().status == 204
            assert reader.chunk() == b""
        assert process.wait(SECONDS_MAX) == status
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_the_curl_lines_of_the_banner_work(tmp_path, place):
    with serving(tmp_path, *place, "--sse-max-age", "1") as (_, banner):
        lines = [line.strip() for line in banner.splitlines() if line.strip().startswith("curl")]
        assert len(lines) == 2
        for line in lines:
            done = subprocess.run(
                line.replace("curl", curl.command(), 1),
                shell=True,
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert "data:Hello, stream." in done.stdout


def test_a_unix_socket(tmp_path, place):
    path = tmp_path / "s"
    with serving(tmp_path, *place, "--uds", str(path)) as (process, banner):
        assert f"--unix-socket {path}" in banner
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/v1/stream/none")
        assert connection.getresponse().status == 404
        connection.close()
        process.terminate()
        assert process.wait(SECONDS_MAX) == 0
    assert not path.exists()


def test_a_taken_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_to_end("--memory", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr


def test_other_hosts_need_a_word():
    done = run_to_end("--memory", "--port", "0", "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--allow-unauthenticated" in done.stderr


def test_other_hosts_with_that_word(tmp_path):
    arguments = ["--memory", "--host", "0.0.0.0", "--allow-unauthenticated"]
    with serving(tmp_path, *arguments) as (_, banner):
        assert "whoever reaches this port" in banner
        with Connection(port_of(banner)) as connection:
            connection.send(request_bytes("GET", "/"))
            assert connection.answer().status == 404


def test_directories_that_cannot_be_opened_are_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a directory")
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "FORMAT").write_text("durastream 999\n")
    for place in [file, newer]:
        done = run_to_end("--port", "0", "--data-dir", str(place))
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.count("\n") == 1
        assert place.name in done.stderr


def test_a_directory_in_use_is_one_line(tmp_path):
    place = ["--data-dir", str(tmp_path / "data")]
    with serving(tmp_path, *place):
        done = run_to_end("--port", "0", *place)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1
    assert "data" in done.stderr


def test_streams_are_there_after_a_restart(tmp_path):
    place = ["--data-dir", str(tmp_path / "data")]
    kind = {"content_type": "text/plain"}
    for number, status in enumerate([201, 200]):
        with serving(tmp_path, *place) as (process, banner), Connection(port_of(banner)) as client:
            client.send(request_bytes("PUT", "/v1/stream/a", b"", **kind))
            assert client.answer().status == status
            client.send(request_bytes("POST", "/v1/stream/a", b"%d" % number, **kind))
            assert client.answer().status == 204
            client.send(request_bytes("GET", "/v1/stream/a"))
            assert client.answer().body == b"01"[: number + 1]
            process.terminate()
            assert process.wait(SECONDS_MAX) == 0


def test_asgi_under_a_plain_uvicorn(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["-m", "uvicorn", "durastream.asgi:app", "--port", str(port), "--lifespan", "on"]
    env = {**environment(), "DURASTREAM_DATA_DIR": str(tmp_path / "data")}
    with (tmp_path / "output").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments], stdout=file, stderr=file, env=env
        )
    try:
        deadline = time.monotonic() + SECONDS_MAX
        while "running on" not in (tmp_path / "output").read_text():
            assert process.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (tmp_path / "data").is_dir()
        with Connection(port) as connection:
            connection.send(request_bytes("PUT", "/v1/stream/a", b"x", content_type="text/plain"))
            assert connection.answer().status == 201
        process.terminate()
        process.wait(SECONDS_MAX)
        assert "Application shutdown complete" in (tmp_path / "output").read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
