"""include: show the repository's code in the book. A hook of mkdocs.

A line `{{ minivae/latent.py:GaussianPosterior.forward }}` becomes that function as it stands in the repository, with a
link to its place; `{{ path }}` shows a whole file, `{{ path:__doc__ }}` a module's docstring. Names are found in the
syntax tree, so the code needs no markers; an unknown name is an error. Links from a page to files outside docs/ lead to
a page that shows the file.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from generated import pages

ROOT = Path(__file__).resolve().parents[2]
DIRECTIVE = re.compile(r"^( *)\{\{ *([\w./-]+?)(?::([\w.]+))? *\}\}$", re.M)
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".sh": "bash", ".toml": "toml", ".md": "text"}


class NotFound(ValueError):
    """The included file or name does not exist."""


def find(path: str, name: str | None) -> tuple[str, int, int]:
    """Return (text, first line, last line) of a file, or of the function, class, method or constant `name` in it."""
    if not (ROOT / path).is_file():
        raise NotFound(f"{path}: no such file in the repository")
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    if name is None:
        return text.rstrip("\n"), 1, len(lines)
    tree = ast.parse(text)
    if name == "__doc__":
        return (ast.get_docstring(tree) or "").rstrip("\n"), 1, tree.body[0].end_lineno or 1
    node: Any = tree
    for part in name.split("."):
        node = next((child for child in node.body if part in _names(child)), None)
        if node is None:
            raise NotFound(f"{path} has no {name}")
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    return dedent("\n".join(lines[first - 1 : node.end_lineno])), first, node.end_lineno


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def expand(markdown: str, page: str) -> str:
    """Fill in every directive of the page at `page` (relative to docs/)."""

    def block(match: re.Match) -> str:
        margin, path, name = match.groups()
        text, first, last = find(path, name)
        language = "text" if name == "__doc__" else LANGUAGES.get(Path(path).suffix, "text")
        where = f"[{path}]({relative(page, path)}#line-0-{first})"
        where += f", line {first}" if first == last else f", lines {first}–{last}"
        return indent(f"```{language}\n{text}\n```\n\n{where}\n{{: .where }}", margin)

    return DIRECTIVE.sub(block, markdown)


def relative(page: str, path: str) -> str:
    """Return the link from a page to the page that shows a file of the repository."""
    return posixpath.relpath(f"source/{path}.md", posixpath.dirname(page) or ".")


def outside(markdown: str, page: str) -> str:
    """Point links to files outside docs/ at the pages that show them."""

    def link(match: re.Match) -> str:
        opening, target, rest = match.groups()
        inside = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if ":" in target or inside.startswith("docs/") or not (ROOT / inside).is_file():
            return match.group()
        return opening + relative(page, inside) + rest

    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def shown() -> list[str]:
    """Return the files of the repository that have a page: those that a page includes or links to."""
    docs, found = ROOT / "docs", set()
    written = {file.relative_to(docs).as_posix(): file.read_text() for file in sorted(docs.rglob("*.md"))}
    for page, text in (written | pages()).items():
        found.update(path for _, path, _ in DIRECTIVE.findall(text))
        for _, target, _ in LINK.findall(text):
            inside = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
            if ":" not in target and not inside.startswith("docs/") and (ROOT / inside).is_file():
                found.add(inside)
    return sorted(found)


def source_page(path: str) -> str:
    """Return a page that shows the file with numbered lines, each of them an anchor."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    fence = "`" * 6
    text = (ROOT / path).read_text()
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n{fence} {{ .{language} linenums=1 }}\n{text}{fence}\n"


# ---- mkdocs ---------------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File, InclusionLevel

    for path in shown():
        page = File.generated(config, f"source/{path}.md", content=source_page(path))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    from mkdocs.exceptions import PluginError

    path = page.file.src_uri
    if path.startswith("source/"):
        return markdown
    try:
        return outside(expand(markdown, path), path)
    except NotFound as error:
        raise PluginError(f"{path}: {error}") from error


def on_page_content(content: str, page: Any, **_: Any) -> None:
    """Register the lines' anchors, which the highlighter adds, so that mkdocs can check links to them."""
    if page.file.src_uri.startswith("source/"):
        page.present_anchor_ids = set(page.present_anchor_ids or ()) | set(re.findall(r'id="(line-0-\d+)"', content))
