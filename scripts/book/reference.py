"""reference: the API page, from the docstrings. A hook of mkdocs.

Signatures and docstrings are read from the syntax tree; nothing is imported. A docstring is shown as it stands: its
columns and formulas are set by hand. A name without a docstring is an error; of a class, the methods that have one are
shown (the others do what the base class says).
"""

from __future__ import annotations

import ast
import html
from typing import Any

from include import ROOT, relative

# (title, what it is, [(file, names)]): in reading order
CONTENTS = [
    (
        "The model",
        "`import minivae as mv`",
        [("minivae/vae.py", ["VAE"]), ("minivae/model.py", ["Model"]), ("minivae/objectives.py", ["Terms"])],
    ),
    (
        "Training",
        "",
        [
            ("minivae/optim.py", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"]),
            ("minivae/training/schedules.py", ["Schedule", "Beta"]),
            ("minivae/training/history.py", ["History"]),
            ("minivae/training/guard.py", ["Diverged"]),
        ],
    ),
    (
        "Data",
        "",
        [
            ("minivae/datasets/load.py", ["Dataset", "load"]),
            ("minivae/datasets/scale.py", ["Scale"]),
            ("minivae/datasets/choose.py", ["choose_likelihood"]),
        ],
    ),
    (
        "Likelihoods",
        "`mv.LIKELIHOODS`: name → class",
        [
            ("minivae/likelihoods/base.py", ["Likelihood"]),
            ("minivae/likelihoods/unit.py", ["Bernoulli", "ContinuousBernoulli"]),
            (
                "minivae/likelihoods/real.py",
                [f"Gaussian{kind}" for kind in ("", "Fixed", "Shared", "Optimal")] + ["Laplace"],
            ),
            ("minivae/likelihoods/counts.py", ["Categorical", "Poisson", "NegativeBinomial"]),
        ],
    ),
    ("Where it computes", "", [("minivae/backend.py", ["Backend"])]),
    (
        "Evaluation",
        "",
        [
            ("minivae/evaluation/bounds.py", None),
            ("minivae/evaluation/annealing.py", None),
            ("minivae/evaluation/latents.py", None),
        ],
    ),
    ("The theory", "`mv.bayes`", [("minivae/article/bayes/__init__.py", "home")]),
    ("The equations", "", [("minivae/article/equations/__init__.py", ["explain"])]),
    (
        "The building blocks",
        "",
        [("minivae/layers.py", ["Dense", "MLP"]), ("minivae/latent.py", ["GaussianPosterior"])],
    ),
    ("Checking gradients", "", [("minivae/gradcheck/__init__.py", "home"), ("minivae/testing.py", None)]),
    ("Mistakes", "", [("minivae/errors.py", ["UsageError", "UsageWarning"])]),
]


class Undocumented(ValueError):
    """A public name without a docstring, or none of that name."""


def page() -> str:
    """The API page, as markdown with HTML in it."""
    parts = ["# API", "", "Docstrings as they stand in the code; each name leads to it.", ""]
    for title, words, files in CONTENTS:
        parts += [f"## {title}", "", words, ""]
        for path, wanted in files:
            for file, name in _names(path, wanted):
                parts += _entry(file, name)
    return "\n".join(parts)


def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def _public(tree: ast.Module) -> list[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n.name for n in tree.body if isinstance(n, kinds) and n.name[0] != "_"]


def _names(path: str, wanted: Any) -> list[tuple[str, str]]:
    """(file, name) of what is to be shown: a list, all that is public, or the table of a lazy package."""
    tree = _tree(path)
    folder = path.rpartition("/")[0]
    if wanted is None:
        return [(path, name) for name in _public(tree)]
    if wanted == "home":
        tables = [
            n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "_HOME"
        ]
        return [(f"{folder}/{home}.py", name) for name, home in ast.literal_eval(tables[0]).items()]
    return [(path, name) for name in wanted]


def _entry(path: str, name: str) -> list[str]:
    node: Any = next((n for n in _tree(path).body if getattr(n, "name", None) == name), None)
    if node is None or not ast.get_docstring(node):
        raise Undocumented(f"{path}: {name} is not there, or has no docstring")
    lines = [f"### {name} {{ .api }}", "", _signature(node), "", _docstring(node), "", _where(path, node), ""]
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name[0] != "_" and ast.get_docstring(method):
                lines += [f"#### {name}.{method.name} {{ .api }}", "", _signature(method), "", _docstring(method), ""]
    return lines


def _signature(node: Any) -> str:
    """The first line of the definition, as a block of code."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        if any(ast.unparse(d) == "property" for d in node.decorator_list):
            return f"```python\n{node.name}{returns}  # a property\n```"
        return f"```python\n{_wrapped(node.name, node.args)}{returns}\n```"
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    fields = [f"{n.target.id}: {ast.unparse(n.annotation)}" for n in node.body if isinstance(n, ast.AnnAssign)]
    if init is not None:
        return f"```python\n{_wrapped(node.name, init.args)}\n```"
    return (
        f"```python\n{node.name}({', '.join(fields)})\n```" if _is_dataclass(node) else f"```python\n{node.name}\n```"
    )


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def _wrapped(name: str, arguments: ast.arguments) -> str:
    """name(arguments), an argument a line where one line would be too long; without self."""
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments = ast.arguments([], arguments.args[1:], arguments.vararg, arguments.kwonlyargs, arguments.kw_defaults,
                                  arguments.kwarg, arguments.defaults)  # fmt: skip
    text = ast.unparse(arguments)
    if len(name) + len(text) < 84:
        return f"{name}({text})"
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start : i + 1].strip())
            start = i + 1
    parts.append(text[start:].strip() + ",")
    return f"{name}(\n    " + "\n    ".join(parts) + "\n)"


def _docstring(node: Any) -> str:
    text = html.escape(ast.get_docstring(node) or "")
    return '<pre class="docstring">' + text.replace("\n\n", "\n&#8203;\n").replace("$", "&#36;") + "</pre>"


def _where(path: str, node: Any) -> str:
    return f"[{path}]({relative('api.md', path)}#line-0-{node.lineno}), line {node.lineno}\n{{: .where }}"


# ---- mkdocs ---------------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    from include import source_page
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File, InclusionLevel

    try:
        files.append(File.generated(config, "api.md", content=page()))
    except Undocumented as error:
        raise PluginError(str(error)) from error
    for path in sorted({file for _, _, parts in CONTENTS for p, w in parts for file, _ in _names(p, w)}):
        if f"source/{path}.md" not in files.src_uris:
            shown = File.generated(config, f"source/{path}.md", content=source_page(path))
            shown.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(shown)
    return files
