"""page: generate the book's page of equations from their table when the book is built.

The page gives no line numbers, because these change; `minivae explain` does.
"""

from __future__ import annotations

from .equation import Equation
from .explanation import spoken
from .places import Place, of_code, of_test
from .table import EQUATIONS

PAGE = "equations.md"
HEAD = """\
# The equations

Su Jianlin's article on VAEs from the Bayesian view (2018), equation by equation. `minivae explain 16` (or `kl`) prints
one, with the lines where it stands and its number computed at that moment; in Python, `mv.explain(16)`.

| | here | the article |
| --- | --- | --- |
| encoder | q(z\\|x) | p(z\\|x) |
| decoder | p(x\\|z) | q(x\\|z) |
| prior | p(z) | q(z) |
| exact posterior | p(z\\|x) | p̂(z\\|x) |
| model of the data | p(x), p(x,z) | q(x), q(x,z) |
| data, and data with the encoder | p̃(x), q(x,z) | p̃(x), p(x,z) |

Nats; sums over features, means over rows; B rows, D features, L latent dimensions, S or K samples; w = 1/(B·S).
"""


def markdown() -> str:
    """Return the page."""
    contents = "\n".join(f"- [{e.heading}](#{e.page.partition('#')[2]})" for e in EQUATIONS)
    return "\n\n".join([HEAD.strip(), contents, *map(section, EQUATIONS)]) + "\n"


def section(e: Equation) -> str:
    """Return the section of one equation."""
    number = e.toy()
    parts = [f'<a id="{e.page.partition("#")[2]}"></a>', f"## {e.heading}"]
    parts.append(_formula(e.formula))
    if e.article != e.formula:
        parts += ["In the article's letters:", _formula(e.article)]
    parts.append(e.words)
    if e.gradient:
        parts += ["Gradient:", _formula(e.gradient)]
    parts.append(
        "\n".join(
            [
                f"- forward: {_links([of_code(place) for place in e.forward])}",
                f"- backward: {_links([of_code(place) for place in e.backward]) or 'none, nothing is trained by it'}",
                f"- test: {_links([of_test(e.test)])}",
                f"- names: {', '.join(f'`{name}`' for name in e.names)}",
            ]
        )
    )
    setting = number.setting.replace("\n", "; ")
    parts.append(f"On a live toy ({setting}), {number.symbol}: **{spoken(number)}**.")
    return "\n\n".join(parts)


def _formula(text: str) -> str:
    return f"```text\n{text}\n```"


def _links(places: list[Place]) -> str:
    return ", ".join(f"[`{place.name}`](../{place.file})" for place in places)
