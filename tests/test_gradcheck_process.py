"""Code is checked in a process of its own: nothing in it is taken for a right gradient, or mixed into a report."""

import csv
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
import test_cli

ROOT = Path(__file__).resolve().parent.parent

TANH = """
import numpy as np

class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y
    def backward(self, dY):
        {backward}
        return dY * (1 - self.y**2)
    @staticmethod
    def example_inputs(rng):
        return [rng.normal(size=(3, 4))]
"""


def gradcheck(*args, cwd=ROOT, run=test_cli.minivae):
    """(exit code, standard output, standard error) of `minivae gradcheck …`, and of the processes that it starts."""
    with tempfile.TemporaryFile() as file, mock.patch.dict(os.environ, COLUMNS="120"):
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            result = run("gradcheck", *args, cwd=cwd)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return result.returncode, result.stdout, file.read().decode() + result.stderr


def tanh(backward="pass", before=""):
    return before + TANH.format(backward=backward)


NO_RESULT = {
    "exit at import": (tanh(before="import sys\nsys.exit(0)\n"), "it called sys.exit(0)"),
    "exit in backward": (tanh("raise SystemExit(0)"), "it called sys.exit(0)"),
    "_exit at import": (tanh(before="import os\nos._exit(0)\n"), "ended with exit status 0 before there was a result"),
    "_exit in backward": (tanh("import os; os._exit(0)"), "ended with exit status 0 before there was a result"),
    "loop": (tanh("\n        while True: pass"), "no result within 2 s"),
    "killed": (tanh("import os; os.kill(os.getpid(), 9)"), "killed by SIGKILL"),
    "interrupt": (tanh("raise KeyboardInterrupt"), "it raised KeyboardInterrupt"),
    "its own report": (tanh("import os; os.write(1, b'{}'); os._exit(0)"), "before there was a result"),
    "closed files": (tanh("import os; os.closerange(0, 99)"), "before there was a result"),
    "closed files, and a loop": (
        tanh("import os, time; os.closerange(0, 99); time.sleep(600)"),
        "no result within 2 s",
    ),
    "input": (tanh("input()"), "EOFError"),
    "no return": (tanh().replace("return dY * (1 - self.y**2)", "pass"), "backward returned None"),
    "no backward": (tanh().replace("def backward", "def back"), "Tanh has no backward"),
}


@pytest.mark.parametrize("name", NO_RESULT)
def test_anything_but_a_result_is_exit_2_and_one_line(tmp_path, name):
    source, words = NO_RESULT[name]
    (tmp_path / "answer.py").write_text(source)
    run = test_cli.in_a_process if name == "closed files" else test_cli.minivae
    code, out, err = gradcheck(
        f"{tmp_path / 'answer.py'}:Tanh", "--timeout", 2 if "2 s" in words else 60, "--json", run=run
    )
    assert (code, out) == (2, "") and words in err, err
    assert "Tanh" in err.splitlines()[-1] or "answer.py" in err.splitlines()[-1]
    assert len(err.splitlines()) == 1, err


ARRAYS = """
class NoArray:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
"""


@pytest.mark.parametrize("line", ["return self.y", "return dY * (1 - self.y**2)"], ids=["output", "gradient"])
def test_what_cannot_become_an_array_is_exit_2(tmp_path, line):
    (tmp_path / "answer.py").write_text(ARRAYS + tanh().replace(line, "return NoArray()"))
    code, out, err = gradcheck(f"{tmp_path / 'answer.py'}:Tanh")
    assert (code, out) == (2, "") and "cannot be made an array" in err and len(err.splitlines()) == 1


def test_what_the_code_prints_stays_out_of_the_report(tmp_path):
    prints = "print('from python'); import os; os.system('echo from a child'); os.write(1, b'from the system')"
    (tmp_path / "answer.py").write_text(tanh(prints))
    code, out, err = gradcheck(f"{tmp_path / 'answer.py'}:Tanh", "--json")
    assert code == 0 and json.loads(out)["ok"] is True
    assert all(words in err for words in ("from python", "from a child", "from the system"))


def test_a_loop_in_one_leaves_the_others_their_results(tmp_path):
    loop = TANH.format(backward="import time; time.sleep(600)").replace("class Tanh", "class Loops")
    after = TANH.format(backward="dY = 2 * dY").replace("class Tanh", "class After")
    (tmp_path / "answer.py").write_text(tanh() + loop + after)
    code, out, _ = gradcheck(tmp_path / "answer.py", "--timeout", 5, "--json")  # the others have answered then
    data = json.loads(out)
    assert code == data["exit_code"] == 2 and data["ok"] is False
    assert [(t["name"], t["ok"]) for t in data["targets"]] == [("Tanh", True), ("After", False)]
    (failure,) = data["failures"]
    assert failure["name"].endswith("answer.py:Loops") and "no result within 5 s" in failure["message"]


EVERYTHING = """
def square(x):
    return x**2
def square_backward(x, dY):
    return 2 * x * dY
def cube_forward(x):
    return x**3
def cube_backward(dY, x):
    return 3 * x**2 * dY
def loss(x):
    return float((x**2).sum()), [2 * x]
def example_inputs(rng):
    return [rng.normal(size=(3, 4))]
def helper(x):
    return x
def _hidden(x):
    return float(x.sum()), [0 * x]
"""


def test_a_class_without_a_backward_is_not_left_out_of_a_file(tmp_path):
    """It may be misspelt; the rest of the file must not be taken for the whole."""
    (tmp_path / "answer.py").write_text(
        tanh() + tanh().replace("class Tanh", "class Other").replace("backward", "bakward")
    )
    code, out, _ = gradcheck("answer.py", "--json", cwd=tmp_path)
    (failure,) = json.loads(out)["failures"]
    assert code == 2 and "Other has no backward" in failure["message"]


