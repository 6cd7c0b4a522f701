"""The harness of these tests: a server process, signed webhooks, and a WebSocket subscriber.

It follows the public contract (docs/protocol.md) and uses libraries that the project does not make: httpx, websockets.
"""

import base64
import hashlib
import hmac
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BIN = Path(os.environ.get("CALLSCOPE_TEST_BIN") or TARGET / "debug")
SECRET = "wsec_outside_tests_new"
OLD_SECRET = "wsec_outside_tests_old"
JWT_SECRET = "outside-tests-jwt-secret-of-enough-bytes"
TURNS = "/webhooks/elevenlabs/transcription"
POST_CALL = "/webhooks/elevenlabs/post-call"
WS_PATH = "/ws/calls/transcriptions"
PATIENCE = 15.0
GONE = (httpx.TransportError,)


def unique(stem="x"):
    return f"{stem}_{uuid.uuid4().hex[:16]}"


def eventually(check, what, deadline=PATIENCE):
    """Asks until the answer is truthy. The pause only keeps the processor free."""
    end = time.monotonic() + deadline
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.02)


def clean_env(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("CALLSCOPE_")}
    env.update(more)
    return env


def dumps(payload):
    """Serializes as the provider does, with Python's json.dumps."""
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def sign(body, secret=SECRET, at=None):
    at = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v0={digest}"


def jwt(claims, key=JWT_SECRET, header=None):
    """Mints a token by hand, for claims that the server's own command would never mint."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    text = part(header or {"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = hmac.new(key.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def at_once(count, job):
    """Runs job(i) in `count` threads that start together, and returns their results in order."""
    barrier = threading.Barrier(count)

    def run(i):
        barrier.wait(PATIENCE)
        return job(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


class Server:
    """A server process with a folder and a database of its own."""

    def __init__(self, folder, database_url, **env):
        self.folder = Path(folder)
        self.env = clean_env(
            CALLSCOPE_PORT="0",
            CALLSCOPE_DATABASE_URL=database_url,
            CALLSCOPE_WEBHOOK_SECRETS=f"{SECRET},{OLD_SECRET}",
            CALLSCOPE_JWT_SECRET=JWT_SECRET,
        )
        for key, value in env.items():
            if value is None:
                self.env.pop(key, None)
            else:
                self.env[key] = value
        self.process = None
        self.port = None
        self.lines = []
        self.tokens = {}
        self.clients = threading.local()

    def start(self):
        if self.port:
            self.env["CALLSCOPE_PORT"] = str(self.port)
        self.lines, found = [], queue.Queue()
        self.process = subprocess.Popen([BIN / "callscope-server"], cwd=self.folder, env=self.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        reader = threading.Thread(target=self._read, args=(self.process, self.lines, found), daemon=True)
        reader.start()
        self.reader = reader
        port = found.get(timeout=30)
        assert port, "the server ended before it listened:\n" + self.log()
        self.port = port
        return self

    @property
    def http(self):
        """Returns this thread's client: with a shared one, threads close each other's connections (EBADF)."""
        if getattr(self.clients, "url", None) != self.url:
            self.clients.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False)
            self.clients.url = self.url
        return self.clients.http

    @staticmethod
    def _read(process, lines, found):
        for raw in process.stdout:
            line = re.sub(r"\x1b\[[0-9;]*m", "", raw.decode("utf-8", "replace")).rstrip("\n")
            lines.append(line)
            # Other lines name ports too: a client that reconnects may be logged before the server says where it listens.
            if "listening" in line:
                for port in re.findall(r"127\.0\.0\.1:(\d+)", line):
                    found.put(int(port))
        found.put(None)

    def log(self):
        return "\n".join(self.lines[-200:])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self):
        return f"ws://127.0.0.1:{self.port}{WS_PATH}"

    # Ending the process.

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def terminate(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE)

    # Tokens.

    def command(self, *args, **kwargs):
        return subprocess.run([BIN / "callscope-server", *args], cwd=self.folder, env=self.env, timeout=30,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, **kwargs)

    def token(self, role="admin", sub="outside", calls=(), ttl="1h"):
        key = (role, sub, tuple(calls), ttl)
        if key not in self.tokens:
            args = ["token", "--sub", sub, "--role", role, "--ttl", ttl]
            for call in calls:
                args += ["--call", call]
            done = self.command(*args)
            assert done.returncode == 0, done.stderr
            self.tokens[key] = done.stdout.strip()
        return self.tokens[key]

    # HTTP.

    def api(self, method, path, token=None, **kwargs):
        headers = {"Authorization": f"Bearer {token or self.token()}", **kwargs.pop("headers", {})}
        return self.http.request(method, "/api/v1" + path, headers=headers, **kwargs)

    def get(self, path, **kwargs):
        answer = self.api("GET", path, **kwargs)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def register(self, **fields):
        answer = self.api("POST", "/calls", json=fields)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return answer.json()

    def call(self, identifier):
        return self.get(f"/calls/{identifier}")

    def events(self, identifier):
        """Returns the whole log, which is read page by page."""
        events, after, seq = [], 0, 0
        while True:
            page = self.get(f"/calls/{identifier}/events", params={"after": after, "limit": 500})
            events += page["events"]
            if not page["events"]:
                assert seq == page["head"], f"events end at {seq}, head is {page['head']}"
                return events
            after, seq = events[-1]["cursor"], events[-1]["seq"]

    # Webhooks.

    def post(self, route, payload, headers=None, signature=True, **signing):
        body = dumps(payload)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if signature is True:
            sent["ElevenLabs-Signature"] = sign(body, **signing)
        elif signature:
            sent["ElevenLabs-Signature"] = signature
        return self.http.post(route, content=body, headers=sent)

    def turn(self, message, speaker="agent", headers=None, **fields):
        """Posts a live turn with a key of its own, and returns the JSON of the answer."""
        headers = headers or {"Idempotency-Key": uuid.uuid4().hex}
        answer = self.post(TURNS, {"speaker": speaker, "message": message, **fields}, headers=headers)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return answer.json()

    def post_call(self, payload, **kwargs):
        answer = self.post(POST_CALL, payload, **kwargs)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    # WebSocket.

    def socket(self, token=None, **kwargs):
        return Socket(self.ws_url, token or self.token(), **kwargs)


def send_stubbornly(server, line, deadline, **call):
    """Sends one turn until it is acknowledged, as a sender with retries does."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    while time.monotonic() < deadline:
        try:
            answer = server.post(TURNS, {**call, "speaker": "agent", "message": line}, headers=key)
            if answer.status_code == 201:
                return answer.json()
            assert answer.status_code in (429, 503), answer.text
        except GONE:
            pass
        time.sleep(0.02)
    raise AssertionError(f"never acknowledged: {line}")


