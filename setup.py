"""Build the compiled modules.

Metadata and tool settings live in pyproject.toml; this file only lists the extensions and
how they are compiled. It must never download, generate or probe anything but the byte order.

DURASTREAM_BUILD chooses the build: ``release`` (the default), ``debug`` (assertions, bounds
checks, no optimisation), ``sanitize`` (debug under AddressSanitizer and UBSan), ``threads``
(under ThreadSanitizer; .ci/sanitize.py runs both), ``coverage`` (debug with line tracing),
``none`` (no modules: run.py has compiled them in place already).
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("src/durastream")
BUILD = os.environ.get("DURASTREAM_BUILD", "release")

COMMON = ["-fno-strict-aliasing", "-Wno-unreachable-code"]
DEBUG = [*COMMON, "-O0", "-g", "-UNDEBUG"]
SANITIZERS = {
    "sanitize": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "threads": ["-fsanitize=thread", "-fno-omit-frame-pointer"],
}
COMPILE_ARGUMENTS = {
    "release": [*COMMON, "-O3"],
    "debug": DEBUG,
    "sanitize": [*DEBUG, *SANITIZERS["sanitize"]],
    "threads": [*DEBUG, "-O1", *SANITIZERS["threads"]],
    "coverage": [*DEBUG, "-DCYTHON_TRACE_NOGIL=1"],
    "none": [],
}

if sys.byteorder != "little":
    raise SystemExit("durastream stores little-endian integers as they are: no big-endian hosts")
if BUILD not in COMPILE_ARGUMENTS:
    raise SystemExit(f"DURASTREAM_BUILD={BUILD}: choose one of {', '.join(COMPILE_ARGUMENTS)}")


def extensions() -> list[Extension]:
    """One extension for each .pyx below the package."""
    return [
        Extension(
            ".".join(source.relative_to("src").with_suffix("").parts),
            [str(source)],
            include_dirs=[str(PACKAGE / "_native")],  # monitor.h, disk_os.h
            extra_compile_args=COMPILE_ARGUMENTS[BUILD],
            extra_link_args=SANITIZERS.get(BUILD, []),
        )
        for folder in ("_native", "engine", "server")
        for source in sorted((PACKAGE / folder).glob("*.pyx"))
    ]


class BuildExtensions(build_ext):
    """Translates to C just before compiling, so that an sdist needs and holds no C."""

    def run(self) -> None:
        careful = BUILD != "release"
        translated = cythonize(
            self.extensions,
            nthreads=os.cpu_count() or 1,
            quiet=True,
            compiler_directives={
                "language_level": 3,
                "boundscheck": careful,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": careful,
                "linetrace": BUILD == "coverage",
            },
        )
        for extension, source in zip(self.extensions, translated, strict=True):
            extension.sources, extension.depends = source.sources, source.depends
        super().run()


setup(
    ext_modules=[] if BUILD == "none" else extensions(),
    cmdclass={"build_ext": BuildExtensions},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
