"""Open every page of the built book in a headless Chromium: there must be no error on the console and no request to
another machine, and the search must work.

    python scripts/check_book.py [SITE] [--shot PAGE WIDTH FILE.png]

Pages are opened from the folder, without a server. Exit status: 0 all good, 1 an error was found, 77 nothing was
checked, because there is no Chromium (apt install chromium) or no playwright (pip install ".[docs]").
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOT_CHECKED = 77  # exit status that test drivers read as 'skipped'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOUGHT = ("Bhattacharyya", "book/divergences.html")  # a word, and a page on which the search must find it
LOCAL = ("file:", "data:", "blob:", "about:")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a headless Chromium; None if it or playwright is not installed."""
    command = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        command = None
    if command is None:
        yield None
        return
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])


def listen(page: Any) -> list[str]:
    """Return a list that collects errors on the console, and requests that leave the machine or fail."""
    found: list[str] = []

    def say(text: str, wrong: bool = True) -> None:
        if wrong:
            found.append(text)

    page.on("request", lambda r: say(f"asks for {r.url}", not r.url.startswith(LOCAL)))
    page.on("requestfailed", lambda r: say(f"a request failed: {r.url}: {r.failure}", r.failure != "net::ERR_ABORTED"))
    page.on("pageerror", lambda error: say(f"exception: {error}"))
    page.on("console", lambda m: say(f"console {m.type}: {m.text}", m.type in ("error", "warning", "assert")))
    return found


def find(page: Any, words: str) -> list[str]:
    """Type words into the search box of the open page; return the addresses that it finds, best first."""
    page.evaluate('document.querySelector("#__search").click()')
    page.locator(".md-search__input").press_sequentially(words)
    links = page.locator(".md-search-result__link")
    links.first.wait_for(state="attached", timeout=20_000)
    return links.evaluate_all("links => links.map(link => link.href)")


def check(page: Any, site: Path) -> int:
    """Open all pages of the site, print the errors, and return the number of pages with errors."""
    pages = sorted(path for path in site.rglob("*.html") if path.name != "404.html")  # which only a server shows
    found, wrong = listen(page), 0
    for file in pages:
        found.clear()
        page.goto(file.as_uri())
        page.wait_for_timeout(150)  # for what scripts begin after loading
        if file == site / "index.html":
            where = find(page, SOUGHT[0])
            if not any(SOUGHT[1] in address for address in where):
                found.append(f"search for {SOUGHT[0]!r} finds {where}, and {SOUGHT[1]} is not in it")
        wrong += bool(found)
        for complaint in found:
            print(f"{file.relative_to(site)}: {complaint}")
    print(f"check_book: {len(pages)} pages opened, {wrong} with complaints")
    return wrong if pages else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Open every page of the built book in a headless Chromium.")
    parser.add_argument("site", nargs="?", type=Path, default=Path("site"))
    parser.add_argument("--shot", nargs=3, metavar=("PAGE", "WIDTH", "FILE"), help="only a picture of a page's top")
    options = parser.parse_args()
    site = options.site.resolve()
    with chromium() as browser:
        if browser is None:
            print("check_book: SKIPPED, no page was opened: it needs Chromium (apt install chromium) and playwright")
            return NOT_CHECKED
        page = browser.new_page()
        if options.shot:
            name, width, file = options.shot
            path, _, place = name.partition("#")
            page.set_viewport_size({"width": int(width), "height": 1400})
            page.goto((site / path).as_uri() + (f"#{place}" if place else ""))
            page.screenshot(path=file)
            return 0
        return 1 if check(page, site) else 0


if __name__ == "__main__":
    sys.exit(main())
