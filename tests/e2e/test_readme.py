"""Whatever the README shows works as it stands there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import curl
from support.http_client import HttpClient
from support.node import require_node
from support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TEXT = {"Content-Type": "text/plain"}


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"no {language} in the README"
    return found


PROGRAMS = [block for block in blocks("python") if "fastapi" not in block]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", "--long-poll-timeout", "1") as process:
        yield process


def run(*command: str | Path, folder: Path) -> str:
    answer = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs(tmp_path, number):
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[number])
    run(sys.executable, "-W", "error", program, folder=tmp_path)


@pytest.mark.parametrize("command", [curl.command(), curl.STAND_IN], ids=["curl", "stand-in"])
def test_the_tour(server, tmp_path, command):
    (tour,) = blocks("sh")
    script = tour.replace("http://127.0.0.1:4437", server.base_url)
    script = script.replace("curl ", f"{command} -sS ")
    assert script.count(server.base_url) == 1
    # Only the event stream is ended by its own time limit, with status 28.
    script = re.sub(r"^(.*--max-time.*)$", r"\1 || [ $? = 28 ]", script, flags=re.MULTILINE)
    output = run("bash", "-eu", "-c", script, folder=tmp_path)
    assert '[{"say": "Hello"},{"say": "again"},{"n": 1.0}]' in output
    assert '[{"say": "again"},{"n": 1.0}]' in output
    assert "event: control" in output
    statuses = re.findall(r"^HTTP/1.1 (\d+)", output, re.MULTILINE)
    assert statuses == ["200", "200", "204", "204"]
    with HttpClient(server.port) as client:
        assert b'{"once": true}' in client.read_all("chat")
        assert client.request("HEAD", "chat").headers["Stream-Closed"] == "true"
        assert client.request("HEAD", "chat-fork").status == 404


def test_the_official_client(server, tmp_path):
    (program,) = blocks("js")
    # Below tests/, where Node finds the package.
    script = Path(__file__).with_name("readme.generated.mjs")
    script.write_text(program.replace("http://127.0.0.1:4437", server.base_url))
    try:
        output = run(require_node(), script, folder=tmp_path)
    finally:
        script.unlink()
    assert "messages, next offset" in output
    with HttpClient(server.port) as client:
        assert client.read_all("from-js").endswith(b'{"n":99}]')


def test_mounted_in_an_application(tmp_path):
    (program,) = [block for block in blocks("python") if "fastapi" in block]
    (tmp_path / "program.py").write_text(program)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "program:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            with HttpClient(port, root="/streams/v1/stream/") as client:
                assert client.request("PUT", "mounted", b"Hello.", TEXT).status == 201
                assert client.read_all("mounted") == b"Hello."
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the application does not listen"
            time.sleep(0.05)
        else:
            return
