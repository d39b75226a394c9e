"""`minivae gradcheck --format`: what a continuous integration reads."""

import json
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from test_gradcheck_command import run

from minivae.gradcheck import formats
from minivae.gradcheck.problem import Settings
from minivae.gradcheck.report import Report
from minivae.gradcheck.results import Failure, Hint, Place, Result, Tensor

CODE = """
import numpy as np

class Right:
    def forward(self, X):
        self.X = X
        return X * X

    def backward(self, dY):
        return 2 * self.X * dY

    @staticmethod
    def example_inputs(rng):
        return [rng.normal(size=(3, 2))]

class Wrong(Right):
    def backward(self, dY):
        return self.X * dY

class Refuses(Right):
    def backward(self, dY):
        raise ValueError("50% of it, line: 3")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    return "code.py"


def test_github_annotates_the_line_of_backward(file):
    code, out = run(f"{file}:Right", f"{file}:Wrong", f"{file}:Refuses", "--format", "github")
    assert code == 2
    lines = [line for line in out.splitlines() if line.startswith("::")]
    found = [re.fullmatch(r"::error file=code\.py,line=(\d+),title=([^:,]*)::(.*)", line).groups() for line in lines]
    wrong, refused = ([unquote(part) for part in parts] for parts in found)
    assert CODE.splitlines()[int(wrong[0]) - 1] == "    def backward(self, dY):"
    assert int(wrong[0]) > CODE.splitlines().index("class Wrong(Right):")
    assert wrong[1].endswith("Wrong") and "1/2" in wrong[2] and "numeric" in wrong[2]
    assert refused[1].endswith("Refuses") and "50% of it, line: 3" in refused[2] and "\n" not in refused[2]
    assert "checked" in out  # the table is in the log, too


def test_junit_has_a_case_for_each_target(file):
    code, out = run(f"{file}:Right", f"{file}:Wrong", f"{file}:Refuses", "--format", "junit")
    assert code == 2
    (suite,) = ElementTree.fromstring(out.encode())
    assert {k: suite.get(k) for k in ("tests", "failures", "errors")} == {"tests": "3", "failures": "1", "errors": "1"}
    right, wrong, refused = suite
    assert [case.get("name").rpartition(":")[2] for case in suite] == ["Right", "Wrong", "Refuses"]
    assert len(right) == 0 and right.get("file") == "code.py" and float(right.get("time")) >= 0
    assert wrong[0].tag == "failure" and "1/2" in wrong[0].get("message") and "tensor" in wrong[0].text
    assert refused[0].tag == "error" and "ValueError" in refused[0].get("message")


def test_one_that_cannot_be_checked_is_reported_too(file):
    code, out = run(f"{file}:Refuses", "--format", "github")
    assert code == 2 and "ValueError" in out


@pytest.mark.parametrize("form, start", [("json", "{"), ("text", " ")])
def test_json_and_text_are_as_without_the_option(file, form, start):
    code, out = run(f"{file}:Right", "--format", form)
    assert code == 0
    if form == "json":
        assert json.loads(out)["ok"]
    else:
        assert "1 target right" in out


def test_exit_codes_are_as_without_the_option(file):
    assert [run(f"{file}:{name}", "--format", "junit")[0] for name in ("Right", "Wrong", "Refuses")] == [0, 1, 2]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--format", "html"], "expected text, json, github or junit"),
        (["--format", "junit", "--json"], "one at a time"),
        (["--format", "github", "--mutate"], "leave out --mutate"),
    ],
)
def test_what_cannot_be_formatted_is_one_clear_line(file, options, message):
    code, out = run(f"{file}:Right", *options)
    assert code == 2 and message in out and "\n" not in out


def test_names_cannot_break_the_formats():
    name = 'a\n::error::b %0A,:\x07<&">'
    tensor = Tensor("W", (1,), 1, 0, "central", 1e-7, "wrong", [Place("[0]", 1.0, 2.0, 0.5, 1e-3)], [Hint("x", name)])
    report = Report([Result(name, "", [tensor], [])], Settings(), 0.1, [Failure(name, name)])
    annotations = [line for line in formats.github(report).splitlines() if line.startswith("::")]
    assert len(annotations) == 2
    (suite,) = ElementTree.fromstring(formats.junit(report).encode())
    assert suite[0].get("name") == name.replace("\x07", "")
