"""explorer: the page that explores the bundled digits, trained when the book is built. A hook of mkdocs.

It is kept in docs/figures/out/, which git ignores, and made again when the page's own files are newer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "figures" / "out" / "digits-explorer.html"
SOURCES = [*(ROOT / "minivae" / "export").rglob("*.*"), Path(__file__)]


def make() -> str:
    """Train on the digits and write their page."""
    import minivae as mv
    from minivae.export.explorer import page

    digits = mv.load("digits")
    vae = mv.VAE(64, latent_dim=2, hidden=(128, 64), likelihood="gaussian:0.15", backend="numpy", seed=0)
    vae.fit(digits.X, epochs=100, batch_size=64, progress=False)
    parts = (digits.X_test, digits.y_test, digits.rows_test, digits.shape)
    return page(vae, *parts, title="The latent space of the digits", source="test part of digits")


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    if not KEPT.exists() or KEPT.stat().st_mtime < max(path.stat().st_mtime for path in SOURCES):
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(make(), encoding="utf-8")
    files.append(File.generated(config, "digits-explorer.html", content=KEPT.read_text(encoding="utf-8")))
    return files
