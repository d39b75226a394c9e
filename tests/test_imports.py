"""The house rules: who imports whom, what importing costs, and that `kernels` is not a top-level package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minivae"

# Each floor may import from those before it, and from its own. (errors and checks belong to everyone.)
FLOORS = [
    {"errors", "hints", "checks", "console", "disk", "memory", "environment", "device", "__init__"},
    {"kernels"},
    {"matmul"},
    {"backend"},
    {"buffers", "noise"},
    {"layers", "latent", "likelihoods", "conditions", "inputs", "units", "sparse"},
    {"objectives"},
    {"optim", "model"},
    {"datasets", "distributed"},
    {"training", "evaluation"},
    {"trace", "export", "plots"},
    {"vae"},
    {"sklearn"},
    {"gradcheck", "testing", "article", "bayes"},
    {"bench"},
    {"cli", "__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules():
    """(room, path) of every file; the files of a sub-package are one room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield parts[0], parts, path


def imported_rooms(parts, path):
    """The rooms of minivae that a file imports anywhere but under `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = ["minivae", *parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            if full[:1] == ["minivae"]:
                yield from ([full[1]] if len(full) > 1 else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("minivae."):
                    yield alias.name.split(".")[1]


def test_every_room_has_a_floor():
    assert {room for room, _, _ in modules()} | {"kernels"} == set(FLOOR)


@pytest.mark.parametrize("room, parts, path", list(modules()), ids=lambda x: getattr(x, "stem", ""))
def test_dependencies_run_one_way(room, parts, path):
    for other in imported_rooms(parts, path):
        if other in FLOOR and room != "__init__":
            assert FLOOR[other] <= FLOOR[room], f"{room} imports {other}, which stands above it"


LAZY = {  # who may import minivae inside a function, and why
    "__init__": "public names are loaded when they are asked for",
    "__main__": "each command imports what it needs",
    "cli": "each command imports what it needs",
    "bench": "each contender imports its library in its own process",
    "export": "PyTorch is loaded when a module is asked for",
    "distributed": "one process alone cuts nothing into shards",
    "datasets": "reading a file loads no Numba",
    "gradcheck": "your code is checked without loading the engine, and its process is started before NumPy is loaded",
    "inputs": "products by the non-zeros are loaded with the first sparse rows",
    "training": "products by the non-zeros are loaded with the first sparse rows",
    "matmul": "Numba is loaded with the first product",
    "testing": "pytest collects without loading NumPy",
}


@pytest.mark.parametrize("room, parts, path", list(modules()), ids=lambda x: getattr(x, "stem", ""))
def test_imports_stand_at_the_top_but_where_they_are_lazy_on_purpose(room, parts, path):
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    inside = [node for f in functions for node in ast.walk(f) if isinstance(node, ast.ImportFrom) and node.level]
    assert room in LAZY or parts[-1] == "__init__" or not inside, ast.unparse(inside[0])
    if room in ("inputs", "training"):
        assert {node.module for node in inside} <= {"sparse"}, path


def test_no_two_files_import_each_other():
    files = {".".join(parts): path for _, parts, path in modules()}
    imports = {name: set(imported_files(name, path, files)) for name, path in files.items()}
    seen: dict[str, int] = {}

    def visit(name, way):
        assert name not in way, f"a circle: {' → '.join([*way[way.index(name) :], name])}"
        if name not in seen:
            for other in sorted(imports[name]):
                visit(other, [*way, name])
            seen[name] = 1

    for name in files:
        visit(name, [])


def imported_files(name, path, files):
    """The files of minivae that a file imports when it is imported itself."""
    package = name.split(".")[:-1]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                for found in (f"{base}.{alias.name}".strip("."), base, f"{base}.__init__"):
                    if found in files and found != name:
                        yield found
                        break


def test_kernels_import_nothing_from_minivae():
    for path in (PACKAGE / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("minivae"), path
                assert node.level <= 1, path


def test_the_checker_imports_nothing_of_minivae_but_errors_hints_and_console():
    for path in (PACKAGE / "gradcheck").glob("*.py"):
        others = set(imported_rooms(path.relative_to(PACKAGE).parts, path)) - {"gradcheck"}
        assert others <= {"errors", "hints", "console"}, path


def variables_read(path):
    """The environment variables that a file reads, by os.environ or os.getenv; "?" where the name is not a literal.

    `os.environ | {…}`, a child's environment, does not count as a read, nor does an assignment."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "os.environ.get", "os.environ.setdefault", "os.environ.pop", "os.getenv"
        ):  # fmt: skip
            name = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = node.slice if isinstance(node.ctx, ast.Load) else None
        elif isinstance(node, ast.Compare) and any(ast.unparse(right) == "os.environ" for right in node.comparators):
            name = node.left
        if name is not None:
            yield name.value if isinstance(name, ast.Constant) else "?"
        assert not (isinstance(node, ast.ImportFrom) and node.module == "os" and "environ" in ast.unparse(node)), path


