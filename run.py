#!/usr/bin/env python3
"""Run durastream from a checkout: make its environment, build it, then do what is asked.

Needs Python 3.11, a C compiler and nothing else; uses the standard library only. What it makes
lives in `.venv` and beside the sources, so `clean` takes all of it away. It must never change
anything outside the checkout, and never leave a half-made environment that looks whole.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - older versions must understand this whole file
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(
        f"run.py: Python 3.11 or newer is needed, this is {found}: apt-get install python3.11 "
        "python3.11-venv python3.11-dev, then run it with python3.11"
    )

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "durastream.json"  # what was installed and built; written last
UNFINISHED = VENV / "unfinished"  # there while an installation is under way
LOCK = ROOT / ".cache" / "run.lock"
PROJECT_FILES = ("pyproject.toml", "setup.py", "constraints.txt")
COMPILED_FOLDERS = ("_native", "engine", "server")
PIP = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
BUILD = os.environ.get("DURASTREAM_BUILD", "release")  # setup.py says which there are

Stamp = dict[str, Any]
STAMP_KEYS = {"root", "python", "groups", "project", "sources", "build", "modules", "installed"}

HELP = """\
usage: python3 run.py COMMAND [ARGUMENT…]

  serve [ARGUMENT…]  start a server: http://127.0.0.1:4437, durable in ./data
                     (all arguments go to `durastream serve`; see serve --help)
  test [ARGUMENT…]   run the tests; arguments go to pytest
  lint               formatting, lint, types and stubs
  sanitize KIND [ARGUMENT…]
                     run the tests under the compiler's sanitizers: address or threads
  bench [ARGUMENT…]  run the benchmarks; arguments go to pytest
  bench --peers [ARGUMENT…]
                     measure it beside other servers of the protocol
  bench --instructions
                     count those of hot operations; fails if there are more
  build              make the environment and the compiled modules, no more
  clean              remove what the other commands made, except ./data

The first command takes a minute: it makes .venv and builds. Later ones start at once."""


def main(arguments: list[str]) -> None:
    """Make what the command needs, then become the command, so that signals reach it."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("help", "-h", "--help"):
        print(HELP)
    elif command == "serve":
        prepare([])
        execute(["-P", "-m", "durastream", "serve", *rest])
    elif command == "test":
        prepare(["test"])
        check_run([PYTHON, "-P", ROOT / "tests" / "support" / "node.py"])
        execute(["-m", "pytest", *rest], folder=ROOT)
    elif command == "lint":
        prepare(["test", "lint"])
        execute([".ci/lint.py", *rest], folder=ROOT)
    elif command == "sanitize":
        prepare(["test"])
        execute([".ci/sanitize.py", *rest], folder=ROOT)
    elif command == "bench" and rest[:1] == ["--peers"]:
        prepare(["test", "bench"])
        execute(["benchmarks/peers_bench.py", *rest[1:]], folder=ROOT)
    elif command == "bench" and rest[:1] == ["--instructions"]:
        prepare(["test"])
        execute(["benchmarks/count_instructions.py", *rest[1:]], folder=ROOT)
    elif command == "bench":
        prepare(["test"])
        execute(["-m", "pytest", "benchmarks", "--benchmark-only", *rest], folder=ROOT)
    elif command == "build":
        prepare([])
    elif command == "clean":
        clean()
    else:
        fail(f"no command {command!r}; run it without arguments for a list")


def execute(arguments: list[str], folder: Path | None = None) -> NoReturn:
    """Become the environment's Python. Without ``folder`` the caller's directory stays."""
    if folder is not None:
        os.chdir(folder)
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *arguments])


# -- the environment -----------------------------------------------------------------------


def prepare(groups: list[str]) -> None:
    """Install and build what is not there yet. Costs milliseconds if nothing changed."""
    if is_prepared(groups):
        return
    require_machine()
    with locked():
        if is_prepared(groups):  # another run.py did it while this one waited
            return
        if not is_usable(read_stamp()) and not is_adoptable():
            make_environment()
        stamp = read_stamp()
        groups = sorted({*groups, *stamp.get("groups", [])})
        complete = is_installed(stamp, groups)
        if not complete:
            install_requirements(groups)
        if not is_built(stamp):
            say("building")
            force = ["--force"] if stamp.get("build") not in (None, BUILD) else []
            setup: list[str | Path] = [PYTHON, "setup.py", "--quiet", "build_ext", "--inplace"]
            check_run([*setup, *force], quiet=True)
        if not complete:
            # "none": pip would compile all of it again.
            in_place = ("--no-deps", "--no-build-isolation", "--editable", ROOT)
            check_run([*PIP, *in_place], DURASTREAM_BUILD="none")
        write_stamp(groups)


def is_prepared(groups: list[str]) -> bool:
    stamp = read_stamp()
    return is_usable(stamp) and is_installed(stamp, groups) and is_built(stamp)


