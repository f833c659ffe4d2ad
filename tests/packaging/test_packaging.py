"""sdist and wheel: what is in them, and that the wheel works where nothing else of ours is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.http_client import HttpClient
from support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["_native", "cli", "engine", "protocol", "server"]
TEXT = {"Content-Type": "text/plain"}

pytestmark = pytest.mark.timeout(600)  # compiles everything once more


def run(*command: str | Path) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def sources(*suffixes: str) -> set[str]:
    """Our files with these suffixes, as paths inside the import package."""
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for suffix in suffixes
        for path in (ROOT / package).rglob(f"*{suffix}")
    }


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sdist, and the wheel built from it, of a copy with nothing compiled in it."""
    folder = tmp_path_factory.mktemp("packaging")
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    for name in listed.splitlines():
        origin, target = ROOT / name, folder / "source" / name
        if origin.is_symlink() or origin.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, target, follow_symlinks=False)
    options = ["--no-isolation", "--outdir", folder / "dist"]
    run(sys.executable, "-m", "build", *options, folder / "source")
    return folder / "dist"


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    executable = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", executable, "install", "--quiet"]
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel)
    return executable


def test_the_sdist_holds_every_source_and_nothing_generated(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    package = {name.removeprefix("src/durastream/") for name in names}
    assert sources(".py", ".pyx", ".pxd", ".pyi", ".h") <= package
    assert {"LICENSE", "README.md", "setup.py", "pyproject.toml"} <= names
    assert [name for name in names if name.endswith((".c", ".so"))] == []


def test_the_wheel_holds_what_runs_and_its_types(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    package = {name.removeprefix("durastream/") for name in names if ".dist-info/" not in name}
    assert sources(".py", ".pyi") | {"py.typed", "__init__.py", "__main__.py"} <= package
    compiled = {name.partition(".")[0] + ".pyx" for name in package if name.endswith(".so")}
    assert compiled == sources(".pyx")
    assert [name for name in names if name.endswith((".c", ".pyx", ".pxd", ".h"))] == []
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"durastream"}


def test_an_installed_server_works(python, tmp_path):
    home = run(python, "-P", "-c", "import durastream; print(durastream.__file__)")
    assert Path(home.strip()).is_relative_to(python.parent.parent)
    assert "durastream" in run(python.parent / "durastream", "--version")
    with ServerProcess(tmp_path / "data", python=python) as server, HttpClient(server.port) as http:
        assert http.request("PUT", "first", headers=TEXT).status == 201
        assert http.request("POST", "first", b"Hello.", TEXT).status == 204
        assert http.read_all("first") == b"Hello."
