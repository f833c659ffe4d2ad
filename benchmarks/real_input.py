"""Real text through the official client, the server killed in the middle, every byte compared.

The input is source text of packages installed by name, as JSON lines of path and text. It is
appended by one idempotent producer; the server is killed with SIGKILL while batches are under
way and started again; the producer resumes. What the client then reads must be the input,
byte for byte: nothing missing, nothing twice. Exit status 1 if it is not.

    .venv/bin/python benchmarks/real_input.py --size-mb 100
    .venv/bin/python benchmarks/real_input.py --size-mb 100 --content-type application/json
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import json
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.node import require_node  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402

CLIENT = Path(__file__).with_suffix(".mjs")
CORPUS = ROOT / ".cache" / "real_input"
PACKAGES = ["django", "matplotlib", "networkx", "pandas", "scikit-learn", "scipy", "sympy"]
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".js", ".html", ".md", ".rst", ".txt"}
MB = 1_000_000


def main() -> int:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="durastream-real-input-") as name:
        folder = Path(name)
        given, received = folder / "given.jsonl", folder / "received.jsonl"
        write_input(given, options.size_mb * MB, options.installed)
        facts = run(given, received, folder / "data", options)
        facts["same"] = filecmp.cmp(given, received, shallow=False)
        facts["sha256"] = digest(received)
    for key, value in facts.items():
        print(f"{key:22} {value}")
    return 0 if facts["same"] and facts["batches sent again"] > 0 else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="chooses the moments of the kills")
    parser.add_argument("--content-type", default="application/x-ndjson")
    parser.add_argument(
        "--installed",
        action="store_true",
        help="take the packages of this environment only, instead of installing more",
    )
    options = parser.parse_args()
    assert isinstance(options, argparse.Namespace)
    return options


# -- the input -----------------------------------------------------------------------------


def write_input(path: Path, size: int, installed: bool) -> None:
    folders = [Path(sysconfig.get_path("purelib"))]
    if not installed:
        install_corpus()
        folders.append(CORPUS)
    written = 0
    with path.open("wb") as file:
        for line in source_lines(folders):
            written += file.write(line)
            if written >= size:
                return
    raise SystemExit(f"{path.name}: only {written} bytes of source text in {folders}")


def source_lines(folders: list[Path]) -> Iterator[bytes]:
    """One line for each file: written as JavaScript would write it, so bytes can be compared."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                try:
                    text = path.read_bytes().decode()
                except UnicodeDecodeError:
                    continue
                facts = {"path": str(path.relative_to(folder)), "text": text}
                yield json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def install_corpus() -> None:
    if all((CORPUS / name.replace("scikit-learn", "sklearn")).is_dir() for name in PACKAGES):
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", CORPUS, *PACKAGES], check=True)


# -- the run -------------------------------------------------------------------------------


def run(given: Path, received: Path, data_dir: Path, options: argparse.Namespace) -> dict[str, Any]:
    size = given.stat().st_size
    chance = random.Random(options.seed)
    kill_at = sorted(chance.uniform(0.2, 0.8) * size for _ in range(options.kills))
    with ServerProcess(data_dir) as server:
        url = f"{server.base_url}/v1/stream/real-input"
        started = time.monotonic()
        summary, restarts = write(server, url, given, options.content_type, kill_at)
        wrote = time.monotonic() - started
        server.stop()
        server.start()
        started = time.monotonic()
        closed = client("read", url, received)[-1]["closed"]
        read = time.monotonic() - started
    assert closed is True, "the stream is not closed, though its producer closed it"
    return {
        "content type": options.content_type,
        "bytes": size,
        "lines": given.read_bytes().count(b"\n"),
        "batches": summary["batches"],
        "batches sent again": summary["resent"],
        "SIGKILLs": len(restarts),
        "restart to banner, s": " ".join(f"{seconds:.2f}" for seconds in restarts),
        "written, s": f"{wrote:.1f} ({size / MB / wrote:.0f} MB/s)",
        "read, s": f"{read:.1f} ({size / MB / read:.0f} MB/s)",
    }


def write(
    server: ServerProcess, url: str, given: Path, content_type: str, kill_at: list[float]
) -> tuple[dict[str, Any], list[float]]:
    """Let the client write; kill the server whenever it has acknowledged so many bytes."""
    restarts: list[float] = []
    command = [require_node(), CLIENT, "write", url, content_type, given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        facts: dict[str, Any] = {}
        for output in process.stdout:
            facts = json.loads(output)
            if kill_at and facts.get("acknowledged", 0) >= kill_at[0]:
                kill_at.pop(0)
                server.kill()
                started = time.monotonic()
                server.start()
                restarts.append(time.monotonic() - started)
    if process.returncode:
        raise SystemExit(f"the writing client ended with {process.returncode}")
    return facts, restarts


def client(*arguments: str | Path) -> list[dict[str, Any]]:
    command = [require_node(), CLIENT, *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
