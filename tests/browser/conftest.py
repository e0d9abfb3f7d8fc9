"""A real Chromium, spoken to in its own protocol over a pipe, cut off from every network."""

import base64
import json
import os
import select
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
PATIENCE = 60  # seconds for an answer: only a hang is that slow
AXE = "axe-core@4.14.1"
DARK = {"prefers_color_scheme": "dark"}
PICTURES = {
    "light": (1280, {}),
    "dark": (1280, DARK),
    "narrow": (400, {}),
    "narrow-dark": (400, DARK),
}
KEYS = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowRight": 39}


class Browser:
    """One Chromium and its pipe: messages are JSON, ended by a zero byte."""

    def __init__(self, command: list[str]) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def at_its_place() -> None:
            os.dup2(theirs_in, 3)  # where Chromium reads
            os.dup2(theirs_out, 4)  # and writes

        self._process = subprocess.Popen(
            command,
            preexec_fn=at_its_place,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Ask, and wait for the answer; what happens meanwhile goes to `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, **params: Any) -> dict[str, Any]:
        """Wait until something has happened, or has happened before."""
        while True:
            for event in self.events:
                said = event.get("params", {})
                if event.get("method") == method and params.items() <= said.items():
                    return event
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self._in, 1 << 20) if ready else b""
            assert chunk, "Chromium does not answer"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


class Tab:
    """A page that was opened, and all that it did since."""

    def __init__(
        self, browser: Browser, *, width: int, scripts: bool, media: dict[str, str]
    ) -> None:
        self.browser = browser
        browser.events.clear()
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        self.context, self._target = context, target["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.show(width, **media)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def show(self, width: int, *, media: str = "", **features: str) -> None:
        """Another window, or another taste: `show(400, prefers_color_scheme="dark")`."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        wanted = [{"name": name.replace("_", "-"), "value": features[name]} for name in features]
        self.call("Emulation.setEmulatedMedia", media=media, features=wanted)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self._session, **params)

    def go(self, path: Path) -> "Tab":
        self.call("Page.navigate", url=path.as_uri())
        self.browser.wait("Page.loadEventFired")
        return self

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited, as if a user had acted."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key of KEYS, pressed and released."""
        text = {"Enter": "\r", "Space": " "}.get(key)
        about = {"key": text if key == "Space" else key, "code": key}
        about["windowsVirtualKeyCode"] = KEYS[key]  # type: ignore[assignment]
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Text, into what has the focus."""
        self.call("Input.insertText", text=text)

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.ask(expression):
            assert time.monotonic() < until, f"it never came: {expression}"
            time.sleep(0.02)

    @property
    def complaints(self) -> list[str]:
        """What the console says, what was thrown, what asked for attention."""
        said = []
        for event in self.browser.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Log.entryAdded":
                    said.append(params["entry"]["text"])
                case "Runtime.exceptionThrown":
                    said.append(params["exceptionDetails"]["text"])
                case "Runtime.consoleAPICalled" | "Page.javascriptDialogOpening":
                    said.append(str(params))
        return said

    @property
    def requests(self) -> list[str]:
        events = [e for e in self.browser.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in events]

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])

    def may_copy(self) -> None:
        """Let the page use the clipboard, as a browser does after a click."""
        wanted = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        grant = {"permissions": wanted, "browserContextId": self.context}
        self.browser.call("Browser.grantPermissions", **grant)
        self.call("Page.bringToFront")

    def close(self) -> None:
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)


@pytest.fixture(scope="module")
def browser(require, tmp_path_factory) -> Iterator[Browser]:
    path = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    require(path, "needs Chromium: apt-get install chromium")
    command = [str(path), *FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # root can have none, but a network with nobody on it
        if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0:
            command = ["unshare", "--net", *command]
    browser = Browser([*command, "about:blank"])
    yield browser
    browser.close()


@pytest.fixture
def tab(browser):
    """Open a file: `tab(path, width=400, scripts=False, prefers_color_scheme="dark")`."""
    opened = []

    def open_(path: Path, *, width: int = 1000, scripts: bool = True, **media: str) -> Tab:
        opened.append(Tab(browser, width=width, scripts=scripts, media=media))
        return opened[-1].go(path)

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def take_pictures(tmp_path):
    """`take_pictures(tab, name)`: how a page looks, and how it prints.

    All of them go to the directory that PICTURES names; without it one shows that it works.
    """
    folder = Path(os.environ.get("PICTURES", tmp_path))

    def take(opened: Tab, name: str) -> None:
        wanted = list(PICTURES.items())[: None if "PICTURES" in os.environ else 1]
        for kind, (width, media) in wanted:
            opened.show(width, **media)
            picture = folder / f"{name}-{kind}.png"
            opened.picture(picture)

            assert picture.stat().st_size > 30_000
        (folder / f"{name}.pdf").write_bytes(opened.pdf())

    return take


@pytest.fixture(scope="session")
def axe(require, tmp_path_factory) -> str:
    """The script of axe-core, which no environment here is to have."""
    npm = shutil.which("npm")
    require(npm, "needs npm, which brings axe-core: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        [str(npm), "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    require(packed.returncode == 0, f"npm cannot bring {AXE}: {packed.stderr[-300:]}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        inside = files.extractfile("package/axe.min.js")
        assert inside is not None
        return inside.read().decode()


@pytest.fixture
def violations(axe):
    """`violations(tab)`: what axe-core calls serious or critical, as lines to read.

    `violations(tab, "color-contrast")`: by that rule only, where nothing else can be new.
    """

    def find(opened: Tab, only: str = "") -> list[str]:
        if not opened.ask("'axe' in window"):
            opened.ask(f"{axe};0")
        options = json.dumps(
            {"resultTypes": ["violations"]} | ({"runOnly": [only]} if only else {})
        )
        told = opened.ask(f"axe.run(document, {options}).then(JSON.stringify)")
        return [
            f"{found['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for found in json.loads(told)["violations"]
            if found["impact"] in ("serious", "critical")
            for node in found["nodes"]
        ]

    return find
