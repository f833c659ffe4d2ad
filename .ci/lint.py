"""Formatting, lint, types and stubs of the whole tree; ends with 1 if any of them complains.

Every tool sees everything, also after one has failed, so that one run shows all there is to do.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "durastream"
ALLOWLIST = ROOT / "tests" / "stubtest_allowlist.txt"


def main() -> int:
    cython = [path.relative_to(ROOT) for path in (*sources("*.pyx"), *sources("*.pxd"))]
    passed = [
        run("ruff", "check", "."),
        run("ruff", "format", "--check", "."),
        run("cython_lint.cython_lint", *map(str, cython)),
        types_are_right(),
        stubs_are_right(),
    ]
    return 0 if all(passed) else 1


def sources(pattern: str) -> list[Path]:
    """Ours below the package, through its links."""
    return sorted(path for folder in SOURCE.iterdir() for path in folder.glob(f"**/{pattern}"))


def run(module: str, *arguments: str) -> bool:
    print(f"-- {module}", flush=True)
    command = [sys.executable, "-P", "-m", module, *arguments]
    # cython-lint starts pycodestyle by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def types_are_right() -> bool:
    """mypy --strict, and that it saw every file: an editable install can hide them all."""
    print("-- mypy", flush=True)
    command = [sys.executable, "-P", "-m", "mypy"]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(answer.stdout, end="")
    seen = re.search(r"(\d+) source files", answer.stdout)
    expected = len(sources("*.py")) + len(sources("*.pyi"))
    if answer.returncode == 0 and (seen is None or int(seen[1]) < expected):
        print(f"mypy saw fewer than the {expected} files below {SOURCE.relative_to(ROOT)}")
        return False
    return answer.returncode == 0


def stubs_are_right() -> bool:
    """Each compiled module has the signatures that its stub promises."""
    modules = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in sources("*.pyx")
    ]
    return run("mypy.stubtest", "--allowlist", str(ALLOWLIST), *modules)


if __name__ == "__main__":
    sys.exit(main())
