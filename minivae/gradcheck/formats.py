"""formats: a report for continuous integration: GitHub's annotations and JUnit's XML.

github   the tables as text, and an annotation for each wrong gradient, at the line of its backward
junit    a test case for each target: passed, failed (a wrong gradient) or in error (it cannot be checked)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from xml.etree import ElementTree

from .report import Report
from .results import Failure, Result


def github(report: Report) -> str:
    """Return the report as a workflow's log: text, then lines ::error file=…,line=…,title=…::message."""
    lines = [str(report).rstrip().replace("::", ": :")]  # no name in the tables begins a command
    for result in report.results:
        if not result.ok:
            lines.append(_annotation(result.file, result.line, f"wrong gradient: {result.title}", message(result)))
    for failure in report.failures + (report.left_out if not report.results else []):
        lines.append(_annotation(_file(failure), 1, f"cannot be checked: {failure.name}", failure.message))
    return "\n".join(lines)


def message(result: Result) -> str:
    """Return the suggested causes, and the worst entry of each wrong tensor."""
    told = [hint.text for hint in result.hints]
    told += [finding.message for finding in result.findings if finding.verdict == "wrong"]
    for tensor in result.tensors:
        if tensor.verdict == "wrong" and tensor.worst:
            place = tensor.worst[0]
            at = f"{tensor.name}{place.index}" if place.index.startswith("[") else f"{tensor.name}, {place.index}"
            told.append(f"{at}: analytic {place.analytic:.6g}, numeric {place.numeric:.6g}")
    return "\n".join(dict.fromkeys(told))


def _file(failure: Failure) -> str:
    where = failure.name if failure.name.endswith(".py") else failure.name.rpartition(":")[0]
    return where if where.endswith(".py") else ""


def _annotation(file: str, line: int, title: str, text: str) -> str:
    """Return one ::error line. %, line ends and, in a property, : and , are escaped as GitHub's toolkit does."""
    at = {"file": os.path.relpath(file), "line": str(line)} if file else {}
    properties = [f"{name}={_escape(value, ':,')}" for name, value in {**at, "title": title}.items()]
    return f"::error {','.join(properties)}::{_escape(text)}"


def _escape(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def junit(report: Report) -> str:
    """Return the report as JUnit's XML, one test case for each target."""
    suite = ElementTree.Element(
        "testsuite",
        name="minivae gradcheck",
        tests=str(len(report.results) + len(report.failures) + len(report.left_out)),
        failures=str(sum(not result.ok for result in report.results)),
        errors=str(len(report.failures)),
        skipped=str(len(report.left_out)),
        time=f"{report.seconds:.3f}",
    )
    for result in report.results:
        case = _case(suite, result.title, result.file, result.line, result.seconds)
        if not result.ok:
            text = str(Report([result], report.settings, result.seconds))
            failed = ElementTree.SubElement(case, "failure", type="wrong gradient", message=_legal(message(result)))
            failed.text = _legal(text)
    for failure in report.failures:
        case = _case(suite, failure.name, _file(failure), 0, 0.0)
        ElementTree.SubElement(case, "error", type="cannot be checked", message=_legal(failure.message))
    for failure in report.left_out:
        case = _case(suite, failure.name, _file(failure), 0, 0.0)
        ElementTree.SubElement(case, "skipped", message=_legal(failure.message))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode")


def _case(suite: ElementTree.Element, name: str, file: str, line: int, seconds: float) -> ElementTree.Element:
    at = {"file": os.path.relpath(file), "line": str(line)} if file else {}
    named = {"classname": at.get("file", "minivae"), "name": _legal(name), "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", {**named, **at})


def _legal(text: str) -> str:
    """Drop the control characters that XML does not permit."""
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))


FORMATS: dict[str, Callable[[Report], str]] = {"github": github, "junit": junit}
