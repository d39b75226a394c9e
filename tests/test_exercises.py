"""The exercises of the book: stubs ask for what the references give, solutions pass, and wrong answers do not."""

import ast
from pathlib import Path

import numpy as np
import pytest

from minivae import UsageError, gradcheck
from minivae.gradcheck.user import checkable, load

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "docs" / "book").glob("*.md"))
STUB, REFERENCE, SOLUTION = "exercises/{}.py", "exercises/reference/{}.py", "docs/solutions/{}.py"


def code(form, chapter):
    """(name, class) of the exercise in one of its three forms."""
    path = str(ROOT / form.format(chapter))
    (name,) = checkable(path, forward_only=True)
    return name, load(f"{path}:{name}")


def signature(form, chapter):
    tree = ast.parse((ROOT / form.format(chapter)).read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    forward = next(node for node in found.body if node.name == "forward")
    return found.name, [argument.arg for argument in forward.args.args]


def test_every_chapter_has_its_exercise_in_three_forms():
    assert len(CHAPTERS) == 12
    for form in (STUB, REFERENCE, SOLUTION):
        assert sorted(path.stem for path in (ROOT / form).parent.glob("*.py")) == CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stub_reference_and_solution_have_one_signature(chapter):
    assert signature(STUB, chapter) == signature(REFERENCE, chapter) == signature(SOLUTION, chapter)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solution_is_graded_right(chapter):
    (_, solution), (_, reference) = code(SOLUTION, chapter), code(REFERENCE, chapter)
    report = gradcheck.check(solution, reference=reference)
    assert report.ok, str(report)
    assert [f.verdict for f in report.results[0].findings if f.kind == "reference"] == ["ok"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_stub_cannot_be_checked_before_it_is_filled_in(chapter):
    name, stub = code(STUB, chapter)
    with pytest.raises(UsageError, match="NotImplementedError: write forward here") as error:
        gradcheck.check(stub, reference=code(REFERENCE, chapter)[1])
    assert str(error.value).startswith(name) and "\n" not in str(error.value)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_wrong_backward_and_a_right_one_of_another_function_are_graded_wrong(chapter):
    _, solution = code(SOLUTION, chapter)
    solution, reference = getattr(solution, "target", solution), code(REFERENCE, chapter)[1]

    class Wrong(solution):
        def backward(self, dY):
            grads = super().backward(dY)
            return tuple(1.01 * g for g in grads) if isinstance(grads, tuple) else 1.01 * grads

    class Another(solution):
        def forward(self, *inputs):
            return 2 * super().forward(*inputs)

        def backward(self, dY):
            return super().backward(2 * np.asarray(dY))

    for answer, verdicts in ((Wrong, ("ok", "wrong")), (Another, ("wrong", "ok"))):
        report = gradcheck.check(answer, reference=reference)
        (result,) = report.results
        (forward,) = [f.verdict for f in result.findings if f.kind == "reference"]
        assert (forward, "wrong" if any(t.verdict == "wrong" for t in result.tensors) else "ok") == verdicts
        assert report.exit_code == 1
