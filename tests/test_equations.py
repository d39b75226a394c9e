"""Every equation of the article has code, a test, a page, and a number that another way confirms; `minivae explain`."""

import ast
import contextlib
import importlib
import inspect
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tokenize
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special, stats
from tolerances import BAYES, SCIPY

import minivae as mv
from minivae.article.equations import page, places, toys
from minivae.article.equations.explanation import WIDTH, Explanation, Listing, spoken
from minivae.article.equations.table import EQUATIONS, find

ROOT = Path(__file__).resolve().parent.parent
EACH = pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: e.key)


@pytest.fixture(scope="module")
def explained():
    return {equation.key: Explanation.of(equation) for equation in EQUATIONS}


# ---- every equation has code, test and page -------------------------------------------------------------------------


def test_the_table_holds_every_equation_of_the_article_in_order_and_no_name_twice():
    assert [e.number for e in EQUATIONS if e.number] == list(range(1, 25))
    names = [name for e in EQUATIONS for name in e.names]
    assert len(set(names)) == len(names)
    assert not any(name.isdigit() for name in names)


@EACH
def test_every_named_place_is_there(equation):
    assert equation.forward
    for place in (*equation.forward, *equation.backward):
        module, name = place.split(":")
        found = importlib.import_module(f"minivae.{module}")
        for part in name.split("."):
            found = getattr(found, part)
        found = found.fget if isinstance(found, property) else inspect.unwrap(found)
        shown = places.of_code(place)
        lines = (ROOT / shown.file).read_text().splitlines()
        assert re.match(rf"\s*(def|class) {name.split('.')[-1]}\b", lines[shown.line - 1]), place
        assert Path(inspect.getsourcefile(found)).samefile(ROOT / shown.file)


@pytest.fixture(scope="module")
def text_of_the_page():
    return page.markdown()


@EACH
def test_every_named_test_is_one_that_pytest_runs(equation):
    file, name = equation.test.split("::")
    assert name in {node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")}
    assert name.startswith("test_")
    assert places.of_test(equation.test).line


@EACH
def test_the_page_has_the_anchor(equation, text_of_the_page):
    name, anchor = equation.page.split("#")
    assert Path(name).stem == Path(page.PAGE).stem
    assert f'<a id="{anchor}"></a>' in text_of_the_page


def said(place):
    """The docstring and the comments of the definition at `place`."""
    module, name = place.split(":")
    path = ROOT / "minivae" / (module.replace(".", "/") + ".py")
    node = places.definition(path, name)
    source = "".join(path.read_text().splitlines(keepends=True)[node.lineno - 1 : node.end_lineno])
    tokens = tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline)
    with contextlib.suppress(tokenize.TokenError, IndentationError):
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join([ast.get_docstring(node) or "", *comments])


def numbers_of(text):
    """The equations that a text names: 17, 18, 19 and 22 for "eq. 17–19, 22"."""
    found = set()
    for numbers in re.findall(r"eq\. ([\d–, ]+\d|\d)", text):
        for part in re.split(r",\s*", numbers):
            first, _, last = part.strip().partition("–")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def test_tags_are_read_as_they_are_written():
    assert numbers_of("(eq. 17–19, 22) and eq. 5; eq. 12 at S = 1") == {5, 12, 17, 18, 19, 22}
    assert numbers_of("no equation 7") == set()


@EACH
def test_every_place_carries_the_tag_of_its_equation(equation):
    for place in (*equation.forward, *equation.backward):
        text = said(place)
        tagged = equation.cited in text if equation.cited else equation.number in numbers_of(text)
        assert tagged, f"{place} does not say {equation.tag}"


# ---- the numbers ----------------------------------------------------------------------------------------------------

