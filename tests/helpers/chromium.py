"""A page in headless Chromium, spoken to over its debugging pipe: no driver and no other package is needed."""

import json
import os
import select
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
)
SECONDS = 60


class Visit(NamedTuple):
    """What happened when a page was opened.

    Attributes:
        widths: Natural width of every picture in the document; 0 where it did not load.
        messages: What the console and the browser's log said.
        requests: Addresses that were asked for, the page itself and data URIs left out.
    """

    widths: list[int]
    messages: list[str]
    requests: list[str]


class _Browser:
    """Chromium with a pipe each way (its file descriptors 3 and 4), messages of JSON that end in a zero byte."""

    def __init__(self, profile: str) -> None:
        hears, self.speaks = os.pipe()
        self.listens, says = os.pipe()
        command = f"exec {shlex.quote(CHROMIUM)} {FLAGS} --user-data-dir={shlex.quote(profile)} 3<&{hears} 4>&{says}"
        self.process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(hears, says), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(hears)
        os.close(says)
        self.events: list[dict[str, Any]] = []
        self._rest, self._number = b"", 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(self.speaks, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self.listens], [], [], SECONDS)[0], f"Chromium said nothing for {SECONDS} s"
            part = os.read(self.listens, 1 << 20)
            assert part, "Chromium went away"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)
        os.close(self.speaks)
        os.close(self.listens)


def visit(pages: Sequence[Path]) -> list[Visit]:
    """Open pages from disk one after the other, in one browser with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = _Browser(profile)
        try:
            return [_open(browser, page.resolve().as_uri()) for page in pages]
        finally:
            browser.close()


def _open(browser: _Browser, address: str) -> Visit:
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Network", "Log", "Runtime", "Page"):
        browser.call(f"{domain}.enable", session)
    browser.events = []
    browser.call("Page.navigate", session, url=address)
    browser.wait_for("Page.loadEventFired")
    script = "[...document.images].map(image => image.complete ? image.naturalWidth : 0)"
    found = browser.call("Runtime.evaluate", session, expression=script, returnByValue=True)
    return Visit(found["result"]["value"], *_heard(browser.events, address))


def _heard(events: list[dict[str, Any]], own: str) -> tuple[list[str], list[str]]:
    messages, requests = [], []
    for event in events:
        method, said = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            messages.append(said["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            messages.append(json.dumps(said))
        elif method == "Network.requestWillBeSent":
            requests.append(said["request"]["url"])
    return messages, [url for url in requests if url != own and not url.startswith("data:")]
