"""search: write the index as a script too, for readers who open site/index.html from a folder. A hook of mkdocs.

A page opened from a folder may not fetch JSON or start a worker. The theme then reads the index from
search/search_index.js, and docs/search.js replaces its worker.
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
