"""A real Chromium for tests: chromedriver's WebDriver protocol, with the standard library alone."""

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")

TAB, ENTER, ESCAPE, SPACE = "\ue004", "\ue007", "\ue00c", " "
"""Keys as WebDriver writes them."""

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
).split()


class Browser:
    """One window. `with Browser() as browser: browser.open(path)`."""

    def __init__(self) -> None:
        assert CHROMIUM and DRIVER
        self._profile = tempfile.TemporaryDirectory(prefix="autobackend-chromium-")
        # Port 0: chromedriver chooses a free one and says which.
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._session = ""
        try:
            self._url = f"http://127.0.0.1:{self._port()}"
            options = {"binary": CHROMIUM, "args": [*_ARGUMENTS, f"--user-data-dir={self._profile.name}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            self._session = self._call("POST", "/session", capabilities={"alwaysMatch": wanted})["sessionId"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page anew, with nothing of the last one left."""
        self._in_session("POST", "/url", url="about:blank")
        self._in_session("POST", "/url", url=page.as_uri() + (f"#{fragment}" if fragment else ""))

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body returns in the page."""
        return self._in_session("POST", "/execute/sync", script=script, args=list(arguments))

    def click(self, css: str) -> None:
        """A real click on the first element that a selector finds."""
        element = self._in_session("POST", "/element", using="css selector", value=css)
        self._in_session("POST", f"/element/{element[_ELEMENT]}/click")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = [{"type": way, "value": key} for key in keys for way in ("keyDown", "keyUp")]
        self._in_session("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def back(self) -> None:
        self._in_session("POST", "/back")

    def address(self) -> str:
        """What is after the # of the address."""
        return str(self._in_session("GET", "/url")).partition("#")[2]

    def cdp(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._in_session("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def resize(self, width: int, height: int = 900) -> None:
        """The width that the page sees, also below what a window may have."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)

    def media(self, kind: str = "", **features: str) -> None:
        """Emulate `print` and features such as prefers_color_scheme="dark"; nothing: as it was."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.cdp("Emulation.setEmulatedMedia", media=kind, features=wanted)

    def scripts(self, run: bool) -> None:
        """Whether scripts of pages run that are opened from now on."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not run)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the last time."""
        entries = self._in_session("POST", "/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    def close(self) -> None:
        """End the browser and its driver."""
        if self._session:
            self._call("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait()
        if self._driver.stdout:
            self._driver.stdout.close()
        self._profile.cleanup()

    def _port(self) -> int:
        assert self._driver.stdout
        for line in self._driver.stdout:
            if started := re.search(r"started successfully on port (\d+)", line):
                return int(started[1])
        raise RuntimeError(f"{DRIVER} did not start: exit code {self._driver.wait()}")

    def _in_session(self, method: str, path: str, **body: Any) -> Any:
        return self._call(method, f"/session/{self._session}{path}", **body)

    def _call(self, method: str, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self._url + path,
            data=json.dumps(body).encode() if method == "POST" else None,
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(json.load(error)["value"]["message"]) from error


def wait_until(holds: Any, seconds: float = 5.0) -> None:
    """Wait for what the browser does in its own time: history, layout."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
