"""`minivae verify`: each claim of the article holds, or is loose where that is known; a wrong engine is found out."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from minivae import backend, likelihoods, objectives
from minivae.article.bayes import divergences, joint
from minivae.article.claims import claim as rules
from minivae.article.claims import decoders, verify
from minivae.article.claims import report as drawn
from minivae.article.claims.claim import CLAIMS, Claim, at_least, at_most, below, equals, near
from minivae.article.equations.table import find
from minivae.cli.verify import verify as command
from minivae.errors import UsageError
from minivae.gradcheck.ours.mistakes import OF_OPS

app = typer.Typer()
app.command()(command)


def run(*arguments):
    """(status, what was printed) of `minivae verify …`."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, list(arguments))
    if isinstance(result.exception, UsageError):
        return 2, str(result.exception)
    return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def report():
    return verify.run()


# ---- the claims -----------------------------------------------------------------------------------------------------


def test_every_claim_of_the_article_holds_or_is_known_to_be_loose(report):
    assert report.ok, str(report)
    assert report.exit_code == 0


def test_the_article_is_loose_in_four_places(report):
    loose = [result.claim.name for result in report.results if result.verdict == "loose"]
    assert loose == ["bhattacharyya-finite", "floor-of-a-density", "not-to-be-split", "one-sample-suffices"]


def test_every_equation_has_a_claim_and_every_claim_a_sentence():
    claims = verify.claims()
    assert {number for claim in claims for number in claim.equations} == set(range(1, 25))
    for claim in claims:
        assert claim.sentence.endswith("."), claim.name
        assert claim.chapter in verify.CHAPTERS, claim.name
        assert claim.name not in verify.CHAPTERS and not claim.name.isdigit() and claim.name[:2] != "eq", claim.name


def test_every_domain_has_a_recipe_for_its_normalisation():
    assert {cls.domain for cls in likelihoods.LIKELIHOODS.values()} == set(decoders.SUPPORTS)


def test_a_likelihood_that_is_not_normalised_on_its_domain_fails_the_claim(monkeypatch):
    monkeypatch.setattr(likelihoods.real.Gaussian, "domain", "unit")
    result = one("normalised")
    assert result.verdict == "FAILS"
    assert [check.what for check in result.checks if not check.holds] == ["|∫ or Σ p(x|z) − 1|, gaussian"]


def test_measurements_are_the_same_each_time(report):
    for name in ("plain-mean", "engine-loss", "annealed", "no-single-term"):
        again = one(name)
        assert again.checks == report.results[again.number - 1].checks


def test_two_claims_cannot_share_a_name():
    verify.claims()  # all of them are known
    with pytest.raises(ValueError, match="two claims are called 'floor'"):
        rules.claim("floor", (), "Again.")(list)


# ---- a wrong engine -------------------------------------------------------------------------------------------------


def one(name):
    """The result of one claim."""
    (result,) = verify.run([name]).results
    return result


@contextmanager
def planted(op, mistake):
    """Every backend made inside has `op` replaced: mistake(right, *arguments)."""
    right_load = backend.kernel_files.load

    def load(*arguments):
        ops = right_load(*arguments)
        right = getattr(ops, op)
        setattr(ops, op, lambda *args: mistake(right, *args))
        return ops

    backend.kernel_files.load = load
    try:
        yield
    finally:
        backend.kernel_files.load = right_load


def kl_negated(op, Z, sigma, kl_rows, kl_dims, H, eps):
    op(Z, sigma, kl_rows, kl_dims, H, eps)
    kl_rows *= -1
    kl_dims *= -1


def kl_halved(op, Z, sigma, kl_rows, kl_dims, H, eps):
    op(Z, sigma, kl_rows, kl_dims, H, eps)
    kl_rows *= 0.5
    kl_dims *= 0.5


def sigma_of_logvar(op, Z, sigma, kl_rows, kl_dims, H, eps):
    op(Z, sigma, kl_rows, kl_dims, H, eps)
    L = sigma.shape[1]
    sigma[...] = np.exp(H[:, L:])
    Z[...] = H[:, :L] + sigma * eps


