"""The official npm client against a real server process, over both stores."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.node import require_node
from support.server_process import ServerProcess

SCRIPT = Path(__file__).with_name("official_client.mjs")
SCENARIOS = re.findall(r"^  (?:async )?(\w+)(?:\(\) \{|:)", SCRIPT.read_text(), re.MULTILINE)
STORES = ["memory", "file"]


@pytest.fixture(scope="module", params=STORES)
def base_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("official")
    data_dir = None if request.param == "memory" else folder / "data"
    with ServerProcess(data_dir, "--long-poll-timeout", "1") as server:
        yield server.base_url


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(base_url, scenario):
    process = subprocess.run(
        [require_node(), SCRIPT, base_url, scenario],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_script_was_understood():
    assert len(SCENARIOS) == 13
