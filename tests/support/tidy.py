"""The habits of CONTRIBUTING.md as checks: each takes texts and returns complaints.

Pure functions, so that tests/test_tidy.py can show of each that it does complain.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

# What each package may import: of ours, and of others. Anything of the standard library.
CONTRACT = {"engine.store", "engine.errors", "engine.options", "engine.fast_path"}
OURS = {
    "_native": {"_native"},
    "protocol": {"protocol"},
    "engine": {"engine", "_native", "protocol"},
    "server": {"server", "protocol", *CONTRACT},
    "cli": {"cli", "server", "engine", "protocol"},
}
COMPILED = {"cython", "libc", "cpython", "posix"}
OTHERS = {
    "_native": {*COMPILED, "typing_extensions"},  # the last in stubs
    "protocol": {"msgspec"},
    "engine": {*COMPILED, "msgspec", "lmdb"},
    "server": {*COMPILED, "uvicorn", "uvloop", "httptools", "msgspec"},
    "cli": {"click", "uvicorn"},
}

UNTRACKED_TODO = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b(?!\(#\d+\))")
# Written so that they do not find themselves.
FOREIGN_PLACE = re.compile(
    r"/(?:wor[k]|roo[t]|hom[e]|tm[p])/|\.\./share[d]|registry\.npmj[s]|pypi\.or[g]|pythonhoste[d]"
)
CYTHON_FUNCTION = re.compile(r"^( *)(?:def|cdef|cpdef)\b[^=\n]*\(")
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([.\w]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

Complaints = Iterator[str]


def long_lines(text: str) -> Complaints:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS_MAX:
            yield f"line {number} has {len(line)} columns, more than {COLUMNS_MAX}"


def long_file(text: str) -> Complaints:
    if (count := len(text.splitlines())) > FILE_LINES_MAX:
        yield f"{count} lines, more than {FILE_LINES_MAX}: split it by subject"


def long_python_functions(text: str) -> Complaints:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            count = node.end_lineno - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield f"{node.name} has {count} lines, more than {FUNCTION_LINES_MAX}"


def long_cython_functions(text: str) -> Complaints:
    """By indentation: a function ends where a line stands as far left as its head."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        head = CYTHON_FUNCTION.match(line)
        if head is None:
            continue
        indent = len(head[1])
        end = last = start
        for end in range(start + 1, len(lines)):
            body = lines[end].strip()
            if body and not body.startswith(")"):
                if len(lines[end]) - len(lines[end].lstrip()) <= indent:
                    break
                last = end
        if last - start + 1 > FUNCTION_LINES_MAX:
            yield f"line {start + 1}: {last - start + 1} lines, more than {FUNCTION_LINES_MAX}"


def missing_docstring(text: str) -> Complaints:
    if text.strip() and ast.get_docstring(ast.parse(text)) is None:
        yield "no docstring says what this module is for"


def open_todos(text: str) -> Complaints:
    for number, line in enumerate(text.splitlines(), 1):
        if UNTRACKED_TODO.search(line):
            yield f"line {number}: a task without an issue: write its number behind it, as (#12)"


def foreign_places(text: str) -> Complaints:
    for number, line in enumerate(text.splitlines(), 1):
        if found := FOREIGN_PLACE.search(line):
            yield f"line {number}: {found[0]!r} belongs to one machine or registry"


def python_imports(text: str, package: str) -> Iterator[str]:
    """The modules imported, ours as ``engine.store``; those for type checkers included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                yield module
            elif node.level == 1:
                yield f"{package}.{module}" if module else package
            else:
                prefix = f"{module}." if module else ""
                names = [alias.name for alias in node.names if not alias.name.startswith("__")]
                yield from ([module] if "." in module else [prefix + name for name in names])


def cython_imports(text: str, package: str) -> Iterator[str]:
    for origin, plain in CYTHON_IMPORT.findall(text):
        name = origin or plain
        if name.startswith(".."):
            yield name.lstrip(".")
        elif name.startswith("."):
            yield f"{package}.{name[1:]}".rstrip(".")
        else:
            yield name


def wrong_imports(modules: Iterable[str], package: str) -> Complaints:
    for module in modules:
        top = module.split(".")[0]
        if top in OURS:
            if not {top, ".".join(module.split(".")[:2])} & OURS[package]:
                yield f"{package} must not import {module}"
        elif top not in sys.stdlib_module_names and top not in OTHERS[package]:
            yield f"{package} must not import {module}"


def broken_links(path: str, text: str, existing: set[str]) -> Complaints:
    for target in links(path, text):
        if target not in existing:
            yield f"links to {target}, which is not there"


def links(path: str, text: str) -> Iterator[str]:
    """The files that a Markdown file links to, as paths from the root."""
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            parts: list[str] = []
            for part in (PurePosixPath(path).parent / target).parts:
                if part == "..":
                    parts = parts[:-1]
                elif part != ".":
                    parts.append(part)
            yield "/".join(parts)


def unreachable(documents: Mapping[str, str], start: str) -> set[str]:
    """Documents that no chain of links from ``start`` reaches."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in reached and path in documents:
            reached.add(path)
            waiting += links(path, documents[path])
    return set(documents) - reached
