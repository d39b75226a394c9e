"""search: the index once more as a script, for readers who open site/index.html from a folder. A hook of mkdocs.

A page from a folder may fetch no JSON, and may start no worker: the theme then takes the index from
search/search_index.js, and docs/search.js stands in for its worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority


@event_priority(-100)  # after the search plugin has written its index
def on_post_build(config: Any) -> None:
    folder = Path(config["site_dir"]) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
