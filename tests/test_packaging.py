"""What an installation promises: bounded dependencies, exact constraints, a light import, one version."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import jaxloco

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in sum(EXTRAS.values(), start=PROJECT["dependencies"])]
OTHERS = [requirement for requirement in REQUIREMENTS if requirement.name != "jaxloco"]
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
PYTHONS = ("3.11", "3.12", "3.13")
ROBOT_PYTHON = "3.10"
"""Runs policies and trains none: only what is needed without an extra is for it."""


def constraints_for(python: str) -> dict[str, str]:
    """Return the exact version of every package on one Python."""
    return {
        canonicalize_name(constraint.name): str(constraint.specifier).removeprefix("==")
        for constraint in CONSTRAINTS
        if constraint.marker is None or constraint.marker.evaluate({"python_version": python})
    }


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )


def test_numpy_is_the_only_dependency_without_an_extra():
    assert [Requirement(line).name for line in PROJECT["dependencies"]] == ["numpy"]


@pytest.mark.parametrize("requirement", OTHERS, ids=str)
def test_a_dependency_has_a_lower_and_an_upper_bound(requirement):
    assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}


def test_the_supported_pythons_are_bounded_and_named():
    supported = SpecifierSet(PROJECT["requires-python"])
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]
    assert named == [ROBOT_PYTHON, *PYTHONS]


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_hold_a_version_within_bounds_of_every_dependency(python):
    exact = constraints_for(python)
    missing = [str(r) for r in OTHERS if not r.specifier.contains(exact.get(canonicalize_name(r.name), "0"))]
    assert missing == []


def test_constraints_hold_for_a_robot_too():
    (numpy,) = map(Requirement, PROJECT["dependencies"])
    exact = constraints_for(ROBOT_PYTHON)
    assert numpy.specifier.contains(exact["numpy"]) and exact["numpy"].startswith("2.2.")  # the last one for 3.10


def test_continuous_integration_tests_the_oldest_python_and_numpy_of_a_robot():
    lower = re.search(r"numpy>=([\d.]+)", PROJECT["dependencies"][0])
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert lower and f"numpy=={lower[1]}.*" in script and f"interpreter {ROBOT_PYTHON})" in script


def test_the_oldest_versions_are_one_of_each_package():
    lines = run(".ci/lowest.py").stdout.split()
    names = [line.partition("==")[0] for line in lines]
    assert len(names) == len(set(names)) and "numpy==2.0" in lines  # with what training needs, not a robot


def test_constraints_are_exact_and_name_no_address():
    assert [str(c) for c in CONSTRAINTS if c.url or not re.fullmatch(r"==[\w.+]+", str(c.specifier))] == []
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--|@|\\", text)


def test_constraints_cover_everything_the_dependencies_install():
    exact = constraints_for("{}.{}".format(*sys.version_info[:2]))
    wanted = ["jaxloco"]
    for name in wanted:
        wanted += [new for new in requirements_here(name) if new not in wanted]
    assert [name for name in wanted[1:] if name not in exact] == []


def requirements_here(name: str) -> list[str]:
    """Return the names of the packages that an installed package asks for on this machine."""
    extra = "dev" if name == "jaxloco" else ""
    lines = importlib.metadata.requires(name) or [] if installed(name) else []
    found = [Requirement(line) for line in lines]
    here = [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]
    return [canonicalize_name(r.name) for r in here]


def installed(name: str) -> bool:
    """Tell whether a package is installed here."""
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def test_the_installed_version_is_the_packages():
    assert importlib.metadata.version("jaxloco") == jaxloco.__version__


def test_the_changelog_has_a_section_for_this_version_or_unreleased_changes():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(jaxloco.__version__)})\]", changelog, re.MULTILINE)


def test_importing_the_package_imports_the_standard_library_only():
    # Start-up files of the environment import what they like before; only what jaxloco adds counts.
    script = "import sys; before = set(sys.modules); import jaxloco; print(*set(sys.modules) - before)"
    imported = {name.partition(".")[0] for name in run("-c", script).stdout.split()}
    assert imported - sys.stdlib_module_names == {"jaxloco"}


@pytest.mark.slow
def test_train_py_shows_its_help_from_a_checkout():
    assert "usage" in run("train.py", "--help").stdout.lower()


def test_the_robots_are_found():
    from jaxloco.robot import known_robots

    assert "upkie" in known_robots()


def test_no_text_names_a_registry_or_a_path_of_one_machine():
    folders = (".ci", "benchmarks", "docs", "jaxloco", "notebooks", "robots", "tests")
    paths = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    suffixes = {"", ".ipynb", ".json", ".md", ".py", ".toml", ".txt", ".xml", ".yaml"}
    texts = {p: p.read_text(encoding="utf-8") for p in paths if p.is_file() and p.suffix in suffixes}
    # Split, so that this file does not name them.
    forbidden = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "/ro" + "ot/", "/wo" + "rk/main"]))
    assert [str(path) for path, text in texts.items() if forbidden.search(text)] == []