def logvar_clipped(op, Z, sigma, kl_rows, kl_dims, H, eps):
    """σ ≤ 1: a variance that cannot grow."""
    op(Z, sigma, kl_rows, kl_dims, H, eps)
    np.minimum(sigma, 1, out=sigma)
    Z[...] = H[:, : sigma.shape[1]] + sigma * eps


def noise_shared(op, Z, sigma, kl_rows, kl_dims, H, eps):
    """One ε for all latent dimensions."""
    op(Z, sigma, kl_rows, kl_dims, H, np.ascontiguousarray(eps[:, :, :1] + 0 * eps))


def noise_forgotten(op, dH, dZ, eps, sigma, H, kl_weight):
    op(dH, dZ, 0 * eps, sigma, H, kl_weight)


def samples_not_averaged(op, nll, d_out, out, X, weight):
    """1/B in 1/(B·S)'s place."""
    op(nll, d_out, out, X, weight * (len(out) // len(X)))


def second_term_lost(op, nll, d_out, out, X, weight):
    """−x ln ρ without −(1 − x) ln(1 − ρ)."""
    op(nll, d_out, out, X, weight)
    nll -= ((1 - X) * np.log1p(np.exp(out.reshape(-1, *X.shape)))).sum(axis=2).ravel()


def gradient_negated(op, nll, d_out, out, X, weight):
    op(nll, d_out, out, X, weight)
    d_out *= -1


def constant_dropped(op, nll, d_out, clamped, out, X, weight):
    op(nll, d_out, clamped, out, X, weight)
    nll -= 0.5 * X.shape[1] * math.log(2 * math.pi)


def sigma_for_variance(op, nll, d_out, out, X, weight, sigma):
    op(nll, d_out, out, X, weight, math.sqrt(sigma))


def samples_not_divided(op, log_w, weight, bound, nll, Z, eps, H, beta):
    """ln Σ w in ln (1/S) Σ w's place."""
    op(log_w, weight, bound, nll, Z, eps, H, beta)
    bound += math.log(len(log_w))


def mean_of_logs(op, log_w, weight, bound, nll, Z, eps, H, beta):
    """The mean of ln w: no better with more samples."""
    op(log_w, weight, bound, nll, Z, eps, H, beta)
    bound[...] = log_w.mean(axis=0)


def total_doubled(op, largest, total, squares, log_w):
    op(largest, total, squares, log_w)
    total *= 1.01


# (op, mistake) → claims that must fail
PLANTED = {
    ("latent_forward", kl_negated): ["kl-formula", "engine-loss", "one-sample", "floor-of-a-density"],
    ("latent_forward", kl_halved): ["kl-formula", "engine-loss", "one-sample"],
    ("latent_forward", sigma_of_logvar): ["gaussian-encoder", "samples", "one-sample"],
    ("latent_forward", logvar_clipped): ["gaussian-encoder", "one-sample"],
    ("latent_forward", noise_shared): ["gaussian-encoder"],
    OF_OPS["KL dropped"]: ["reparameterised"],
    ("latent_backward", noise_forgotten): ["reparameterised"],
    ("bernoulli", samples_not_averaged): ["reparameterised"],
    ("bernoulli", second_term_lost): ["bernoulli", "cross-entropy", "normalised", "marginal"],
    ("bernoulli", gradient_negated): ["two-points-vae", "one-indicator"],
    ("gaussian", constant_dropped): ["gaussian", "normalised"],
    ("gaussian_fixed", sigma_for_variance): ["squared-error", "balance"],
    OF_OPS["weights uniform"]: ["gradients"],
    ("importance_forward", samples_not_divided): ["iwae-grows"],
    ("importance_forward", mean_of_logs): ["iwae-grows"],
    OF_OPS["weights without prior"]: ["iwae-one", "iwae-mean", "iwae-grows"],
    OF_OPS["entropy dropped"]: ["iwae-one"],
    ("log_sum_exp", total_doubled): ["importance-sampling"],
}


@pytest.mark.parametrize(
    "op, mistake, claims",
    [(*key, names) for key, names in PLANTED.items()],
    ids=[mistake.__name__ for _, mistake in PLANTED],
)
def test_a_mistake_in_an_op_fails_the_claims_about_it(monkeypatch, op, mistake, claims):
    monkeypatch.setattr(decoders, "examples", lambda: {name: name for name in ("bernoulli", "gaussian")})  # for time
    with planted(op, mistake):
        found = verify.run(claims)
    assert {result.claim.name for result in found.results if not result.ok} == set(claims), str(found)
    assert found.exit_code == 1


def broken(monkeypatch, owner, name, make):
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))


