"""curl for machines that have none: the options that README and banner use, no others.

Tests put ``command()`` where a user types ``curl``: the real one if it is installed.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import time
from urllib.parse import urlsplit

TIMED_OUT = 28  # curl's exit status
STAND_IN = f"{sys.executable} {__file__}"


def command() -> str:
    return shutil.which("curl") or STAND_IN


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("-i", dest="show_head", action="store_true")
    parser.add_argument("-N", action="store_true")
    parser.add_argument("-sS", action="store_true")
    parser.add_argument("--max-time", type=float)
    parser.add_argument("url")
    options = parser.parse_args()
    url = urlsplit(options.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=options.max_time or 60)
    connection.request(
        options.method or ("GET" if options.body is None else "POST"),
        f"{url.path}?{url.query}" if url.query else url.path,
        options.body,
        dict(header.split(":", 1) for header in options.headers),
    )
    response = connection.getresponse()
    if options.show_head:
        print(f"HTTP/1.1 {response.status} {response.reason}")
        print("\n".join(f"{name}: {value}" for name, value in response.getheaders()), "\n")
    deadline = time.monotonic() + (options.max_time or 60)
    try:
        while (data := response.read1()) and time.monotonic() < deadline:
            sys.stdout.write(data.decode())
    except TimeoutError:
        return TIMED_OUT
    return TIMED_OUT if data else 0


if __name__ == "__main__":
    sys.exit(main())
