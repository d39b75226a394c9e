"""What reaches a terminal: names, labels and servers' answers cannot drive it, break a line, or end a command.

Oracles: Unicode's own categories, the codecs of Python, and the csv module.
"""

import csv
import json
import os
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_cli
from numba.core import event

from minivae import console
from minivae.cli.evaluate import write_rows
from minivae.cli.runs import Part
from minivae.errors import UsageError, UsageWarning, printable
from minivae.training.options import Options
from minivae.training.progress import Compilation, progress_of

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "\x1b]0;gone\x07\x1b[31m\r\n\u202e\x9b\udcff$\\frac{$"
SAFE = r"\x1b]0;gone\x07\x1b[31m\r\n\u202e\x9b\xff$\frac{$"


def minivae(*arguments, **environment):
    """The command in a process of its own, its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "minivae", *map(str, arguments)],
        cwd=ROOT, capture_output=True, timeout=600, env=os.environ | environment,
    )  # fmt: skip


def here(*arguments):
    """The command in this process, its output as bytes."""
    done = test_cli.minivae(*arguments)
    done.stdout, done.stderr = done.stdout.encode(), done.stderr.encode()
    return done


def test_only_printable_characters_are_left_and_those_stay():
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        plain = category[0] not in "CZ" or character == " "
        shown = printable(character)
        assert (shown == character) == plain, hex(code)
        if not plain:
            assert shown.isascii() and shown.isprintable() and shown[0] == "\\"


def test_a_hostile_name_is_one_line_that_says_which_bytes_it_has():
    assert printable(HOSTILE) == printable(HOSTILE.encode("utf-8", "surrogateescape")) == SAFE
    assert printable(printable(HOSTILE)) == SAFE
    assert str(UsageError(f"{HOSTILE}: no")) == f"{SAFE}: no"
    with pytest.warns(UsageWarning) as caught:
        warnings.warn(HOSTILE, UsageWarning, stacklevel=1)
    assert str(caught[0].message) == SAFE


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A run on a file whose name and labels are hostile, and what training it printed."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    labels = np.array([HOSTILE, "=cmd|'/C calc'!A0", "_", "-1.5", "@SUM(A1)"])[np.arange(60) % 5]
    path = folder / f"a{HOSTILE.replace('/', '')}.npz"
    np.savez(path, X=rng.random((60, 6)), y=labels)
    done = minivae("train", path, "--out", folder / "run", "--latent", 2, "--hidden", 8, "--epochs", 2)
    return folder / "run", path, done


def check_output(done, status=0):
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == status and "Traceback" not in text, text
    assert all(line.isprintable() for line in text.splitlines()), text
    return text


def test_a_training_with_hostile_names_ends_with_its_pictures(hostile_run):
    run, path, done = hostile_run
    assert f"data        {printable(path.name)}: 6 features" in check_output(done)
    assert (run / "latent.png").stat().st_size > 1000


def test_every_command_of_a_hostile_run_keeps_to_its_lines(hostile_run, tmp_path):
    run, path, _ = hostile_run
    assert printable(path.name) in check_output(here("evaluate", run, "--per-row", tmp_path / "x.csv", "-n", 5,
                                                     "--importance", 2))  # fmt: skip
    assert json.loads(here("evaluate", run, "--json").stdout)["part"] == f"test part of {path.name}"
    check_output(here("evaluate", run, "--json"))
    target = tmp_path / f"{HOSTILE.replace('/', '')}.npz"
    assert printable(target) in check_output(here("encode", run, "-o", target))
    message = check_output(here("encode", run, "-o", target), status=2)
    assert message.count("\n") == 1 and printable(target) in message


def test_a_hostile_variable_and_a_hostile_config_are_one_line(hostile_run, tmp_path):
    message = check_output(minivae("train", "mnist", "--out", tmp_path / "r", MINIVAE_DATA=HOSTILE), status=2)
    assert message.count("\n") == 1 and SAFE in message
    assert SAFE[:20] in check_output(minivae("info", MINIVAE_DATA=HOSTILE)).replace("\n", "")
    run, _, _ = hostile_run
    config = json.loads((run / "config.json").read_text())
    other = tmp_path / "run"
    other.mkdir()
    for name in ("model.safetensors", "history.csv"):
        (other / name).write_bytes((run / name).read_bytes())
    (other / "config.json").write_text(json.dumps(config | {"data": f"/no/{HOSTILE}"}))
    message = check_output(here("evaluate", other), status=2)
    assert message.count("\n") == 1 and SAFE in message


def test_json_holds_any_name_and_no_raw_control_character(capsys):
    console.print_json({"name": HOSTILE, "half": 0.5, "none": float("nan")})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": HOSTILE, "half": 0.5, "none": None}
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("encoding, command", [
    ("cp1252", "evaluate RUN --report"), ("latin-1", "evaluate RUN"),
    ("cp1252", "explain 16"), ("cp1252", "verify --list"),
])  # fmt: skip
def test_output_in_a_narrow_encoding_says_the_rest_in_ascii(encoding, command, hostile_run):
    words = [str(hostile_run[0]) if word == "RUN" else word for word in command.split()]
    done = minivae(*words, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0 and b"?" not in done.stdout, (done.stdout, done.stderr)
    assert "evaluate" not in command or b"(-elbo " in done.stdout


def test_no_file_takes_the_number_of_a_closed_standard_stream():
    code = "import minivae.__main__ as m; m._open_streams(); raise SystemExit(open('/dev/null').fileno())"
    done = subprocess.run(f'"{sys.executable}" -c "{code}" <&- >&- 2>&-', shell=True, cwd=ROOT, timeout=60)
    assert done.returncode > 2


def test_a_training_without_standard_error_shows_no_progress(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(progress_of(Options()), Compilation)


def test_characters_that_an_encoding_lacks_have_a_name_in_ascii():
    table = {
        "−": "-",
        "σ": "sigma",
        "Θ": "theta",
        "½": "1/2",
        "¼": "1/4",
        "≤": "<=",
        "²": "2",
        "é": "e",
        "日": "?",
        "─": "-",
    }
    for character, expected in table.items():
        assert console._in_ascii(UnicodeEncodeError("ascii", f"a{character}b", 1, 2, "")) == (expected, 2)
    for character in console._ASCII:
        assert console._ascii(character).isascii()


@pytest.mark.parametrize("labels, cells", [
    (["=1+1", "+x", "-x", "@x", "x=1", "-1.5", "+2", "-inf", ""],
     ["'=1+1", "'+x", "'-x", "'@x", "x=1", "-1.5", "+2", "-inf", ""]),
    ([b"dog", b"\xff", b"=x"], ["dog", r"\xff", "'=x"]),
    (["a\nb", "\t=x", "\udcff", 'q"q', "a,b"], [r"a\nb", r"\t=x", r"\xff", 'q"q', "a,b"]),
    ([-1, 2, 3], ["-1", "2", "3"]),
])  # fmt: skip
def test_no_label_in_a_table_is_a_formula(tmp_path, labels, cells):
    n = len(labels)
    part = Part(np.zeros((n, 1)), np.array(labels), np.arange(n), "x")
    with open(tmp_path / "x.csv", "wb") as file:
        write_rows(file, ".csv", part, {"log_px": np.full(n, -1.5)})
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["y"] for row in rows] == cells
    assert [row["log_px"] for row in rows] == ["-1.5"] * n


def test_compilation_is_told_once_while_a_training_runs_and_by_rank_0_alone(caplog):
    said = []
    for ranks, kernels in ((None, 0), (None, 2), (SimpleNamespace(rank=1, agreeing=None), 2)):
        progress = progress_of(Options(progress=False, ranks=ranks))
        progress.start(None)
        for _ in range(kernels):
            with event.trigger_event("numba:compile"):
                pass
        progress.stop()
        with event.trigger_event("numba:compile"):  # of a kernel that no training compiles
            pass
        said.append(len(caplog.records))
    assert said == [0, 1, 1]
