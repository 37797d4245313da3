"""Policies at an address: fetched when they are used, checked before they are, and nothing half-written stays."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jaxloco import cli, library, policy_index
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.policies import find_policy, known_policies, policies_dir


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and notes what was asked for."""

    asked: list[str] = []  # noqa: RUF012 (of all requests)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *words: Any) -> None: ...


class Server(ThreadingHTTPServer):
    """Says nothing of clients that take less than they asked for, as ours does of what is too large."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a policy `mine` and an index, at an address that JAXLOCO_POLICIES names; the cache is empty."""
    folder = tmp_path / "served"
    shutil.copytree(policies_dir() / "upkie-balance", folder / "mine")
    policy_index.write_index(folder)
    monkeypatch.setattr(Handler, "asked", [])
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("JAXLOCO_POLICIES", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    policy_index.read_index.cache_clear()
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()
    policy_index.read_index.cache_clear()


def kept(folder: Path) -> list[Path]:
    """Files in the cache beside the served folder."""
    return [path for path in (folder.parent / "cache").rglob("*") if path.is_file()]


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the policies of an index."""
    data = json.loads((folder / "index.json").read_text())
    edit(data["policies"])
    (folder / "index.json").write_text(json.dumps(data))


def test_a_policy_is_fetched_once_when_it_is_used_and_not_when_it_is_listed(served, capsys):
    assert cli.main(["policies"]) == 0
    assert {"mine", "go1-velocity"} <= set(capsys.readouterr().out.splitlines())
    assert library.bundle_of("go1-velocity") == policies_dir() / "go1-velocity" / "policy"
    assert Handler.asked == ["/index.json"] and not kept(served)
    for _ in range(2):
        bundle = library.bundle_of("mine")
    assert bundle == known_policies()["mine"] / "policy" and served.parent / "cache" in bundle.parents
    Policy.load(bundle).verify()
    assert sorted(Handler.asked) == sorted(["/index.json", *(f"/mine/{name}" for name in policy_index.FILES)])
    assert "fetching mine, 0.1 MB, from http://127.0.0.1" in capsys.readouterr().err


def test_what_was_changed_in_the_cache_is_fetched_again_and_another_index_is_another_copy(served):
    first = find_policy("mine")
    assert first is not None
    (first / "policy" / "golden.npz").write_bytes(b"changed")
    assert find_policy("mine") == first
    Policy.load(first / "policy").verify()
    (served / "mine" / "evaluation.json").write_text("{}")
    policy_index.write_index(served)
    policy_index.read_index.cache_clear()
    second = find_policy("mine")
    assert second is not None and second != first and (first / "evaluation.json").read_text() != "{}"


def damaged(folder: Path) -> None:
    path = folder / "mine" / "policy" / "policy.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def absent(folder: Path) -> None:
    (folder / "mine" / "policy" / "golden.npz").unlink()


def larger(folder: Path) -> None:
    path = folder / "mine" / "evaluation.json"
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, r"policy\.npz: not the file of the index: its size or checksum differs; nothing was kept"),
        (absent, r"golden\.npz cannot be read: File not found"),
        (larger, r"evaluation\.json: more than \d+ bytes; nothing was kept"),
        (lambda folder: (folder / "index.json").unlink(), r"index\.json cannot be read: File not found"),
        (lambda folder: (folder / "index.json").write_text("<html>"), r"is no index of policies \(JSONDecodeError"),
        (lambda folder: (folder / "index.json").write_text("[]"), r"is no index of policies \(TypeError"),
        (lambda folder: (folder / "index.json").write_text("[" * 100_000), r"is no index of policies"),
        (lambda folder: (folder / "index.json").write_text('{"schema": "b/2"}'), "schema 'b/2', this jaxloco reads"),
        (lambda folder: (folder / "index.json").write_bytes(b" " * (5 << 20)), "more than 4194304 bytes"),
        (lambda folder: change(folder, lambda all_: all_.update({"../up": all_["mine"]})), "policy called '../up'"),
        (
            lambda folder: change(folder, lambda all_: all_["mine"].update({"../x": all_["mine"]["evaluation.json"]})),
            "mine has other files than a policy's",
        ),
        (
            lambda folder: change(folder, lambda all_: all_["mine"]["evaluation.json"].update(bytes=1 << 40)),
            r"mine/evaluation\.json of 1099511627776 bytes",
        ),
        (
            lambda folder: change(folder, lambda all_: all_["mine"]["evaluation.json"].update(bytes=float("inf"))),
            r"is no index of policies \(OverflowError",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_one_line_and_leaves_nothing(spoil, message, served, capsys):
    spoil(served)
    with pytest.raises(JaxlocoError, match=message):
        find_policy("mine")
    policy_index.read_index.cache_clear()
    assert not kept(served)
    assert cli.main(["evaluate", "mine"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "fetching" not in line] == lines[-1:] and not kept(served)


def test_a_network_that_is_down_is_said(monkeypatch, capsys):
    monkeypatch.setenv("JAXLOCO_POLICIES", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    policy_index.read_index.cache_clear()
    assert cli.main(["policies"]) == 2
    assert "jaxloco: http://127.0.0.1:9/index.json cannot be read: " in capsys.readouterr().err


@pytest.mark.parametrize("zoo", ["nowhere", "ftp://127.0.0.1/zoo"])
def test_what_is_neither_a_folder_nor_an_address_is_said(zoo, monkeypatch, capsys):
    monkeypatch.setenv("JAXLOCO_POLICIES", zoo)
    assert cli.main(["policies"]) == 2
    assert capsys.readouterr().err == (
        f"jaxloco: JAXLOCO_POLICIES={zoo}: there is no such folder; an address begins with https://, http:// or file://\n"
    )


def test_without_a_home_a_copy_lasts_as_long_as_the_process(served, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    folder = find_policy("mine")
    assert folder is not None and Policy.load(folder / "policy").verify() < 1e-5 and find_policy("mine") == folder


def test_an_index_is_written_by_the_command_and_read_of_a_folder_by_its_address(served, monkeypatch, capsys):
    shutil.copytree(policies_dir() / "upkie-balance", served / "other")
    assert cli.main(["publish", "--index", str(served)]) == 0
    assert capsys.readouterr().out.strip() == str(served / "index.json")
    monkeypatch.setenv("JAXLOCO_POLICIES", served.as_uri())
    assert {"mine", "other"} <= set(known_policies()) and Policy.load(library.bundle_of("other"))
    (served / "other" / "evaluation.json").unlink()
    with pytest.raises(ConfigError, match=r"other/evaluation\.json is missing; publish other again"):
        policy_index.write_index(served)
    with pytest.raises(ConfigError, match=r"has no policy, NAME/policy/policy\.json"):
        policy_index.write_index(served / "mine")