def test_the_table_of_environment_variables_is_what_the_code_reads():
    from minivae import environment

    files = [*(path for _, _, path in modules()), *(PACKAGE / "kernels").glob("*.py")]
    read = {name: path for path in files for name in variables_read(path) if (name, path.stem) != ("?", "environment")}
    assert "?" not in read, f"{read['?']}: read a variable by its literal name"
    known = environment.READ.keys() | environment.READ_BY_LIBRARIES.keys()
    assert not read.keys() - known, f"{read.keys() - known}: add it to minivae/environment.py"
    assert not environment.READ.keys() - read.keys(), "minivae/environment.py lists what nothing reads"


def test_no_file_pickles_or_evaluates():
    """But for messages from one rank to another, which mpi4py pickles as well: no file is read by it."""
    messages = PACKAGE / "distributed" / "mapped.py"
    for _, _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "pickle" not in ast.unparse(node) or path == messages, path


def run(code, cwd=ROOT):
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=600)


def test_importing_minivae_loads_nothing_heavy():
    heavy = ("numba", "cupy", "scipy", "matplotlib", "typer", "rich", "safetensors", "msgspec", "numpy")
    result = run(f"import sys, minivae; print([m for m in {heavy!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = ("numba", "cupy", "scipy", "matplotlib", "safetensors", "msgspec", "numpy")
    result = run(f"import sys, minivae.cli.app; print([m for m in {heavy!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_training_loads_no_special_functions():
    code = "import sys, numpy as np, minivae as mv; mv.VAE(4, 2, (3,)).fit(np.eye(4), epochs=1); "
    assert run(code + "print('scipy.special' in sys.modules)").stdout.strip() == "False"


def test_the_theory_is_loaded_when_it_is_asked_for():
    code = "import sys, minivae as mv; a = 'minivae.bayes' in sys.modules; mv.bayes.balance(3, weight=1); "
    assert run(code + "print(a, 'scipy' in sys.modules, 'numba' in sys.modules)").stdout.strip() == "False False False"


def test_the_theory_has_its_public_name_and_so_have_its_files():
    code = "import minivae as mv, minivae.bayes.linear; from minivae.bayes.linear import LinearGaussian; "
    code += "print(LinearGaussian is mv.bayes.LinearGaussian, minivae.bayes is mv.bayes)"
    assert run(code).stdout.strip() == "True True"


def test_a_bare_import_of_kernels_from_the_root_raises():
    result = run("import kernels")
    assert result.returncode != 0
    assert "minivae.kernels" in result.stderr


def test_public_names_are_there_and_listed():
    code = "import minivae as mv; [getattr(mv, n) for n in mv.__all__]; print(set(mv.__all__) <= set(dir(mv)))"
    assert run(code).stdout.strip() == "True"


def test_an_unknown_public_name_is_an_attribute_error():
    assert "has no attribute 'VEA'" in run("import minivae; minivae.VEA").stderr
