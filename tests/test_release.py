"""A release needs only a tag: what its workflow does, of which the commands are run here."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import jaxloco

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
STEPS = {step["name"]: step["run"] for step in WORKFLOW["jobs"]["build"]["steps"] if "run" in step}


def test_a_tag_of_a_version_releases_and_nothing_else_does():
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}  # `on`, as YAML 1.1 reads it


def test_what_is_published_was_built_and_tried_by_a_job_without_rights():
    jobs = WORKFLOW["jobs"]
    assert WORKFLOW["permissions"] == {"contents": "read"} and "permissions" not in jobs["build"]
    assert jobs["publish"]["needs"] == "build" and jobs["site"]["needs"] == "publish"
    assert jobs["publish"]["permissions"] == {"id-token": "write"} and "secrets" not in TEXT
    steps = {
        step["uses"].partition("@")[0]: step.get("with")
        for job in jobs.values()
        for step in job["steps"]
        if "uses" in step
    }
    assert steps["actions/upload-artifact"] == steps["actions/download-artifact"] == {"name": "dist", "path": "dist"}


@pytest.mark.parametrize(
    ("tag", "logged", "released"),
    [
        (f"v{jaxloco.__version__}", jaxloco.__version__, True),
        ("v9.9.9", jaxloco.__version__, False),
        (f"v{jaxloco.__version__}", "Unreleased", False),
    ],
)
def test_a_tag_must_be_the_version_that_the_changelog_has(tag, logged, released, tmp_path):
    (tmp_path / "jaxloco").mkdir()
    shutil.copy(ROOT / "jaxloco" / "__init__.py", tmp_path / "jaxloco")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{logged}]\n")
    environment = {**os.environ, "GITHUB_REF_NAME": tag, "PYTHONPATH": ""}
    (check,) = (command for name, command in STEPS.items() if "tag" in name)
    done = subprocess.run(["bash", "-e", "-c", check], cwd=tmp_path, env=environment)
    assert (done.returncode == 0) is released


def test_files_and_extras_of_the_commands_exist():
    commands = "\n".join(STEPS.values())
    files = re.findall(r"(?<![\w/.])(?:\.ci/[\w.]+|constraints\.txt)", commands)
    assert {".ci/smoke_onboard.py", "constraints.txt"} == set(files) and all((ROOT / file).is_file() for file in files)
    assert list(ROOT.glob("policies/*/policy"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in re.findall(r"\.\[(\w+)\]", commands))
