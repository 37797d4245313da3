"""Browsers that programs drive, to see what the viewer's page shows: a headless Chromium, and one without a picture."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from jaxloco.viewer.request import HOST, free_port

ARROW_UP = "\ue013"
"""In the protocol of WebDriver."""


class Client:
    """What a browser does without a picture: it reads messages, and sends one when a key is pressed."""

    def __init__(self, address: str) -> None:
        import viser
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        protocol = Subprotocol(f"viser-v{viser.__version__}")
        self.socket = connect(address.replace("http", "ws"), subprotocols=[protocol], max_size=None)
        pose = {"wxyz": [1, 0, 0, 0], "position": [1, 1, 1], "look_at": [0, 0, 0], "up_direction": [0, 0, 1]}
        lens = {"fov": 1.0, "near": 0.1, "far": 9.0, "image_height": 9, "image_width": 9}
        self.send("ViewerCameraMessage", **pose, **lens)

    def messages(self) -> list[dict[str, Any]]:
        """Return the next messages, which came together."""
        import msgspec
        import zstandard

        frame = self.socket.recv(timeout=60)
        assert isinstance(frame, bytes)
        size = int.from_bytes(frame[8:16], "little")
        found = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(frame[16 : 16 + size]))
        return list(found["messages"])

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the next message of a kind with these words in it."""
        while True:
            for message in self.messages():
                if message["type"] == kind and all(str(value) in str(message) for value in fields.values()):
                    return message

    def see(self) -> int:
        """Wait for messages; return how many states of a robot with a base they hold, each of which moves the floor."""
        kinds = [(message["type"], message.get("name")) for message in self.messages()]
        return kinds.count(("SetPositionMessage", "/fixed_bodies"))

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        import msgspec

        self.socket.send(msgspec.msgpack.encode({"type": kind, **fields}))


class Chromium:
    """A headless Chromium, by the W3C's WebDriver protocol.

    Args:
        size: Width and height of its window, pixels.
    """

    def __init__(self, size: tuple[int, int] = (500, 400)) -> None:
        self._port = free_port(0)
        self._driver = subprocess.Popen(["chromedriver", f"--port={self._port}"], stdout=subprocess.DEVNULL)
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
        chrome = {"goog:chromeOptions": {"args": [*arguments, "--window-size={},{}".format(*size)]}}
        capabilities = {"capabilities": {"alwaysMatch": {**chrome, "pageLoadStrategy": "none"}}}
        while True:
            try:
                self._session = self._ask("", capabilities)["sessionId"]
                return
            except urllib.error.URLError:  # it does not listen yet
                assert self._driver.poll() is None
                time.sleep(0.2)

    def _ask(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{HOST}:{self._port}/session{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, address: str) -> None:
        """Open a page; does not wait for it."""
        self._ask(f"/{self._session}/url", {"url": address})

    def text(self) -> str:
        """The page's text; empty where a slow machine does not answer in the driver's time."""
        try:
            return str(self.run("return document.body ? document.body.innerText : ''"))
        except urllib.error.HTTPError:
            return ""

    def run(self, script: str) -> Any:
        """Return what JavaScript in the page returns."""
        return self._ask(f"/{self._session}/execute/sync", {"script": script, "args": []})

    def picture(self) -> bytes:
        """Return what the page looks like, PNG."""
        return base64.b64decode(self._ask(f"/{self._session}/screenshot", method="GET"))

    def press(self, key: str) -> None:
        """Press a key and let it go, such as `ARROW_UP`."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._ask(f"/{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def close(self) -> None:
        """End it."""
        try:
            self._ask(f"/{self._session}", method="DELETE")
        finally:
            self._driver.terminate()
            self._driver.wait()
