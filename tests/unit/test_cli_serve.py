"""The options of `durastream serve`: sources, precedence, and what is refused how."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import durastream
import durastream.cli.serving
from durastream.cli import main
from durastream.cli.banner import Banner, print_banner
from durastream.engine.file_store import FileBackedStreamStore
from support.damage import flip
from support.stores import SMALL_FILES, SMALL_LIMITS


@pytest.fixture
def invoke(monkeypatch):
    """Run the command line up to the settings; (result, settings)."""
    seen = []
    monkeypatch.setattr(durastream.cli.serving, "run", lambda settings: seen.append(settings) or 0)

    def call(*arguments: str, env: dict[str, str] | None = None):
        seen.clear()
        result = CliRunner().invoke(main, list(arguments), env=env)
        return result, seen[0] if seen else None

    return call


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_default_command_serves(invoke):
    for arguments in [(), ("serve",), ("--port", "4437")]:
        result, settings = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert (settings.host, settings.port, settings.data_dir) == (
            "127.0.0.1",
            4437,
            Path("data"),
        )


def test_flags_outrank_the_environment_and_that_the_file(invoke, tmp_path):
    text = '[serve]\nport = 1001\nhost = "127.0.0.3"\nsse-max-age = 7\n'
    config = write(tmp_path / "c.toml", text)
    env = {"DURASTREAM_SERVE_PORT": "1002", "DURASTREAM_SERVE_HOST": "127.0.0.2"}
    _, settings = invoke("--config", config, "--port", "1003", env=env)
    assert settings.port == 1003
    assert settings.host == "127.0.0.2"
    assert settings.sse_max_age == 7.0
    assert settings.long_poll_timeout == 30.0


def test_the_file_can_come_from_the_environment(invoke, tmp_path):
    config = write(tmp_path / "c.toml", "[serve]\nport = 1001\n[other]\nx = 1\n")
    _, settings = invoke(env={"DURASTREAM_SERVE_CONFIG": config})
    assert settings.port == 1001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nprot = 1\n", "did you mean port?"),
        ("[serve]\ndata_dri = 'x'\n", "did you mean data-dir?"),
        ("[serve]\nworkers = 2\n", "unknown key: workers"),
        ("[serve]\nport = 'x'\n", "'--port'"),
        ("[serve]\nport = [1]\n", "port: a text, number or boolean"),
        ("port = 1\n", "put it under [serve]"),
        ("[serve\n", "no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(invoke, tmp_path, text, message):
    result, settings = invoke("--config", write(tmp_path / "c.toml", text))
    assert settings is None
    assert result.exit_code == 2
    assert message in result.output


def test_a_missing_file_is_refused(invoke, tmp_path):
    result, _ = invoke("--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "No such file" in result.output


@pytest.mark.parametrize(
    ("arguments", "env", "text", "in_memory"),
    [
        (["--memory"], {}, "", True),
        (["--memory"], {"DURASTREAM_SERVE_DATA_DIR": "d"}, "", True),
        (["--memory"], {}, "[serve]\ndata-dir = 'd'\n", True),
        (["--data-dir", "d"], {"DURASTREAM_SERVE_MEMORY": "1"}, "", False),
        (["--data-dir", "d"], {}, "[serve]\nmemory = true\n", False),
        ([], {"DURASTREAM_SERVE_DATA_DIR": "d"}, "[serve]\nmemory = true\n", False),
        ([], {}, "[serve]\nmemory = true\n", True),
    ],
)
def test_memory_or_directory_the_stronger_source_wins(
    invoke, tmp_path, arguments, env, text, in_memory
):
    _, settings = invoke("--config", write(tmp_path / "c.toml", text), *arguments, env=env)
    assert (settings.data_dir is None) is in_memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "--data-dir", "d"], "exclude each other"),
        (["--workers", "2"], "one data directory has one writing process"),
        (["--port", "70000"], "--port"),
        (["--log-level", "loud"], "--log-level"),
        (["--sse-max-age", "0"], "--sse-max-age"),
        (["--no-such-option"], "No such option"),
        (["no-such-command"], "No such command"),
        (["--ssl-keyfile", __file__], "--ssl-certfile"),
    ],
)
def test_wrong_usage_is_2(invoke, arguments, message):
    result, settings = invoke(*arguments)
    assert settings is None
    assert result.exit_code == 2
    assert message in result.output


def test_one_worker_is_fine(invoke):
    assert invoke("--workers", "1")[0].exit_code == 0


def test_damage_is_named_and_what_to_do_about_it(tmp_path):
    store = FileBackedStreamStore(tmp_path, options=SMALL_FILES, limits=SMALL_LIMITS)
    store.create("/a")
    store.close()
    rows = tmp_path / "meta.lmdb" / "data.mdb"
    flip(rows, rows.read_bytes().rindex(b"/a\xb8") // 4096 * 4096 + 2)  # a page's number
    arguments = ["serve", "--data-dir", str(tmp_path), "--port", "0"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 6
    assert "bears the number of another page" in result.output
    assert "durastream repair" in result.output
    assert len(result.output.splitlines()) == 1


def test_version_and_help():
    for arguments in [["--version"], ["serve", "--version"]]:
        result = CliRunner().invoke(main, arguments)
        assert result.output == f"durastream, version {durastream.__version__}\n"
    assert "serve" in CliRunner().invoke(main, ["--help"]).output
    assert "--data-dir" in CliRunner().invoke(main, ["serve", "-h"]).output


BANNER = Banner("1.2", "http://h/v1/stream/", "/data", "compiled", "on disk", ["curl x"], ["open"])


@pytest.mark.parametrize(
    ("is_terminal", "no_colour", "colours"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_colour_only_on_a_terminal(monkeypatch, capsys, is_terminal, no_colour, colours):
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    print_banner(BANNER)
    printed = capsys.readouterr().out
    assert ("\x1b[" in printed) is colours
    plain = click.unstyle(printed)
    for text in ["durastream 1.2", "http://h/v1/stream/", "/data", "on disk", "    curl x", "open"]:
        assert text in plain
