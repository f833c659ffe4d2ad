"""Run the tests on modules built under the compiler's sanitizers.

    python3 run.py sanitize address [ARGUMENT…]     AddressSanitizer and UBSan, all tests
    python3 run.py sanitize threads [ARGUMENT…]     ThreadSanitizer, tests with threads

Arguments go to pytest. The build lives in a copy of the tree below .cache, so that the usual one
stays as it is; files that have not changed are not built again. Under AddressSanitizer memory of
Python itself comes from malloc, so that each object is seen. Tests that start Node or make wheels
are left out: they say nothing of native code that the others do not. ThreadSanitizer sees what the
compiled modules do, and every mutex and condition, the interpreter's lock included. The first error
ends the process that met it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (
    "tests/conformance",
    "tests/packaging",
    "tests/e2e/test_official_client.py",
    "tests/test_tidy.py",  # it asks git
)
WITH_THREADS = (
    "tests/unit/test_log.py",
    "tests/unit/test_log_stall.py",
    "tests/unit/test_file_store_loops.py",
    "tests/unit/test_file_store_races.py",
    "tests/contract/test_contract_threads.py",
    "tests/contract/test_contract_wait.py",
    "tests/stateful/test_linearizability.py",
)
SECONDS_PER_TEST = 900
REPORTS = Path("build") / "reports"  # in the copy


@dataclass(frozen=True)
class Kind:
    """One kind of build: its name for setup.py, what it needs, and what it shall notice."""

    build: str
    libraries: tuple[str, ...]
    environment: dict[str, str]
    tests: tuple[str, ...]
    mistake: str  # a function of canary.c
    complaint: str


KINDS = {
    "address": Kind(
        "sanitize",
        ("libasan.so", "libubsan.so"),
        {
            "PYTHONMALLOC": "malloc",
            # Python keeps what it made at its start for ever: leaks have tests of their own.
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        },
        (),
        "overrun",
        "heap-buffer-overflow",
    ),
    "threads": Kind(
        "threads",
        ("libtsan.so",),
        {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:history_size=4"},
        WITH_THREADS,
        "race",
        "data race",
    ),
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in KINDS:
        print(__doc__)
        return 2
    kind, rest = KINDS[arguments[0]], arguments[1:]
    copy = ROOT / ".cache" / f"sanitize-{arguments[0]}"
    copy_tree(copy)
    command = [sys.executable, "-P", "setup.py", "--quiet", "build_ext", "--inplace"]
    environment = {**os.environ, "DURASTREAM_BUILD": kind.build}
    subprocess.run(command, cwd=copy, env=environment, check=True)
    environment = environment_of(kind, copy)
    require_awake(kind, copy, environment)
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    pytest = ["pytest", "-p", "no:cacheprovider", f"--timeout={SECONDS_PER_TEST}", *ignored]
    chosen = [] if any(argument.startswith("tests/") for argument in rest) else kind.tests
    command = [sys.executable, "-m", *pytest, *rest, *chosen]
    status = subprocess.run(command, cwd=copy, env=environment, check=False).returncode
    return show_reports(copy) or status


def show_reports(copy: Path) -> int:
    """Print what the sanitizers wrote; 1 if that was anything."""
    reports = sorted((copy / REPORTS).iterdir())
    for report in reports:
        print(report.read_text(errors="replace"))
    return 1 if reports else 0


def environment_of(kind: Kind, copy: Path) -> dict[str, str]:
    # To files: pytest keeps what a process says on stderr, and loses it when that is aborted.
    options = {
        name: f"{value}:log_path={copy / REPORTS / 'report'}" if "OPTIONS" in name else value
        for name, value in kind.environment.items()
    }
    return {
        **os.environ,
        **options,
        "PYTHONPATH": str(copy / "src"),
        "LD_PRELOAD": " ".join(map(library, kind.libraries)),
    }


def require_awake(kind: Kind, copy: Path, environment: dict[str, str]) -> None:
    """A sanitizer that is not there finds nothing: have it find something."""
    flag = "thread" if kind.build == "threads" else "address,undefined"
    canary = copy / "build" / "canary.so"
    options = ["-g", f"-fsanitize={flag}", "-shared", "-fPIC"]
    command = [compiler(), *options, str(ROOT / ".ci" / "canary.c"), "-o", str(canary)]
    subprocess.run(command, check=True)
    script = (
        "import ctypes, durastream._native.slab as slab;"
        f"assert slab.__file__.startswith({str(copy)!r}), slab.__file__;"
        f"assert b'__{flag[0]}san_' in open(slab.__file__, 'rb').read();"
        f"ctypes.CDLL({str(canary)!r}).{kind.mistake}()"
    )
    command = [sys.executable, "-P", "-c", script]
    reports = copy / REPORTS
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    answer = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    found = "".join(report.read_text(errors="replace") for report in reports.iterdir())
    if answer.returncode == 0 or kind.complaint not in found:
        sys.exit(f"the sanitizer overlooks a {kind.complaint}:\n{answer.stderr}{found}")
    for report in reports.iterdir():
        report.unlink()


def copy_tree(copy: Path) -> None:
    """Copy what changed of all that is, or would be, in the repository."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    wanted = {Path(name) for name in answer.stdout.split("\0") if name}
    for path in sorted(wanted):
        source, target = ROOT / path, copy / path
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, and not yet so for git
        if target.is_symlink() or (target.exists() and is_same(source, target)):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    for folder in ("tests", "_native", "server", "engine", "protocol", "cli"):
        for found in (copy / folder).rglob("*.py*"):
            path = found.relative_to(copy)
            if found.suffix in (".py", ".pyx", ".pxd", ".pyi") and path not in wanted:
                found.unlink()


def is_same(source: Path, target: Path) -> bool:
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def compiler() -> str:
    return os.environ.get("CC", "gcc")


def library(name: str) -> str:
    command = [compiler(), f"-print-file-name={name}"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        sys.exit(f"{compiler()} has no {name}: install its sanitizer libraries")
    return str(Path(found).resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
