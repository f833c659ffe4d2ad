"""What `import durastream` offers, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import durastream

HEAVY = ["uvicorn", "lmdb", "click", "httptools"]


@pytest.mark.parametrize("name", durastream.__all__)
def test_every_public_name_is_there(name):
    assert getattr(durastream, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = durastream.Nothing


def test_importing_the_package_loads_no_server():
    code = f"import sys, durastream; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