GAMMA = stats.gamma(3)
DATA, PRIOR = (0.7, 0.3), (0.6, 0.4)
ENCODER, DECODER = ((0.8, 0.2), (0.3, 0.7)), ((0.9, 0.1), (0.2, 0.8))
PAIRS = [(x, z) for x in (0, 1) for z in (0, 1)]
ENTROPY = stats.entropy(DATA)
LOSS = sum(
    DATA[x] * ENCODER[x][z] * math.log(ENCODER[x][z] / PRIOR[z] / DECODER[z][x]) for x, z in PAIRS
)  # eq. 12, written out
POSTERIOR, NORMAL = stats.norm(0.5, 0.5), stats.norm()
BERNOULLI = stats.bernoulli(special.expit([1, -1])).logpmf([1, 0]).sum()
GAUSSIAN = stats.norm([1, -1], [0.5, 1]).logpdf([1, 0]).sum()
KL = integrate.quad(lambda z: POSTERIOR.pdf(z) * (POSTERIOR.logpdf(z) - NORMAL.logpdf(z)), -6, 7)[0]


def nll(z):
    """−ln of the Bernoulli decoder's likelihood of (1, 0), whose logits are (z, −z)."""
    return -2 * special.log_expit(z)


def log_w(z):
    return -nll(z) + NORMAL.logpdf(z) - POSTERIOR.logpdf(z)


def of_posterior(f):
    return integrate.quad(lambda z: POSTERIOR.pdf(z) * f(z), -6, 7)[0]


EXACT = {
    "1": integrate.quad(lambda x: x * GAMMA.pdf(x), 0, 60)[0],
    "2": math.fsum(0.5 * x**3 * math.exp(-x) for x in range(1, 21)),
    "5": stats.entropy([0.5, 0.5], [0.9, 0.1]),
    "6": -math.log(math.sqrt(0.45) + math.sqrt(0.05)),
    "7": 0.9 * 0.6 + 0.2 * 0.4,
    "8": LOSS - ENTROPY,
    "9": LOSS - ENTROPY,
    "10": -ENTROPY,
    "11": LOSS,
    "12": LOSS,
    "13": LOSS,
    "14": 0.54 / 0.62,
    "15": POSTERIOR.logpdf(0),
    "16": KL,
    "17": special.expit(1),
    "18": math.exp(BERNOULLI),
    "19": -BERNOULLI,
    "20": math.exp(GAUSSIAN),
    "21": -GAUSSIAN,
    "22": -stats.norm([1, -1], 1).logpdf([1, 0]).sum(),
    "24": KL - BERNOULLI,
    "iwae": math.log(2) - special.logsumexp([log_w(1), log_w(0)]),
}
INTEGRALS = ("1", "16", "24")  # held against a quadrature
SAMPLED = {  # mean and spread of one sample, and how many
    "3": (GAMMA.mean(), GAMMA.std(), 10_000),
    "4": (GAMMA.moment(2), math.sqrt(GAMMA.moment(4) - GAMMA.moment(2) ** 2), 10_000),
    "23": (of_posterior(nll), math.sqrt(of_posterior(lambda z: nll(z) ** 2) - of_posterior(nll) ** 2), 1000),
}


def test_every_number_has_an_oracle_here():
    assert {e.key for e in EQUATIONS} == {*EXACT, *SAMPLED}


@pytest.mark.parametrize("key", EXACT)
def test_the_number_is_scipys_or_that_of_a_sum_written_out(key, explained):
    bound = {"rtol": BAYES["integral"]} if key in INTEGRALS else SCIPY
    np.testing.assert_allclose(explained[key].number.value, EXACT[key], **bound)
    assert explained[key].number.error is None


@pytest.mark.parametrize("key", SAMPLED)
def test_a_sampled_number_lies_within_its_error_which_is_the_right_one(key, explained):
    number, (mean, spread, n) = explained[key].number, SAMPLED[key]
    assert abs(number.value - mean) < 4 * number.error
    assert number.error == pytest.approx(spread / math.sqrt(n), rel=0.15)


