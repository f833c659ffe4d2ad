"""Build the compiled modules.

Metadata and tool settings live in pyproject.toml; this file only lists the extensions and
how they are compiled. It must never download, generate or probe anything but the byte order.
"""

import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

PACKAGE = Path("src/durastream")

if sys.byteorder != "little":
    raise SystemExit("durastream stores little-endian integers as they are: no big-endian hosts")


def extensions() -> list[Extension]:
    """One extension for each .pyx below the package."""
    return [
        Extension(
            ".".join(source.relative_to("src").with_suffix("").parts),
            [str(source)],
            extra_compile_args=["-O3", "-fno-strict-aliasing", "-Wno-unreachable-code"],
        )
        for folder in ("_native", "server")
        for source in sorted((PACKAGE / folder).glob("*.pyx"))
    ]


setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    )
)
