"""How to install what is missing: the command is true wherever this copy came from."""

import subprocess
import sys
from pathlib import Path

from jaxloco.installation import pip_install

PACKAGE = Path(__file__).resolve().parents[1] / "jaxloco"


def test_a_checkout_installs_itself():
    assert pip_install("train", "view") == f"pip install -e '{PACKAGE.parent}[train,view]'"


def test_a_wheel_is_named_by_where_it_lay_and_a_release_by_its_name(tmp_path):
    """The copy alone, beside what pip writes down."""
    (tmp_path / "jaxloco").symlink_to(tmp_path / "copied")
    (tmp_path / "copied").mkdir()
    for name in ("__init__", "installation"):
        (tmp_path / "copied" / f"{name}.py").write_text((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    info = tmp_path / "jaxloco-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jaxloco\nVersion: 0.1.0\n")

    def said() -> str:
        code = "from jaxloco.installation import pip_install; print(pip_install('train'))"
        words = [sys.executable, "-S", "-c", code]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert said() == "pip install 'jaxloco[train]'"
    (info / "direct_url.json").write_text('{"url": "file:///home/me/a%20b/jaxloco.whl", "archive_info": {}}')
    assert said() == "pip install '/home/me/a b/jaxloco.whl[train]'"
    (info / "direct_url.json").write_text("{")
    assert said() == "pip install 'jaxloco[train]'"