@EACH
def test_the_number_comes_out_of_the_code_that_the_equation_names(equation):
    """While the toy runs, one of the named places does, forward."""
    ran = set()

    def watch(frame, event, _):
        if event == "call":
            ran.add((Path(frame.f_code.co_filename).name, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        equation.toy()
    finally:
        sys.setprofile(before)
    named = set()
    for place in equation.forward:
        module, name = place.split(":")
        named |= {(module.split(".")[-1] + ".py", name), (module.split(".")[-1] + ".py", f"{name}.nll_and_grad")}
    assert named & ran


def test_numbers_are_spoken_with_their_digits():
    assert spoken(toys.Number("", "", -0.6108643, "nats")) == "−0.610864 nats"
    assert spoken(toys.Number("", "", 3.02639, error=0.01745)) == "3.026 ± 0.017"


# ---- the notations --------------------------------------------------------------------------------------------------

ARTICLE = {  # what the field calls it → what the article calls it
    "q(z|x)": "p(z|x)",
    "p(x|z)": "q(x|z)",
    "p(z)": "q(z)",
    "p(x,z)": "q(x,z)",
    "p(x)": "q(x)",
    "q(x,z)": "p(x,z)",
    "p̃(x)": "p̃(x)",
    "p(z|x)": "p̂(z|x)",
}
DENSITY = re.compile(r"[pq][\u0302\u0303]?\([^()]*\)")


def densities(text):
    return [re.sub(r"_[ks]\b", "", found) for found in DENSITY.findall(text)]


@EACH
def test_the_articles_formula_is_the_fields_with_the_articles_letters(equation):
    if equation.number and equation.number <= 6:  # no model yet: p and q are any two distributions
        assert equation.article == equation.formula
        return
    assert densities(equation.formula)
    assert [ARTICLE[density] for density in densities(equation.formula)] == densities(equation.article)
    assert list(map(columns, equation.article.splitlines())) == list(map(columns, equation.formula.splitlines()))
    assert not densities(equation.words + equation.gradient), "words and gradients hold for both notations"


FIELD_BY_NUMBER = {  # written by hand from the article, tag by tag: who stands on which side
    7: ["p(x)", "p(x,z)", "p(x|z)", "p(z)"],
    8: ["q(x,z)", "p(x,z)", "p̃(x)", "q(z|x)"],
    9: ["q(x,z)", "p(x,z)", "p̃(x)", "q(z|x)"],
    10: ["p̃(x)", "q(z|x)"],
    11: ["q(x,z)", "p(x,z)", "p̃(x)"],
    12: ["q(z|x)", "p(x|z)", "p(z)"],
    13: ["q(z|x)", "p(x|z)", "p(z)"],
    14: ["p(x|z)", "p(z)", "p(z|x)"],
    15: ["q(z|x)"],
    16: ["q(z|x)", "p(z)"],
    **{number: ["p(x|z)"] for number in range(17, 23)},
    23: ["q(z|x)", "p(x|z)"],
    24: ["p(x|z)", "q(z|x)", "p(z)"],
}


@pytest.mark.parametrize("number", range(7, 25))
def test_every_equation_has_the_distributions_of_the_article_in_the_fields_letters(number):
    assert set(densities(find(number).formula)) == set(FIELD_BY_NUMBER[number])


# ---- what is printed ------------------------------------------------------------------------------------------------


def columns(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@EACH
def test_a_text_fits_eighty_columns(equation, explained):
    lines = [line for line in str(explained[equation.key]).splitlines() if str(ROOT) not in line]
    assert max(map(columns, lines)) <= WIDTH
    assert not any(line != line.rstrip() for line in lines)


def test_the_list_fits_eighty_columns_and_names_every_equation():
    lines = str(mv.explain()).splitlines()
    assert max(map(columns, lines)) <= WIDTH
    assert len(lines) == 1 + len(EQUATIONS)
    for equation, line in zip(EQUATIONS, lines[1:], strict=True):
        assert equation.title in line
        assert equation.names[0] in line


@EACH
def test_a_text_holds_all_that_it_promises(equation, explained):
    text = str(explained[equation.key])
    assert text.splitlines()[:2] == [equation.heading, f"minivae explain {' | '.join(equation.names)}"]
    assert " ".join(equation.words.split()) in " ".join(text.split())
    for place in (*map(places.of_code, (*equation.forward, *equation.backward)), places.of_test(equation.test)):
        assert f"{place.file}:{place.line}" in text
        assert place.name in text
    assert equation.page in text
    assert spoken(explained[equation.key].number) in text
    for formula in (equation.article, equation.formula, equation.gradient):
        assert all(line in text for line in formula.splitlines())


@pytest.mark.parametrize("asked", [16, "16", "kl", "KL", "eq. 16", "(16)", "gaussian_kl", "Gaussian KL"])
def test_an_equation_is_found_by_its_number_and_by_its_names(asked):
    assert find(asked).number == 16


@pytest.mark.parametrize(
    "asked, hint",
    [
        (25, "the article's are 1 to 24"),
        (0, "the article's are 1 to 24"),
        (-3, "the article's are 1 to 24"),
        ("bernouli", "did you mean 'bernoulli'"),
        ("elbow", "did you mean 'elbo'"),
        ("§", "a name such as kl or elbo"),
        (True, "a name such as kl or elbo"),
    ],
)
def test_an_unknown_equation_is_one_line_that_names_what_would_do(asked, hint):
    with pytest.raises(mv.UsageError, match=re.escape(hint)) as caught:
        mv.explain(asked)
    assert "\n" not in str(caught.value)
    assert "minivae explain" in str(caught.value)


def test_from_python_it_prints_itself_and_is_data():
    explanation = mv.explain("kl")
    assert str(explanation) == repr(explanation)
    assert explanation.number.value == pytest.approx(KL)
    assert isinstance(mv.explain(), Listing)


def command(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-m", "minivae", "explain", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=600, env=os.environ | environment,
    )  # fmt: skip


def test_the_command_prints_the_text_and_a_pipe_has_no_colour():
    result = command("kl")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{mv.explain(16)}\n".replace(f"\n    below      {ROOT}", "")
    assert "\x1b" not in result.stdout


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("no_color, coloured", [("", True), ("1", False)])
def test_a_terminal_has_bold_headings_unless_no_color_is_set(no_color, coloured, monkeypatch):
    from minivae.cli.explain import explain

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", Terminal())
    explain("1")
    printed = sys.stdout.getvalue()
    assert ("\x1b[1mIn words\x1b[0m" in printed) == coloured
    assert re.sub(r"\x1b\[\d+m", "", printed) == f"{mv.explain(1)}\n"


def test_an_unknown_equation_on_the_command_line_is_one_line_and_status_2():
    result = command("bernouli")
    assert result.returncode == 2
    assert result.stderr.startswith("minivae: there is no equation 'bernouli': did you mean 'bernoulli'")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_json_holds_the_same(capsys):
    from minivae.cli.explain import explain

    explain("16", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["number"] == 16
    assert found["toy"]["value"] == pytest.approx(KL)
    assert found["forward"][0] == places.of_code("kernels.latent:forward_reference").to_dict()
    assert found["backward"] == [places.of_code(place).to_dict() for place in find(16).backward] != []
    assert found["gradient"] == find(16).gradient != ""
    assert found["test"]["line"] == places.of_test(find(16).test).line
    explain(as_json=True)
    assert [entry["number"] for entry in json.loads(capsys.readouterr().out)] == [e.number for e in EQUATIONS]


def test_where_no_tests_are_installed_the_test_has_no_line(tmp_path):
    """As a wheel lays it out: the package alone, kernels as files."""
    shutil.copytree(ROOT / "minivae", tmp_path / "minivae", ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    result = command("kl", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert re.search(r"forward +minivae/kernels/latent\.py:\d+ +forward_reference", result.stdout)
    assert re.search(r"test +tests/test_latent\.py +test_kl_matches_scipys_integral", result.stdout)


def test_a_place_that_is_not_there_has_no_line():
    assert places.of_code("kernels.latent:no_such_op").line is None
    assert places.of_code("no_such_room:forward").line is None
    assert places.of_test("tests/test_latent.py::test_no_such_claim").line is None


# ---- the page -------------------------------------------------------------------------------------------------------


def test_the_links_of_the_page_resolve(text_of_the_page):
    anchors = set(re.findall(r'<a id="([\w-]+)">', text_of_the_page))
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([\w-]*)\)", text_of_the_page):
        assert (ROOT / "docs" / target).exists(), target
        assert not anchor or anchor in anchors, anchor