def is_usable(stamp: Stamp) -> bool:
    """Whether .venv is whole, of this Python, and was made for this place."""
    return (
        not UNFINISHED.exists()
        and os.access(PYTHON, os.X_OK)
        and site_packages().is_dir()
        and stamp.get("root") == str(ROOT)
        and stamp.get("python") == python_identity()
    )


def is_installed(stamp: Stamp, groups: list[str]) -> bool:
    return (
        stamp.get("project") == project_digest()
        and set(groups) <= set(stamp["groups"])
        and set(stamp["installed"]) <= set(os.listdir(site_packages()))
    )


def is_built(stamp: Stamp) -> bool:
    return (
        stamp.get("sources") == source_digest()
        and stamp.get("build") == BUILD
        and stamp["modules"] == compiled_modules()
    )


def is_adoptable() -> bool:
    """Whether somebody made .venv by hand, for this Python and this place, and it works."""
    if STAMP.exists() or UNFINISHED.exists() or not os.access(PYTHON, os.X_OK):
        return False
    question = "import sys, pip; print(sys.implementation.cache_tag, sys.base_prefix, sys.prefix)"
    answer = subprocess.run([PYTHON, "-c", question], capture_output=True, text=True)
    return answer.stdout.strip() == f"{python_identity()} {VENV}"


def make_environment() -> None:
    say(f"making {VENV.relative_to(ROOT)} for Python {sys.version.split()[0]}")
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir()
    UNFINISHED.touch()
    # The base interpreter: this one may itself live in the folder just removed.
    check_run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", VENV])


def install_requirements(groups: list[str]) -> None:
    """Install what building and running need, and the wanted dependency groups."""
    say("installing what it needs" + (f", and to {' and '.join(groups)}" if groups else ""))
    UNFINISHED.touch()
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    requirements = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for group in groups:
        requirements += project["dependency-groups"][group]
    check_run([*PIP, "--constraint", ROOT / "constraints.txt", *requirements])


def clean() -> None:
    """Remove environment, builds and caches; never data."""
    folders = [VENV, ROOT / "build", ROOT / "dist", ROOT / "tests" / "node_modules"]
    folders += [*ROOT.glob(".*_cache"), ROOT / ".cache", ROOT / ".hypothesis"]
    folders += [*ROOT.glob("src/*.egg-info"), *ROOT.glob("[!.]*/**/__pycache__")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for name in COMPILED_FOLDERS:
        for pattern in ("*.c", "*.so"):
            for file in (ROOT / name).glob(pattern):
                file.unlink()


# -- what is there -------------------------------------------------------------------------


def read_stamp() -> Stamp:
    try:
        stamp: Stamp = json.loads(STAMP.read_text())
        return stamp if set(stamp) == STAMP_KEYS else {}
    except (OSError, ValueError):
        return {}


def write_stamp(groups: list[str]) -> None:
    stamp = {
        "root": str(ROOT),
        "python": python_identity(),
        "groups": groups,
        "project": project_digest(),
        "sources": source_digest(),
        "build": BUILD,
        "modules": compiled_modules(),
        "installed": sorted(os.listdir(site_packages())),
    }
    draft = STAMP.with_suffix(".draft")
    draft.write_text(json.dumps(stamp, indent=1))
    draft.replace(STAMP)
    UNFINISHED.unlink(missing_ok=True)


def python_identity() -> str:
    return f"{sys.implementation.cache_tag} {sys.base_prefix}"


def site_packages() -> Path:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return VENV / "lib" / name / "site-packages"


def project_digest() -> str:
    digest = hashlib.sha256()
    for name in PROJECT_FILES:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def source_digest() -> str:
    """Names, sizes and times of all that is compiled."""
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for name in COMPILED_FOLDERS
        for pattern in ("*.pyx", "*.pxd", "*.h")
        for path in sorted((ROOT / name).glob(pattern))
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def compiled_modules() -> list[str]:
    paths = [path for name in COMPILED_FOLDERS for path in (ROOT / name).glob("*.so")]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def require_machine() -> None:
    """End with one line that says what the machine lacks and how to get it."""
    packages = []
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        packages.append(f"{version}-venv")
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(compiler.split()[0]) is None:
        packages.append("gcc libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.append(f"{version}-dev")
    if packages:
        fail(f"this machine lacks a tool that building needs: apt-get install {' '.join(packages)}")


@contextmanager
def locked() -> Iterator[None]:
    """One installation at a time in this checkout; the lock ends with the process."""
    LOCK.parent.mkdir(exist_ok=True)
    with open(LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run.py that is installing")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_run(command: Sequence[str | Path], quiet: bool = False, **environment: str) -> None:
    """Run to the end or fail; with ``quiet``, its output is shown only when it failed."""
    process = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if process.returncode:
        print(process.stdout or "", file=sys.stderr, end="")
        shown = " ".join(str(part) for part in command[:5])
        fail(f"exit status {process.returncode} from: {shown} …")


def say(message: str) -> None:
    print(f"run.py: {message}", file=sys.stderr, flush=True)


def fail(message: str) -> NoReturn:
    sys.exit(f"run.py: {message}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
