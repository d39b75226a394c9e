"""Open a page of `minivae explore` in a headless Chromium without a network: errors, frames a second, accessibility.

    python scripts/check_explorer.py PAGE.html [--shot FILE.png] [--width 1280] [--dark]

It drags over the plane and counts the frames that were drawn, and asks axe-core (pip install axe-playwright-python),
where that is installed, of the light colours and of the dark ones. Exit status: 0 all good, 1 something was found,
77 there is no Chromium or playwright.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from check_book import NOT_CHECKED, chromium, listen

SERIOUS = ("serious", "critical")


def drag(page: Any, steps: int = 150) -> float:
    """Drag across the plane → frames a second while it was decoded."""
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    before, start = page.evaluate("[explorer.state.frames, performance.now()]")
    for k in range(steps):
        page.mouse.move(
            box["x"] + 20 + k * (box["width"] - 40) / steps, box["y"] + 20 + k * (box["height"] - 40) / steps
        )
    after, end = page.evaluate("[explorer.state.frames, performance.now()]")
    page.mouse.up()
    return 1000 * (after - before) / (end - start)


def milliseconds(page: Any, repeats: int = 200) -> float:
    """The time of one decoding, in milliseconds."""
    return page.evaluate(
        f"() => {{ const t = performance.now(); for (let i = 0; i < {repeats}; i++) explorer.decode(explorer.z); "
        f"return (performance.now() - t) / {repeats}; }}"
    )


def violations(page: Any) -> list[str] | None:
    """What axe-core finds that is serious; None where it is not installed."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        return None
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {v['nodes'][0]['html'][:90]}" for v in found if v["impact"] in SERIOUS
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Open a page of `minivae explore` in a headless Chromium.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--shot", metavar="FILE", help="a picture of the page")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    with chromium() as browser:
        if browser is None:
            print("check_explorer: SKIPPED, it needs Chromium (apt install chromium) and playwright")
            return NOT_CHECKED
        context = browser.new_context(
            offline=True,
            viewport={"width": options.width, "height": 900},
            color_scheme="dark" if options.dark else "light",
            device_scale_factor=2 if options.width < 600 else 1,
        )
        page = context.new_page()
        complaints = listen(page)
        page.goto(options.page.resolve().as_uri())
        page.wait_for_timeout(300)
        if options.shot:
            page.screenshot(path=options.shot, full_page=True)
        print(f"one decoding {milliseconds(page):.2f} ms; a drag {drag(page):.0f} frames a second")
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours)
            serious = violations(page)
            said = "not installed" if serious is None else f"{len(serious)} serious findings"
            print(f"axe-core, {colours}: {said}")
            complaints += serious or []
        for complaint in complaints:
            print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
