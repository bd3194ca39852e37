"""What is shipped: rooms and their doors, names, documents and examples that run."""

import ast
import importlib.metadata
import inspect
import os
import re
import runpy
import subprocess
import sys
import timeit
from pathlib import Path

import pytest
import sklearn.datasets
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import sklinear
from sklinear import losses, reference

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sklinear.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Who may import whom: a room sees those before it in this list.
ORDER = [
    "_losses",
    "losses",
    "reference",
    "_threads",
    "_mapped",
    "_checks",
    "_data",
    "_variables",
    "_objective",
    "_duality",
    "_visit",
    "_certificate",
    "_dispatch",
    "_collections",
    "_passes",
    "_distributed",
    "_lazy",
    "_solvers",
    "_callbacks",
    "_predictor",
    "_lengths",
    "_base",
    "_classifiers",
    "_folds",
    "_cells",
    "_jobs",
    "_results",
    "_scoring",
    "_alphas",
    "_tuning",
    "_search",
    "_display",
    "__init__",
]
ALONE = {"_losses", "_mapped", "reference", "_threads"}


def imports(path, everywhere=True):
    """Absolute names that a file imports, inside functions too or at the top only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def rooms(path):
    """The rooms of the package that a file imports from."""
    names = [name.split(".") for name in imports(path)]
    return {parts[1] for parts in names if parts[0] == "sklinear"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_hand_down_and_never_reach_up(module):
    room = module.split(".")[0]
    assert room in ORDER, f"{room} needs a place in ORDER: whom may it import?"
    seen = rooms(MODULES[module])
    assert seen <= set(ORDER)
    if room in ALONE:
        assert seen == set()
    if room != "__init__":
        assert "reference" not in seen
    above = ORDER[ORDER.index(room) :]
    assert seen.isdisjoint(above) or (room == "_solvers" and seen & {*above} == {room})


def test_the_front_door_shows_the_estimators_and_the_losses():
    assert rooms(MODULES["__init__"]) <= {
        "_classifiers",
        "_search",
        "_display",
        "losses",
        "reference",
    }


@pytest.mark.parametrize("module", MODULES)
def test_only_declared_dependencies_are_imported_at_the_top(module):
    required = importlib.metadata.requires("sklinear")
    declared = {
        re.match(r"[\w-]+", line)[0] for line in required if "extra ==" not in line
    }
    names = {"scikit-learn": "sklearn"}
    allowed = {names.get(name, name) for name in declared} | {"sklinear"}
    found = {name.split(".")[0] for name in imports(MODULES[module], everywhere=False)}
    assert found - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_a_file_reads_in_one_sitting(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 450


# Names --------------------------------------------------------------------------------


def test_public_names_are_those_of_the_specification():
    names = {
        "LinearSVMClassifier",
        "LinearSVMClassifierCV",
        "SoftmaxClassifier",
        "SoftmaxClassifierCV",
        "ValidationPathDisplay",
        "losses",
        "reference",
    }
    assert set(sklinear.__all__) == names
    assert {name for name in vars(sklinear) if not name.startswith("_")} == names
    functions = {
        "weston_watkins",
        "cross_entropy",
        "svm_objective",
        "softmax_objective",
    }
    for module in losses, reference:
        assert set(module.__all__) == functions


@pytest.mark.parametrize("name", losses.__all__)
def test_the_loops_and_their_twins_take_the_same_arguments(name):
    fast, slow = getattr(losses, name), getattr(reference, name)
    assert inspect.signature(fast) == inspect.signature(slow)


@pytest.mark.parametrize(
    "member",
    [
        *(
            getattr(module, name)
            for module in (losses, reference)
            for name in losses.__all__
        ),
        sklinear.LinearSVMClassifier,
        sklinear.LinearSVMClassifierCV,
        sklinear.SoftmaxClassifier,
        sklinear.SoftmaxClassifierCV,
        sklinear.ValidationPathDisplay,
    ],
    ids=lambda member: f"{member.__module__}.{member.__name__}",
)
def test_every_public_name_and_parameter_is_documented(member):
    text = inspect.getdoc(member)
    assert ">>>" in text
    parameters = text.split("Parameters\n----------\n")[1].split("\n----")[0]
    documented = re.findall(r"^(\w+) : ", parameters, flags=re.MULTILINE)
    assert documented == list(inspect.signature(member).parameters)


def test_the_version_is_the_installed_one():
    assert sklinear.__version__ == importlib.metadata.version("sklinear")


def test_type_hints_and_licence_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Unreleased" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# Documents ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_every_code_block_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert capsys.readouterr().out  # they show something
    assert list(tmp_path.iterdir()) == []


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


EXAMPLES = [
    "plot_dask",
    "plot_hinge_vs_softmax",
    "plot_loops_to_blas",
    "plot_memory_map",
    "plot_text_stream",
    "plot_tune_digits",
]


def test_no_example_is_left_out():
    assert [path.stem for path in sorted((ROOT / "examples").glob("*.py"))] == EXAMPLES


LONG = ("plot_dask", "plot_memory_map", "plot_text_stream")  # 10 s each
FEW = "ignore:SoftmaxClassifierCV found the best"  # at an end, for so few digits


def in_short(monkeypatch):
    """Some of the digits, two folds, no time measured twice: the first command of the
    README runs the whole."""
    whole, fit, repeat = load_digits, GridSearchCV.fit, timeit.Timer.repeat

    def some(**options):
        digits = whole(**options)
        if isinstance(digits, tuple):
            return [part[::4] for part in digits]
        for name in ("data", "images", "target"):
            digits[name] = digits[name][::4]
        return digits

    def two_folds(self, *data):
        return fit(self.set_params(cv=2), *data)

    def once(self, repeats, number):
        return repeat(self, 1, number)

    monkeypatch.setattr(sklearn.datasets, "load_digits", some)
    monkeypatch.setattr(GridSearchCV, "fit", two_folds)
    monkeypatch.setattr(timeit.Timer, "repeat", once)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in EXAMPLES
    ],
)
@pytest.mark.filterwarnings(FEW)
def test_the_example_runs_and_draws(name, tmp_path, monkeypatch, capfd):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    work = tmp_path / "work"
    work.mkdir()
    script = ROOT / "examples" / f"{name}.py"
    if name == "plot_dask":  # which worker processes import too
        command = [sys.executable, "-W", "error", script]
        subprocess.run(
            command, cwd=work, env={**os.environ, "MPLBACKEND": "Agg"}, check=True
        )
    else:
        monkeypatch.chdir(work)
        in_short(monkeypatch)
        runpy.run_path(str(script), run_name="__main__")
        pyplot.close("all")
    shown, error = capfd.readouterr()
    assert shown
    assert error == ""
    (picture,) = work.iterdir()  # and nothing else
    assert picture.suffix == ".png"
    assert picture.stat().st_size > 10_000  # an empty figure has less
