"""The README's JavaScript runs unchanged in a real browser."""

import functools
import http.server
import json
import re
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from client import eventually, unique

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def page(tmp_path):
    """Serves a page with the README's script from an origin of its own, and returns (address, port)."""
    script = re.search(r"```js\n(.*?)```", README.read_text(), re.S).group(1)
    (tmp_path / "index.html").write_text(
        f"<!doctype html><meta charset=utf-8><body><script>{script}\n"
        "const o = new URLSearchParams(location.hash.slice(1)); follow(o.get('id'), o.get('token'));</script>"
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site.server_address[1], tmp_path
        site.shutdown()


class Browser:
    """Headless Chromium, which is driven by its debugging protocol."""

    def __init__(self, profile):
        program = shutil.which("chromium") or shutil.which("google-chrome")
        assert program, "Chromium is not there; tests/run installs it"
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        file = Path(profile) / "DevToolsActivePort"
        eventually(lambda: file.exists() and len(file.read_text().split()) == 2, "Chromium is up")
        port = file.read_text().split()[0]
        target = next(t for t in httpx.get(f"http://127.0.0.1:{port}/json", timeout=10, trust_env=False).json() if t["type"] == "page")
        self.socket = connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None).__enter__()
        self.asked = 0

    def ask(self, method, **params):
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(30))).get("id") != self.asked:
            pass
        return answer["result"]

    def text(self):
        return self.ask("Runtime.evaluate", expression="document.body.innerText")["result"].get("value", "")

    def end(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(15)


@pytest.fixture
def followed(launch, page, tmp_path):
    """Opens a page that follows a call with the README's script, and returns (server, sid of the call, browser)."""
    port, folder = page
    server = launch(folder=tmp_path, CALLSCOPE_ALLOWED_ORIGINS=f"http://127.0.0.1:{port}")
    html = folder / "index.html"
    html.write_text(html.read_text().replace("ws://127.0.0.1:8000", server.ws_url.split("/ws/")[0]))
    sid = unique("browser")
    browser = Browser(tmp_path / "profile")
    try:
        browser.ask("Page.navigate", url=f"http://127.0.0.1:{port}/index.html#id={sid}&token={server.token('viewer')}")
        yield server, sid, browser
    finally:
        browser.end()


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_the_readmes_script_follows_a_call_through_a_servers_end(followed, end):
    server, sid, browser = followed
    said = []
    for i in range(6):
        if i == 3:
            getattr(server, end)()
            server.process.wait(30)
            # The page left when it was told to, so the server did not have to close the connection.
            left = [line for line in server.lines if "disconnected" in line]
            assert end == "kill" or (left and "close=" not in left[-1]), left
            server.start()
        said.append(f"agent: <b>line</b> {i}")
        server.turn(f"<b>line</b> {i}", call_sid=sid)
        eventually(lambda: browser.text().split("\n")[: len(said)] == said, f"line {i} is on the page once")


def shows(browser, *said):
    eventually(lambda: browser.text().split("\n")[: len(said) + 1] in ([*said, ""], [*said]), f"the page shows {said}")


def test_the_readmes_script_shows_the_surviving_log_after_a_merge(followed):
    server, sid, browser = followed
    other = unique("survivor")
    for i in range(3):
        server.turn(f"survivor {i}", call_sid=other)
    server.turn("absorbed 0", call_sid=sid)
    shows(browser, "agent: absorbed 0")
    merged = server.api("PATCH", f"/calls/{sid}", json={"identifiers": [other], "merge": True})
    assert merged.status_code == 200, merged.text
    log = ["agent: survivor 0", "agent: survivor 1", "agent: survivor 2", "agent: absorbed 0"]
    shows(browser, *log)
    # The cursor belongs to the surviving record now, and resumes there after a break.
    server.kill()
    server.process.wait(30)
    server.start()
    server.turn("after it", call_sid=sid)
    shows(browser, *log, "agent: after it")


def test_the_readmes_script_starts_over_where_its_cursor_fits_no_more(followed, tmp_path):
    server, sid, browser = followed
    server.turn("of a log that is lost", call_sid=sid)
    shows(browser, "agent: of a log that is lost")
    server.terminate()
    server.process.wait(30)
    for file in tmp_path.glob("calls.db*"):
        file.unlink()
    server.start()
    server.turn("of the one that is there", call_sid=sid)
    shows(browser, "agent: of the one that is there")