def test_a_file_stands_for_all_that_can_be_checked_in_it(tmp_path):
    (tmp_path / "answer.py").write_text(tanh() + EVERYTHING)
    code, out, _ = gradcheck("answer.py", "--json", cwd=tmp_path)
    assert code == 0
    assert [t["name"] for t in json.loads(out)["targets"]] == ["Tanh", "square", "cube_forward", "loss"]
    assert gradcheck("answer.py:square,square_backward", cwd=tmp_path)[0] == 0


OF_TWO = """
import numpy as np
def square(x):
    return float((x**2).sum()), [2 * x]
def product(X, W):
    Y = X @ W
    return 0.5 * float((Y * Y).sum()), (Y @ W.T, 3 * X.T @ Y)
def helper(x, y, z):
    return x + y + z
"""
EXAMPLE = "def example_inputs(rng):\n    return rng.normal(size=(5,))\n"


def test_functions_that_return_a_pair_and_need_other_inputs_are_listed(tmp_path):
    """They may have gradients, and one that is wrong; with inputs that fit, they are checked."""
    path = tmp_path / "answer.py"
    path.write_text(OF_TWO + EXAMPLE)
    code, out, _ = gradcheck(path, "--json", cwd=tmp_path)
    data = json.loads(out)
    assert code == 0 and [t["name"] for t in data["targets"]] == ["square"] and not data["failures"]
    (left_out,) = data["left_out"]
    assert left_out["name"].endswith(":product")
    assert "missing 1 required positional argument: 'W'" in left_out["message"]
    path.write_text(OF_TWO)
    code, out, _ = gradcheck(path, "--json", cwd=tmp_path)
    names = [left_out["name"].rpartition(":")[2] for left_out in json.loads(out)["left_out"]]
    assert code == 2 and names == ["square", "product"]
    code, out, _ = gradcheck(path, "--shapes", "5x3,3x4", "--json", cwd=tmp_path)
    assert code == 1 and [t["name"] for t in json.loads(out)["targets"]] == ["product"]


# ---- references and folders -----------------------------------------------------------------------------------------

IDENTITY = """
class Tanh:
    def forward(self, x):
        return x
    def backward(self, dY):
        return dY
    def example_inputs(rng):
        return [0 * rng.normal(size=(3, 4))]
"""
ZERO = IDENTITY.replace("return x\n", "return 0 * x\n").replace("return dY\n", "return 0 * dY\n")


@pytest.fixture
def course(tmp_path):
    (tmp_path / "teacher.py").write_text("import numpy as np\n\nclass Tanh:\n    def forward(self, x):\n"
        "        return np.tanh(x)\n    @staticmethod\n    def example_inputs(rng):\n"
        "        return [rng.normal(size=(3, 4))]\n")  # fmt: skip
    answers = tmp_path / "answers"
    answers.mkdir()
    (answers / "ada.py").write_text(tanh())
    (answers / "bob.py").write_text(tanh("dY = 2 * dY"))
    (answers / "eve.py").write_text(IDENTITY)
    (answers / "mallory.py").write_text(tanh(before="import os\nos._exit(0)\n"))
    (answers / "zoe.py").write_text(ZERO)
    (answers / "_notes.py").write_text("raise SystemExit")
    return tmp_path


def test_another_function_than_the_reference_is_wrong(course):
    code, out, _ = gradcheck("answers/eve.py:Tanh", "--reference", "teacher.py:Tanh", cwd=course)
    assert code == 1 and "forward is not that of Tanh: the output is" in out
    assert gradcheck("answers/eve.py", "--reference", "teacher.py", cwd=course)[0] == 1
    assert gradcheck("answers/ada.py", "--reference", "teacher.py", cwd=course)[0] == 0


def test_a_folder_is_graded_with_a_table_and_a_csv(course):
    arguments = ["answers", "--reference", "teacher.py:Tanh", "--csv", "grades.csv"]
    code, out, _ = gradcheck(*arguments, cwd=course)
    assert code == 2
    with (course / "grades.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["answer"]).name for row in rows] == [
        f"{n}.py:Tanh" for n in ("ada", "bob", "eve", "mallory", "zoe")
    ]
    assert [row["verdict"] for row in rows] == ["right", "wrong", "wrong", "unchecked", "wrong"]
    assert "2 × numeric" in rows[1]["message"] and "not that of Tanh" in rows[2]["message"]
    assert "exit status 0" in rows[3]["message"]
    assert "5 answers: 1 right, 3 wrong, 1 unchecked" in out and "mallory.py" in out
    assert gradcheck(*arguments, cwd=course)[0] == 2 and "--force" in gradcheck(*arguments, cwd=course)[2]
    (course / "answers" / "mallory.py").unlink()
    assert gradcheck(*arguments, "--force", cwd=course)[0] == 1


def test_the_other_modes_too_run_in_a_process_of_their_own(course):
    for mode, kind in ((["--mutate"], "mutate"), (["--seeds", 2], "seeds"), (["--sweep"], "sweep")):
        code, out, err = gradcheck("answers/ada.py:Tanh", *mode, "--json", cwd=course)
        assert code == 0 and json.loads(out)["kind"] == kind, err
        code, out, err = gradcheck("answers/mallory.py:Tanh", *mode, "--json", cwd=course)
        assert (code, out) == (2, "") and "before there was a result" in err
