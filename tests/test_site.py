"""The site of the docs builds without a warning, and its reference holds what the pages import."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

pytestmark = pytest.mark.slow


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout. Not with `--quiet`, which would also keep warnings from being errors."""
    for package in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="the extra `docs` is not installed")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_pages_notebooks_and_pictures_are_there(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="docs/running/"' in home and "docs/gallery/go1-velocity.gif" in home
    for page in ("docs/learning", "notebooks/2_values", "policies/go1-velocity", "CHANGELOG"):
        assert (site / page / "index.html").is_file(), page
    notebook = (site / "notebooks/2_values/index.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in notebook and "<summary>Solution</summary>" in notebook


def test_the_reference_has_every_class_and_function_that_a_page_imports(site):
    head, inventory = (site / "objects.inv").read_bytes().split(b"zlib.\n", 1)
    assert head.startswith(b"# Sphinx inventory version 2")
    documented = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = {
        f"{module}.{name.partition(' as ')[0]}"
        for module, imported in re.findall(r"^from (jaxloco[\w.]*) import ([\w, ]+)", text, re.MULTILINE)
        for name in imported.strip().split(", ")
    }
    assert len(names) > 50
    missing = {
        name
        for name in names - documented
        if not name.rpartition(".")[2].isupper() and not any(known.startswith(f"{name}.") for known in documented)
    }
    assert missing == set()


def test_a_wrong_link_or_anchor_and_a_page_that_no_menu_has_are_errors(tmp_path):
    (tmp_path / "docs").mkdir()
    pages = {"README": "[a](docs/nowhere.md) [b](docs/page.md#nothing)", "docs/page": "found", "docs/lost": "lost"}
    for name, text in pages.items():
        (tmp_path / f"{name}.md").write_text(f"# Page\n\n{text}\n")
    for name in ("hooks.py", "site.css"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    settings = re.sub(r"watch: .*", "nav: [README.md, docs/page.md]", settings)
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = build(tmp_path, tmp_path.parent / "out")
    assert done.returncode != 0
    assert all(wrong in done.stderr for wrong in ("docs/lost.md", "docs/nowhere.md", "#nothing")), done.stderr
