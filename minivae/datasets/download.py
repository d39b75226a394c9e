"""Download a file whose size and SHA-256 are known: within limits of time and size, whole or not at all."""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from pathlib import Path
from typing import Any

from ..disk import write_whole
from ..errors import UsageError
from .formats import brief

READ_SECONDS = 30  # without a byte
SECONDS = 60  # in all, and SLOWEST on top
SLOWEST = 20_000  # bytes a second


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """No file that we fetch has moved: whoever sends us elsewhere is not its server."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise UsageError(f"the server redirects to {newurl[:200]}, which is not followed")


def fetch(url: str, path: Path, size: int, sha256: str) -> None:
    """Download `url` to `path`, replacing what is there. UsageError for whatever is not those bytes, in time."""
    data = _in_time(url, size, SECONDS + size / SLOWEST)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(f"{url}: its SHA-256 is not the published one, {sha256}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _in_time(url: str, size: int, seconds: float) -> bytes:
    """The answer of `url`, within so many seconds in all.

    It is read by a thread of its own, because looking up a name, or headers that drip, have no limit of their own.
    """
    results: list[bytes | Exception] = []
    stop = threading.Event()

    def work() -> None:
        try:
            results.append(_read(url, size, stop))
        except Exception as error:  # of sockets, TLS, HTTP, the URL: no list is whole
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        stop.set()
    result = results[0] if results else UsageError(f"not done after {seconds:.0f} seconds")
    if isinstance(result, Exception):
        reason = result if isinstance(result, UsageError) else brief(result)
        raise UsageError(f"{url}: {reason}") from result
    return result


def _read(url: str, size: int, stop: threading.Event) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "minivae", "Accept-Encoding": "identity"})
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=READ_SECONDS) as answer:
        declared = answer.headers.get("Content-Length")
        if declared not in (None, str(size)):
            raise UsageError(f"expected {size} bytes, but the server declares {declared[:20]}")
        data = bytearray()
        while len(data) <= size and not stop.is_set() and (block := answer.read1(1 << 16)):
            data += block
    if len(data) != size:
        raise UsageError(f"expected {size} bytes, but {'more' if len(data) > size else f'only {len(data)}'} came")
    return bytes(data)
