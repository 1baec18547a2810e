"""Two more browser engines behind one small interface: open a page, run a script in it, press a key.

Firefox speaks WebDriver BiDi by itself, over a web socket. WebKit is GTK's, with the driver that it brings, which
speaks WebDriver over http. Each runs without a screen, with a fresh profile.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import web
import websocket

KEYS = {
    "ArrowRight": "\ue014",
    "ArrowLeft": "\ue012",
    "Enter": "\ue007",
    "Tab": "\ue004",
}  # WebDriver's names
# Nothing of its own over the network: no updates, no experiments, no reports; other hosts lead nowhere.
FIREFOX_SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "127.0.0.1",
    "services.settings.server": "",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Engine:
    """One browser with one page."""

    def open(self, url: str) -> None:
        """Load a page."""
        raise NotImplementedError

    def run(self, script: str):
        """Return what an expression is in the page; a promise is waited for."""
        raise NotImplementedError

    def press(self, key: str) -> None:
        """Press and release a key."""
        raise NotImplementedError

    def wait(self, condition: str) -> None:
        """Wait until an expression holds in the page."""
        end = time.monotonic() + web.PATIENCE
        while not self.run(condition):
            if time.monotonic() > end:
                wrong = self.run("JSON.stringify(window.wentWrong ?? null)")
                raise AssertionError(
                    f"{condition} did not become true in {web.PATIENCE} s; went wrong: {wrong}"
                )
            time.sleep(0.05)


class Firefox(Engine):
    def __init__(self, address: str):
        self.numbers = itertools.count(1)
        self.socket = websocket.create_connection(
            f"{address}/session", suppress_origin=True, timeout=web.PATIENCE
        )
        self.call("session.new", capabilities={})
        (page, *_) = self.call("browsingContext.getTree")["contexts"]
        self.context = page["context"]

    def call(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            pass  # an event
        if answer["type"] == "error":
            raise AssertionError(f"Firefox, {method}: {answer['message']}")
        return answer["result"]

    def open(self, url):
        self.call("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def run(self, script):
        # as JSON, since BiDi has an encoding of its own for objects
        wrapped = f"(async () => JSON.stringify((await ({script})) ?? null))()"
        target = {"context": self.context}
        found = self.call("script.evaluate", expression=wrapped, target=target, awaitPromise=True)
        if found["type"] == "exception":
            raise AssertionError(f"Firefox: {found['exceptionDetails']['text']} in {script[:200]}")
        return json.loads(found["result"]["value"])

    def press(self, key):
        actions = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keys", "actions": actions}
        self.call("input.performActions", context=self.context, actions=[source])


class WebKit(Engine):
    def __init__(self, address: str, program: str):
        options = {"binary": program, "args": ["--automation"]}
        self.address = f"{address}/session"
        asked = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        self.address += "/" + self.call("", asked)["sessionId"]

    def call(self, command, body):
        request = urllib.request.Request(
            self.address + command, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=web.PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"WebKit, {command}: {error.read().decode()[:500]}") from None

    def open(self, url):
        self.call("/url", {"url": url})

    def run(self, script):
        wrapped = f"const done = arguments[0]; (async () => ({script}))().then(done, (e) => done(`${{e}}`))"
        return self.call("/execute/async", {"script": wrapped, "args": []})

    def press(self, key):
        actions = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})


# ---- Starting and stopping them


@contextlib.contextmanager
def firefox():
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        web.missing("No Firefox was found: install Debian's package firefox-esr.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        settings = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in FIREFOX_SETTINGS.items()]
        Path(profile, "user.js").write_text("\n".join(settings))
        log = Path(profile, "log")
        command = [program, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        with running([*command, "about:blank"], log, home=profile):
            yield Firefox(said(log, r"ws://[\d.]+:\d+"))


@contextlib.contextmanager
def webkit():
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    programs = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if not (driver and screen and programs):
        web.missing("No WebKit was found: install Debian's packages webkit2gtk-driver and xvfb.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        numbers = Path(home, "screen")
        with (
            numbers.open("w") as out,
            running(
                [screen, "-displayfd", str(out.fileno()), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
                Path(home, "screen-log"),
                home=home,
                pass_fds=[out.fileno()],
            ),
        ):
            display = f":{said(numbers, r'^[0-9]+(?=.)', re.DOTALL)}"
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            log = Path(home, "log")
            # drawn by the processor, as there is nothing else behind a screen that is none
            plain = {"WEBKIT_DISABLE_COMPOSITING_MODE": "1", "WEBKIT_DISABLE_DMABUF_RENDERER": "1"}
            with running([driver, f"--port={port}"], log, home=home, DISPLAY=display, **plain):
                address = f"http://127.0.0.1:{port}"
                answers(address)
                yield WebKit(address, str(programs[-1]))


@contextlib.contextmanager
def running(command: list[str], log: Path, *, home: str, pass_fds: list[int] = (), **environment: str):
    """Run a program, with a home of its own, until the block ends."""
    # A group of its own, so that what it has started ends with it.
    with log.open("w") as out:
        program = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env={**os.environ, "HOME": home, **environment},
            pass_fds=pass_fds,
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, 9)


def said(log: Path, pattern: str, flags: int = 0) -> str:
    """Wait until a program has written what a pattern finds."""
    end = time.monotonic() + web.PATIENCE
    while not (found := re.search(pattern, log.read_text(), flags)):
        if time.monotonic() > end:
            raise AssertionError(f"nothing like {pattern} in: {log.read_text()[-1000:]}")
        time.sleep(0.05)
    return found.group(0)


def answers(address: str) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + web.PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{address}/status", timeout=5).read()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
