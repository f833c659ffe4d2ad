"""The tree keeps the habits of CONTRIBUTING.md, and each check is seen to complain."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import tidy

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = list(tidy.OURS)

# The one place in the server that makes a store, for users who name only a folder.
CHOICES_OF_A_STORE = {
    ("server/lifecycle.py", "engine.file_store"),
    ("server/lifecycle.py", "engine.memory_store"),
}


def tree() -> list[str]:
    """Every file that is, or would be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    paths = [path for path in answer.stdout.splitlines() if (ROOT / path).is_file()]
    assert len(paths) > 50, "that is not this repository"
    return paths


TREE = tree()
CODE = [p for p in TREE if p.endswith((".py", ".pyx", ".pxd", ".pyi", ".h", ".mjs"))]
PYTHON = [p for p in TREE if p.endswith(".py")]
CYTHON = [p for p in TREE if p.endswith((".pyx", ".pxd"))]
TEXT = [p for p in TREE if p.endswith((".md", ".toml", ".json", ".txt", ".in", ".npmrc", "run"))]
OWN = [p for p in PYTHON if p.split("/")[0] in PACKAGES]
DOCUMENTS = [p for p in TREE if p.endswith(".md")]


def read(path: str) -> str:
    return (ROOT / path).read_text()


def complain(paths: list[str], check: Callable[[str], Iterator[str]]) -> list[str]:
    return [f"{path}: {complaint}" for path in paths for complaint in check(read(path))]


# -- the tree ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "check"),
    [
        (CODE, tidy.long_lines),
        (CODE, tidy.long_file),
        (PYTHON, tidy.long_python_functions),
        (CYTHON, tidy.long_cython_functions),
        (PYTHON, tidy.missing_docstring),
        ([*CODE, *TEXT], tidy.open_todos),
        ([*CODE, *TEXT], tidy.foreign_places),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_texts(paths, check):
    assert complain(paths, check) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    complaints = []
    for path in TREE:
        if path.split("/")[0] != package:
            continue
        if path.endswith((".py", ".pyi")):
            modules = tidy.python_imports(read(path), package)
        elif path.endswith((".pyx", ".pxd")):
            modules = tidy.cython_imports(read(path), package)
        else:
            continue
        modules = [module for module in modules if (path, module) not in CHOICES_OF_A_STORE]
        complaints += [f"{path}: {found}" for found in tidy.wrong_imports(modules, package)]
    assert complaints == []


def test_compiled_modules_have_stubs():
    modules = [path for path in CYTHON if path.endswith(".pyx")]
    assert [path for path in modules if path.replace(".pyx", ".pyi") not in TREE] == []


def test_compiled_modules_are_tested():
    """Each is named in a test, or used in C by one that is."""
    tests = "".join(read(path) for path in PYTHON if path.startswith("tests/"))
    waiting = {Path(path).stem for path in CYTHON if path.endswith(".pyx")}
    tested = {name for name in waiting if re.search(rf"\b{name}\b", tests)}
    while found := {
        name
        for name in waiting - tested
        for path in CYTHON
        if Path(path).stem in tested and re.search(rf"\.{name} cimport", read(path))
    }:
        tested |= found
    assert waiting - tested == set()


def test_documents_are_linked():
    texts = {path: read(path) for path in DOCUMENTS}
    everything = {*TREE, *(str(Path(path).parent) for path in TREE)}
    for path, text in texts.items():
        assert list(tidy.broken_links(path, text, everything)) == [], path
    assert tidy.unreachable(texts, "README.md") == set()


def test_invariants_name_what_is_there():
    tests = "".join(read(path) for path in PYTHON if path.startswith("tests/"))
    for name in re.findall(r"`([\w./]+)`", read("docs/invariants.md")):
        if name.startswith("test_"):
            assert f"def {name}(" in tests, f"no test {name}"
        elif "/" in name:
            assert (ROOT / name).exists(), f"no {name}"


def test_the_package_is_links():
    for package in PACKAGES:
        link = ROOT / "src" / "durastream" / package
        assert link.is_symlink()
        assert link.readlink() == Path("../..") / package


def test_tests_have_names_of_their_own():
    """Without packages, two files of one name would be one module."""
    tests = [path for path in PYTHON if path.startswith("tests/")]
    assert [path for path in tests if path.endswith("__init__.py")] == []
    names = Counter(Path(path).name for path in tests if Path(path).name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_package_leaks_into_the_top_level():
    """From the root `import engine` would succeed, as a second copy of the engine."""
    script = (
        "import pkgutil, importlib, sys, durastream as d\n"
        "for m in pkgutil.walk_packages(d.__path__, 'durastream.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        f"print(len(sys.modules), set({PACKAGES}) & set(sys.modules))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split(maxsplit=1)[1].strip() == "set()"


# -- the checks ----------------------------------------------------------------------------

LONG_BODY = "    x = 1\n" * 70


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (tidy.long_lines, "x" * 101),
        (tidy.long_file, "x\n" * 501),
        (tidy.long_python_functions, "def f():\n" + LONG_BODY),
        (tidy.long_cython_functions, "cdef int f(\n    int x\n) except -1:\n" + LONG_BODY),
        (tidy.missing_docstring, "x = 1\n"),
        (tidy.open_todos, "# TO" + "DO: later"),
        (tidy.foreign_places, "see /ho" + "me/someone"),
        (tidy.foreign_places, "https://regis" + "try.npmjs.org"),
    ],
)
def test_each_check_complains(check, bad):
    assert list(check(bad)) != []


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (
            tidy.long_cython_functions,
            "def f(\n    int x\n):\n    x = 1\n\n\ny = 2\n" + "z = 1\n" * 90,
        ),
        (tidy.open_todos, "# TO" + "DO(#12): later"),
        (tidy.missing_docstring, ""),
    ],
)
def test_checks_let_the_right_thing_pass(check, good):
    assert list(check(good)) == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("_native", "from ..engine.errors import X"),
        ("protocol", "import lmdb"),
        ("protocol", "from .. import engine"),
        ("engine", "from ..server.app import create_app"),
        ("server", "from ..engine.file_store import FileBackedStreamStore"),
        ("server", "from ..engine import file_store"),
        ("server", "import click"),
        ("engine", "def f():\n    import httptools"),
    ],
)
def test_wrong_imports_are_found(package, source):
    assert list(tidy.wrong_imports(tidy.python_imports(source, package), package)) != []


@pytest.mark.parametrize(
    "source", ["from ..engine cimport x", "from ..engine.x import y", "cimport numpy"]
)
def test_wrong_cython_imports_are_found(source):
    assert list(tidy.wrong_imports(tidy.cython_imports(source, "_native"), "_native")) != []


def test_lost_documents_and_broken_links_are_found():
    texts = {"README.md": "[a](docs/a.md)", "docs/a.md": "[up](../README.md)", "docs/b.md": ""}
    assert tidy.unreachable(texts, "README.md") == {"docs/b.md"}
    assert list(tidy.broken_links("docs/a.md", "[x](../no.md#there)", set(texts))) != []
    assert list(tidy.broken_links("docs/a.md", "[x](../README.md#top)", set(texts))) == []
