"""Open every page of the built book in a headless Chromium: no error on the console, no request off this machine, and
its search finds what is there.

    python scripts/check_book.py [SITE] [--shot PAGE WIDTH FILE.png]

Pages are opened from the folder, as a reader without a network would. Exit status: 0 all good, 1 something was wrong,
77 nothing was checked, because there is no Chromium (apt install chromium) or no `websockets` (pip install ".[docs]").
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOT_CHECKED = 77  # what test drivers take for 'skipped'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOUGHT = ("Bhattacharyya", "book/divergences.html")  # a word, and a page that search has to find it on
LOCAL = ("file:", "data:", "blob:", "about:")


class Browser:
    """A page of a headless Chromium, spoken to by the DevTools protocol."""

    def __init__(self, socket: Any):
        self.socket, self.number, self.events = socket, 0, []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def open(self, url: str, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Load a page, wait until it and its scripts are done, and return what happened."""
        self.events = []
        self.send("Page.navigate", url=url)
        end = time.monotonic() + seconds
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv(timeout=max(0.1, end - time.monotonic()))))
        waiting = "new Promise(done => setTimeout(done, 150))"  # for what scripts begin after loading
        self.send("Runtime.evaluate", expression=waiting, awaitPromise=True)
        return self.events


def find(page: Browser, url: str, words: str, seconds: float = 20.0) -> list[str]:
    """What the book's own search finds, typed into its box by a reader: the addresses of the pages, best first."""
    page.open(url)
    typed = """(words) => {
        document.querySelector("#__search").click();
        const box = document.querySelector(".md-search__input");
        box.focus();
        box.value = words;
        box.dispatchEvent(new KeyboardEvent("keyup", {bubbles: true}));
    }"""
    page.send("Runtime.evaluate", expression=f"({typed})({json.dumps(words)})")
    links = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"
    end = time.monotonic() + seconds
    while True:
        found = page.send("Runtime.evaluate", expression=links, returnByValue=True)["result"]["value"]
        if found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def complaints(events: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a page: errors on its console, and requests that leave the machine or fail."""
    found = []
    for event in events:
        method, p = event["method"], event.get("params", {})
        if method == "Network.requestWillBeSent" and not p["request"]["url"].startswith(LOCAL):
            found.append(f"asks for {p['request']['url']}")
        elif method == "Network.loadingFailed" and not p.get("canceled"):
            found.append(f"a request failed: {p['errorText']}")
        elif method == "Runtime.exceptionThrown":
            found.append(f"exception: {p['exceptionDetails'].get('text')}")
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
            found.append(f"console: {[argument.get('value') for argument in p['args']]}")
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            found.append(f"log: {p['entry']['text']}")
    return found


@contextlib.contextmanager
def browser(command: str) -> Iterator[Browser]:
    """A Chromium of our own, ended at the end."""
    from websockets.sync.client import connect

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [command, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--hide-scrollbars", "--disable-background-networking", f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            found = next(match for line in lines if (match := re.search(r"ws://([\d.:]+)/devtools", line)))
            socket = f"ws://{found.group(1)}/devtools/page/{_page_id(found.group(1))}"
            with connect(socket, max_size=None) as connection:
                page = Browser(connection)
                for domain in ("Page", "Network", "Runtime", "Log"):
                    page.send(f"{domain}.enable")
                yield page
        finally:
            process.terminate()
            process.wait(10)


def _page_id(address: str) -> str:
    from urllib.request import urlopen

    for _ in range(100):
        with urlopen(f"http://{address}/json") as answer:
            pages = [target["id"] for target in json.load(answer) if target["type"] == "page"]
        if pages:
            return pages[0]
        time.sleep(0.1)
    raise RuntimeError("Chromium has no page")


def shoot(page: Browser, url: str, width: int, path: str, height: int = 1400) -> None:
    """A picture of the top of a page."""
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    page.open(url)
    Path(path).write_bytes(base64.b64decode(page.send("Page.captureScreenshot", format="png")["data"]))


def main(arguments: list[str]) -> int:
    site = Path(arguments[0] if arguments and not arguments[0].startswith("--") else "site").resolve()
    command = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    try:
        import websockets  # noqa: F401
    except ImportError:
        command = None
    if command is None:
        print("check_book: SKIPPED, no page was opened: it needs Chromium (apt install chromium) and websockets")
        return NOT_CHECKED
    pages = sorted(path for path in site.rglob("*.html") if path.name != "404.html")  # which only a server shows
    if not pages:
        print(f"check_book: no pages in {site}: run make docs first")
        return 1
    wrong = 0
    with browser(command) as page:
        if "--shot" in arguments:
            name, width, path = arguments[arguments.index("--shot") + 1 :][:3]
            shoot(
                page, (site / name.partition("#")[0]).as_uri() + name[len(name.partition("#")[0]) :], int(width), path
            )
            return 0
        for file in pages:
            found = complaints(page.open(file.as_uri()))
            if file == site / "index.html":
                where = find(page, file.as_uri(), SOUGHT[0])
                found += complaints(page.events)
                if not any(SOUGHT[1] in address for address in where):
                    found.append(f"search for {SOUGHT[0]!r} finds {where or 'nothing'}, and {SOUGHT[1]} is not in it")
            wrong += bool(found)
            for complaint in found:
                print(f"{file.relative_to(site)}: {complaint}")
    print(f"check_book: {len(pages)} pages opened, {wrong} with complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