THEORY = {
    "the KL's sign": (divergences, "kl_gaussian", lambda f: lambda *a: -f(*a), ["kl-not-negative", "kl-formula"]),
    "the loss without its prior": (
        joint.DiscreteJoint,
        "loss",
        lambda f: lambda self: f(self) + 0.1,
        ["constant", "objective", "floor", "best-posterior"],
    ),
    "a loss of half the KL": (
        objectives.Terms,
        "loss",
        lambda f: property(lambda self: self.nll + 0.5 * self.kl),
        ["engine-loss", "one-sample"],
    ),
}


@pytest.mark.parametrize("owner, name, make, claims", THEORY.values(), ids=THEORY)
def test_a_mistake_in_the_theory_fails_the_claims_about_it(monkeypatch, owner, name, make, claims):
    from minivae import bayes

    broken(monkeypatch, owner, name, make)
    if name in vars(bayes):  # what was loaded by name already
        monkeypatch.setattr(bayes, name, getattr(owner, name))
    found = verify.run(claims)
    assert {result.claim.name for result in found.results if not result.ok} == set(claims), str(found)


# ---- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check, holds",
    [
        (equals("", 1.0, 1 + 5e-13), True),
        (equals("", 1.0, 1 + 2e-12), False),
        (equals("", math.inf, math.inf), True),
        (near("", 1.39, 1, 0.1), True),
        (near("", 1.41, 1, 0.1), False),
        (near("", 0.59, 1, 0.1), False),
        (at_most("", 1, 1), True),
        (at_most("", 1.1, 1), False),
        (at_least("", 1, 1), True),
        (at_least("", 0.9, 1), False),
        (below("", 1, 1), False),
        (below("", 0.9, 1), True),
        (rules.above("", 1, 1), False),
        (rules.above("", 1.1, 1), True),
        (rules.infinite("", math.inf), True),
        (rules.infinite("", -math.inf), False),
    ],
    ids=lambda x: getattr(x, "rule", None),
)
def test_a_rule_holds_where_it_says(check, holds):
    assert check.holds is holds


def test_nan_holds_nowhere():
    nan = math.nan
    for check in (equals("", nan, 0), equals("", 0, nan), near("", nan, 0, 1), near("", 0, 0, nan)):
        assert check.holds is False
    for rule in (at_most, at_least, below, rules.above):
        assert rule("", nan, 0).holds is False
    assert rules.infinite("", nan).holds is False


# ---- the runner -----------------------------------------------------------------------------------------------------


def replaced(monkeypatch, name, measure):
    """The claim called `name` measures something else."""
    verify.claims()
    monkeypatch.setitem(CLAIMS, name, replace(CLAIMS[name], measure=measure))


def test_a_failing_claim_says_what_was_measured_and_expected_and_ends_with_status_1(monkeypatch):
    replaced(monkeypatch, "floor", lambda: [at_most("H(p̃)", 2.5, 1)])
    status, out = run("--only", "floor")
    assert status == 1
    assert "H(p̃): measured 2.5, expected ≤ 1" in out
    assert "FAILS" in out
    assert "1 claim: 0 hold, 0 loose, 1 fail" in out


def test_a_loose_claim_whose_looseness_is_gone_fails(monkeypatch):
    replaced(monkeypatch, "floor-of-a-density", lambda: [below("𝓛", 0.1, 0)])
    assert one("floor-of-a-density").verdict == "FAILS"


def test_an_error_is_a_failure_and_is_shown(monkeypatch):
    def raises():
        raise ZeroDivisionError("nothing left")

    replaced(monkeypatch, "floor", raises)
    result = one("floor")
    assert result.verdict == "FAILS"
    assert result.to_json()["error"] == "ZeroDivisionError: nothing left"
    assert "raised ZeroDivisionError: nothing left" in str(verify.Report([result]))


