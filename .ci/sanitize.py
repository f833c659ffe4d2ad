"""Run the tests on modules built under AddressSanitizer and UndefinedBehaviorSanitizer.

    python3 run.py sanitize [ARGUMENT…]         arguments go to pytest

The build lives in a copy of the tree, .cache/sanitize, so that the usual one stays as it is; files
that have not changed are not built again. Memory of Python itself comes from malloc here, so that
the sanitizer sees each object. Tests that start Node or make wheels are left out: they say nothing
of native code that the others do not. The first error ends the process that met it, and the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".cache" / "sanitize"
LIBRARIES = ("libasan.so", "libubsan.so")
LEFT_OUT = ("tests/conformance", "tests/packaging", "tests/e2e/test_official_client.py")
SECONDS_PER_TEST = 600


def main(arguments: list[str]) -> int:
    copy_tree()
    command = [sys.executable, "-P", "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(
        command, cwd=COPY, env={**os.environ, "DURASTREAM_BUILD": "sanitize"}, check=True
    )
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    pytest = ["pytest", "-p", "no:cacheprovider", f"--timeout={SECONDS_PER_TEST}", *ignored]
    command = [sys.executable, "-m", *pytest, *(arguments or ["-q", "-x"])]
    return subprocess.run(command, cwd=COPY, env=environment(), check=False).returncode


def copy_tree() -> None:
    """Copy what changed of all that is, or would be, in the repository."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    wanted = {Path(name) for name in answer.stdout.split("\0") if name}
    for path in sorted(wanted):
        source, target = ROOT / path, COPY / path
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, and not yet so for git
        if target.is_symlink() or (target.exists() and is_same(source, target)):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    for folder in ("tests", "_native", "server", "engine", "protocol", "cli"):
        for found in (COPY / folder).rglob("*.py*"):
            path = found.relative_to(COPY)
            if found.suffix in (".py", ".pyx", ".pxd", ".pyi") and path not in wanted:
                found.unlink()


def is_same(source: Path, target: Path) -> bool:
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(COPY / "src"),
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": " ".join(map(library, LIBRARIES)),
        # Python keeps what it made at its start for ever: leaks have tests of their own.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }


def library(name: str) -> str:
    compiler = os.environ.get("CC", "gcc")
    command = [compiler, f"-print-file-name={name}"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        sys.exit(f"{compiler} has no {name}: install its sanitizer libraries")
    return str(Path(found).resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
