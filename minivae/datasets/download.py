"""download: fetch a file whose size and SHA-256 are known, within limits of time and size, atomically."""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from pathlib import Path
from typing import Any

from ..disk import write_whole
from ..errors import UsageError
from .formats import brief

READ_SECONDS = 30  # longest time without a byte
SECONDS = 60  # time limit in all, plus the file's size / SLOWEST
SLOWEST = 20_000  # bytes a second


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Reject redirects: the known files have not moved, so a redirect does not come from their server."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise UsageError(f"the server redirects to {newurl[:200]}, which is not followed")


def fetch(url: str, path: Path, size: int, sha256: str) -> None:
    """Download `url` to `path` and replace it. UsageError if other bytes arrive, or not in time."""
    data = _in_time(url, size, SECONDS + size / SLOWEST)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(f"{url}: its SHA-256 is not the published one, {sha256}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _in_time(url: str, size: int, seconds: float) -> bytes:
    """Return the answer of `url` within so many seconds in all.

    A thread reads it, because name resolution and slow headers have no time limit of their own.
    """
    results: list[bytes | Exception] = []
    stop = threading.Event()

    def work() -> None:
        try:
            results.append(_read(url, size, stop))
        except Exception as error:  # sockets, TLS, HTTP and URLs raise many types
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