class Socket:
    """A subscriber. `seen` holds the decoded messages that it received."""

    def __init__(self, url, token=None, headers=None, **kwargs):
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # Unread messages must not keep a client from closing.
        kwargs.setdefault("max_queue", None)
        kwargs.setdefault("max_size", 64 << 20)
        self.ws = connect(url, legacy=True, additional_headers=headers, proxy=None, open_timeout=PATIENCE,
                          close_timeout=PATIENCE, **kwargs)
        self.seen = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def send(self, message):
        self.ws.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    def recv(self, timeout=PATIENCE):
        message = json.loads(self.ws.recv(timeout))
        assert isinstance(message.get("type"), str), message
        self.seen.append(message)
        return message

    def take(self, count, timeout=PATIENCE):
        return [self.recv(timeout) for _ in range(count)]

    def until(self, kind, timeout=PATIENCE):
        """Receives messages up to and including the first one of a type."""
        messages = [self.recv(timeout)]
        while messages[-1]["type"] != kind:
            messages.append(self.recv(timeout))
        return messages

    def subscribe(self, identifier, **fields):
        self.send({"subscribe": identifier, **fields})
        confirmed = self.recv()
        assert confirmed["type"] == "subscription_confirmed", confirmed
        assert confirmed["identifier"] == identifier
        return confirmed

    def refused(self, message, code):
        self.send(message)
        error = self.recv()
        assert error["type"] == "error" and error["code"] == code, f"{message!r:.200} -> {error}"
        assert isinstance(error["message"], str) and error["message"]
        return error

    def before_pong(self):
        """Returns what has come so far, which is everything before the answer to a ping."""
        mark = unique("ping")
        self.send({"ping": mark})
        messages = [self.recv()]
        while messages[-1] != {"type": "pong", "ping": mark}:
            messages.append(self.recv())
        return messages[:-1]

    def closed(self, timeout=PATIENCE):
        """Waits for the close and returns (code, reason)."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.recv(max(0.01, end - time.monotonic()))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, f"cut without a close frame: {closed}"
            return closed.rcvd.code, closed.rcvd.reason


def transcription(conversation_id, messages=("Hello.", "Hi."), **data):
    """Returns a post_call_transcription whose messages alternate between agent and user."""
    turns = [{"role": ("agent", "user")[i % 2], "message": m, "time_in_call_secs": 3 * i, "tool_calls": [],
              "tool_results": []} for i, m in enumerate(messages)]
    data = {"agent_id": "agent_outside", "conversation_id": conversation_id, "status": "done", "transcript": turns,
            "metadata": {"start_time_unix_secs": 1794300000, "call_duration_secs": 60, "cost": 100,
                         "cost_fiat": 0.03, "phone_call": None},
            "analysis": {"call_successful": "success", "transcript_summary": "A short call."}, **data}
    return {"type": "post_call_transcription", "event_timestamp": 1794300065, "data": data}


def phone(call_sid):
    return {"start_time_unix_secs": 1794300000, "call_duration_secs": 60, "cost": 100,
            "phone_call": {"type": "twilio", "direction": "inbound", "phone_number_id": "phnum_1", "call_sid": call_sid,
                           "stream_sid": "MZ1", "agent_number": "+12025550100", "external_number": "+12025550101"}}


def spoken(events):
    return [e["message_text"] for e in events if e["type"] == "transcription" and e["speaker_type"] != "tool"]


def assert_log(events):
    """Checks the promise about a log: seq 1, 2, 3… and turns numbered 1, 2, 3… without holes."""
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    numbers = [e["sequence_number"] for e in events if e["type"] == "transcription"]
    assert numbers == list(range(1, len(numbers) + 1))
