"""Other servers of the same protocol: how each is installed, started and addressed.

Everything that is run against durastream is run against them too, on the same machine, by the
same program. Each comes by name from its registry, in one pinned version, into ``.cache/peers`` of
the checkout; nothing of them is part of this repository, and nothing is installed elsewhere.

    .venv/bin/python benchmarks/peers.py            # install all
    .venv/bin/python benchmarks/peers.py node       # install one
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "peers"
ROOT = "/v1/stream/"

# What a server may lack. It is left out for that one, and said beside its figures.
FORK_BODIES = "first data of a fork in the request that creates it"


class CannotInstall(Exception):
    """A tool is missing, or a package did not build; the message says what to do."""


@dataclass(frozen=True)
class Server(ABC):
    """A server that can be started on a port of the loopback, over a data directory.

    Attributes:
        name: as given on command lines.
        title: as written in tables.
        version: which one is run.
        lacks: of the protocol, as named above.
    """

    name: str
    title: str
    version: str
    lacks: frozenset[str] = field(default=frozenset(), kw_only=True)

    @abstractmethod
    def install(self) -> None:
        """Make it ready to run; costs nothing if it is. Raises: CannotInstall."""

    @abstractmethod
    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        """What becomes the server, in the foreground."""

    def environment(self, data_dir: Path, port: int, long_poll_seconds: float) -> dict[str, str]:
        """The environment for ``command``: this one, and what the server reads from it."""
        return {k: v for k, v in os.environ.items() if not k.startswith(("DS_", "DURASTREAM_"))}

    def verify_command(self, data_dir: Path) -> list[str]:
        """What checks a stopped server's directory and ends with 0 if it is whole; or nothing."""
        return []

    def troubles(self, log: bytes) -> list[str]:
        """Lines of what it printed that tell of a fault of its own, where that can be told."""
        return []

    def url(self, port: int, path: str = "") -> str:
        """The URL of the stream ``path``."""
        return f"http://127.0.0.1:{port}{ROOT}{path}"


@dataclass(frozen=True)
class NodeServer(Server):
    package: str

    @property
    def folder(self) -> Path:
        return CACHE / f"node-{self.version}"

    def install(self) -> None:
        script = self.folder / "node_server.mjs"
        if not script.exists():
            npm = require_tool("npm", "Node 20 or newer with npm")
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ["--no-audit", "--no-fund", "--no-package-lock", "--no-save"]
            run([npm, "install", *options, f"{self.package}@{self.version}"], self.folder)
        shutil.copy(HERE / "node_server.mjs", script)  # last: it says that the package is there

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        node = require_tool("node", "Node 20 or newer")
        script = self.folder / "node_server.mjs"
        return [node, str(script), str(port), str(data_dir), str(int(long_poll_seconds * 1000))]


@dataclass(frozen=True)
class CargoServer(Server):
    """A crate that installs one binary, ``durable-streams-server``."""

    crate: str

    @property
    def binary(self) -> Path:
        return CACHE / f"{self.crate}-{self.version}" / "bin" / "durable-streams-server"

    def install(self) -> None:
        if not self.binary.exists():
            cargo = require_tool("cargo", "Rust with cargo")
            CACHE.mkdir(parents=True, exist_ok=True)
            root = self.binary.parent.parent
            run([cargo, "install", "--root", str(root), f"{self.crate}@{self.version}"], CACHE)


@dataclass(frozen=True)
class OfficialRustServer(CargoServer):
    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        place = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
        wait = ["--long-poll-timeout-ms", str(int(long_poll_seconds * 1000))]
        return [str(self.binary), *place, *wait, "--durability", "wal"]


@dataclass(frozen=True)
class OtherRustServer(CargoServer):
    """The third-party crate; it takes its settings from the environment."""

    mode: str

    def command(self, data_dir: Path, port: int, long_poll_seconds: float = 30.0) -> list[str]:
        return [str(self.binary)]

    def environment(self, data_dir: Path, port: int, long_poll_seconds: float) -> dict[str, str]:
        settings = {
            "SERVER__BIND_ADDRESS": f"127.0.0.1:{port}",
            "STORAGE__MODE": self.mode,
            "STORAGE__DATA_DIR": str(data_dir),
            "LIMITS__MAX_STREAM_BYTES": str(8 << 30),
            "LIMITS__MAX_MEMORY_BYTES": str(16 << 30),
            "OBSERVABILITY__RUST_LOG": "error",
            "TRANSPORT__CONNECTION__LONG_POLL_TIMEOUT_SECS": str(max(1, int(long_poll_seconds))),
        }
        own = {f"DS_{name}": value for name, value in settings.items()}
        return {**super().environment(data_dir, port, long_poll_seconds), **own}


def require_tool(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotInstall(f"{name} is not there: install {what} to run this peer")
    return found


def run(command: list[str], folder: Path) -> None:
    """Run a package manager, at low priority. Raises: CannotInstall."""
    print("installing:", *command, file=sys.stderr, flush=True)
    answer = subprocess.run(["nice", *command], cwd=folder, check=False, stdout=sys.stderr)
    if answer.returncode:
        raise CannotInstall(f"exit status {answer.returncode} from: {' '.join(command)}")


THIRD_PARTY = "durable-streams-server"
PEERS: dict[str, Server] = {
    peer.name: peer
    for peer in (
        NodeServer("node", "Node reference server, files", "0.3.7", "@durable-streams/server"),
        OfficialRustServer("rust", "Official Rust server, WAL", "0.1.5", "durable-streams"),
        OtherRustServer(
            "rust-files",
            "Third-party Rust server, files",
            "0.3.0",
            THIRD_PARTY,
            "file-durable",
            lacks=frozenset({FORK_BODIES}),
        ),
        OtherRustServer(
            "rust-redb",
            "Third-party Rust server, redb",
            "0.3.0",
            THIRD_PARTY,
            "acid",
            lacks=frozenset({FORK_BODIES}),
        ),
    )
}


def main(names: list[str]) -> int:
    for name in names or list(PEERS):
        try:
            PEERS[name].install()
        except CannotInstall as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(f"{name}: {PEERS[name].title} {PEERS[name].version} is there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