def test_a_claim_that_measures_nothing_fails(monkeypatch):
    replaced(monkeypatch, "floor", list)
    assert one("floor").verdict == "FAILS"


def test_ctrl_c_ends_with_status_130(monkeypatch):
    from test_cli import minivae

    def interrupted():
        raise KeyboardInterrupt

    replaced(monkeypatch, "floor", interrupted)
    assert minivae("verify", "--only", "floor").returncode == 130


def test_json_holds_every_claim_and_its_checks(report):
    status, out = run("--json", "--only", "divergences")
    assert status == 0
    found = json.loads(out)
    assert (found["schema"], found["kind"], found["ok"]) == (1, "verify", True)
    assert (found["holds"], found["loose"], found["fails"]) == (7, 1, 0)
    claims = [result for result in report.results if result.claim.chapter == "divergences"]
    assert [c["number"] for c in found["claims"]] == [result.number for result in claims]
    for entry, result in zip(found["claims"], claims, strict=True):
        assert set(entry) == {
            "number", "name", "chapter", "equations", "sentence", "verdict", "loose", "seconds", "error", "checks",
        }  # fmt: skip
        assert entry["verdict"] == result.verdict
        assert [check["what"] for check in entry["checks"]] == [check.what for check in result.checks]
        assert all(set(check) == {"what", "value", "rule", "holds"} for check in entry["checks"])
    infinite = found["claims"][2]["checks"][0]
    assert (infinite["value"], infinite["holds"]) == ("inf", True)  # JSON knows no infinity


def test_an_equation_is_spelt_as_explain_has_it():
    expected = [claim.name for _, claim in verify.select(["eq16"])]
    for spelling in ("eq. 16", "eq 16", "eq-16", "EQ16", "eq. (16)"):
        assert [claim.name for _, claim in verify.select([spelling])] == expected
        assert find(spelling).number == 16


def test_names_are_a_list():
    with pytest.raises(UsageError, match=r"'eq16': expected a list of names, as in \['eq16'\]"):
        verify.run("eq16")


def test_only_takes_numbers_names_chapters_and_equations():
    names = [[claim.name for _, claim in verify.select(chosen)] for chosen in (["17"], ["kl-formula", "1"], ["eq16"])]
    assert names[0] == [verify.claims()[16].name]
    assert names[1] == ["quadrature", "kl-formula"]
    assert names[2] == [claim.name for claim in verify.claims() if 16 in claim.equations]
    assert {claim.chapter for _, claim in verify.select(["bounds"])} == {"bounds"}
    assert len(verify.select([])) == len(verify.claims())


@pytest.mark.parametrize("name", ["0", "99", "eq25", "Kl-formula", ""])
def test_an_unknown_claim_is_one_clear_line(name):
    status, message = run("--only", name)
    assert status == 2
    assert message.startswith(f"--only {name}: expected a claim's number, 1 to {len(verify.claims())}, its name")


def test_list_names_every_claim_and_measures_none(monkeypatch):
    monkeypatch.setattr(verify, "measure", None)
    status, out = run("--list")
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == [claim.name for claim in verify.claims()]
    status, out = run("--list", "--json", "--only", "bounds")
    listed = {claim["name"]: claim["sentence"] for claim in json.loads(out)["claims"]}
    assert listed == {claim.name: claim.sentence for _, claim in verify.select(["bounds"])}
    assert all(listed.values())


def test_the_table_marks_what_is_loose(report):
    text = str(report)
    assert "loose: a density may be above 1" in " ".join(text.split())
    assert (
        text.rstrip()
        .splitlines()[-1]
        .startswith(f"{len(report.results)} claims: {report.count('holds')} hold, 4 loose")
    )


def test_progress_names_each_claim_before_it_is_measured():
    heard = []
    verify.run(["expectations"], lambda *told: heard.append(told))
    assert heard[0] == (0, 5, "quadrature")
    assert [told[2] for told in heard] == [claim.name for _, claim in verify.select(["expectations"])]


def test_a_claim_is_a_plain_record():
    claim = Claim("x", "floor", (), "It is so.", list)
    assert drawn.equations(claim) == "prose"
    assert drawn.equations(replace(claim, equations=(17, 18))) == "eq. 17, 18"
