"""The life of a server: settings, crashes, restarts, the drain."""

import base64
import json
import os
import signal
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from client import (BIN, GONE, JWT_SECRET, SECRET, TURNS, Socket, assert_log, clean_env, eventually, send_stubbornly, spoken,
                    transcription, unique)

CUT = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


# Crashes.

def follow_stubbornly(server, sid, total, deadline, pulse):
    """Follows a call over any number of connections, and resumes by cursor."""
    events, call_id, resumed = [], None, 0
    while len(events) < total and time.monotonic() < deadline:
        try:
            with Socket(server.ws_url, server.token()) as socket:
                cursor = {"after": events[-1]["seq"] if events else 0} | ({"call_id": call_id} if call_id else {})
                socket.send({"subscribe": sid, **cursor})
                confirmed = socket.recv()
                if confirmed.get("code") == "SUBSCRIPTION_FAILED":
                    # The storage did not answer in time, and the error says to try again.
                    threading.Event().wait(0.2)
                    continue
                assert confirmed["type"] == "subscription_confirmed", confirmed
                assert call_id in (None, confirmed["call_id"])
                call_id = confirmed["call_id"]
                resumed += 1
                while len(events) < total:
                    events.append(socket.recv(deadline - time.monotonic()))
                    pulse.release()
        except CUT:
            threading.Event().wait(0.02)
    return events, resumed


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_kill_9_loses_and_doubles_nothing(launch, engine):
    server = launch(engine)
    sid, senders, each, kills = unique("sid"), 4, 100, 3
    server.register(call_sid=sid)
    deadline, pulse, acknowledged = time.monotonic() + 50, threading.Semaphore(0), []

    def sender(who):
        for i in range(each):
            line = f"{who}.{i}"
            acknowledged.append((send_stubbornly(server, line, deadline, call_sid=sid)["seq"], line))

    with ThreadPoolExecutor(senders + 2) as pool:
        followers = [pool.submit(follow_stubbornly, server, sid, senders * each, deadline, pulse) for _ in range(2)]
        jobs = [pool.submit(sender, who) for who in range(senders)]
        for _ in range(kills):
            for _ in range(senders * each // (2 * kills)):
                if not pulse.acquire(timeout=30):
                    # A task that ended early raises the reason; otherwise the server's log may show it.
                    for ended in (job for job in followers + jobs if job.done()):
                        ended.result()
                    raise AssertionError(f"nothing came for 30 s; {len(acknowledged)} acknowledged\n{server.log()}")
            server.kill()
            server.start()
        for job in jobs:
            job.result(60)
        followed = [follower.result(60) for follower in followers]
    log = server.events(sid)
    assert_log(log)
    assert len(log) == senders * each
    assert sorted(acknowledged) == [(e["seq"], e["message_text"]) for e in log]
    for events, resumed in followed:
        assert events == log
        assert resumed > 1


def test_a_post_call_survives_a_crash(launch):
    server = launch()
    conv = unique("conv")
    payload = transcription(conv, [f"turn {i}" for i in range(200)])
    first = server.post_call(payload)
    events = server.events(conv)
    server.kill()
    server.start()
    assert server.events(conv) == events and len(events) == 202
    assert server.post_call(payload) == first
    assert server.events(conv) == events


def test_storage_that_goes_and_comes_back(launch):
    """Nothing is acknowledged while the database is away, and nothing is lost or doubled by it."""
    server = launch("postgres")
    name = server.env["CALLSCOPE_DATABASE_URL"].rpartition("/")[2]
    sid = unique("sid")
    server.register(call_sid=sid)
    total, deadline, pulse = 60, time.monotonic() + 50, threading.Semaphore(0)
    with ThreadPoolExecutor(4) as pool, psycopg.connect(os.environ["CALLSCOPE_TEST_POSTGRES"], autocommit=True) as admin:
        follower = pool.submit(follow_stubbornly, server, sid, total, deadline, pulse)
        for i in range(20):
            server.turn(f"line {i}", call_sid=sid)
        for _ in range(20):
            assert pulse.acquire(timeout=15)
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        refused = server.post(TURNS, {"call_sid": sid, "speaker": "agent", "message": "line 20"},
                              headers={"Idempotency-Key": unique("key")})
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0 and refused.json()["status"] == "error"
        eventually(lambda: server.http.get("/readyz").status_code == 503, "readiness turns")
        assert server.http.get("/healthz").status_code == 200
        jobs = [pool.submit(send_stubbornly, server, f"line {i}", deadline, call_sid=sid) for i in range(20, total)]
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        for job in jobs:
            job.result(60)
        eventually(lambda: server.http.get("/readyz").status_code == 200, "readiness returns")
        events, _ = follower.result(60)
    log = server.events(sid)
    assert_log(log)
    assert events == log
    assert sorted(spoken(log)) == sorted(f"line {i}" for i in range(total))


# The drain.

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_drain(launch, engine, sig):
    server = launch(engine)
    sid = unique("sid")
    server.register(call_sid=sid)
    sockets = [server.socket() for _ in range(10)]
    for socket in sockets:
        socket.subscribe(sid)
    sent = server.turn("Before.", call_sid=sid)
    assert all(socket.recv()["seq"] == sent["seq"] for socket in sockets)
    began = time.monotonic()
    server.terminate(sig)
    for socket in sockets:
        code, _ = socket.closed(10)
        assert code == 1001
        last = socket.seen[-1]
        assert last["type"] == "reconnect", last
        assert type(last["after_ms"]) is int and last["after_ms"] >= 0 and isinstance(last["reason"], str)
    # A draining server accepts no subscriber, and says so as long as it answers.
    try:
        ready = server.http.get("/readyz")
        assert ready.status_code == 503
        refused = server.http.get("/ws/calls/transcriptions", headers={
            "Authorization": f"Bearer {server.token()}", "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert refused.status_code == 503 and refused.headers.get("retry-after")
    except GONE:
        pass
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 10


def test_the_drain_waits_for_no_client_for_long(launch):
    """A client that never reads and never answers the close does not delay the drain, during which readiness is 503."""
    server = launch()
    stuck = server.socket(max_queue=1)
    stuck.subscribe(server.register()["call_sid"])
    stuck.ws.close_timeout = 0.1
    idle = httpx.Client(base_url=server.url, trust_env=False)
    assert idle.get("/readyz").status_code == 200
    began = time.monotonic()
    server.terminate()

    def not_ready():
        try:
            return idle.get("/readyz").status_code == 503
        except GONE:
            return True
    eventually(not_ready, "readiness turns")
    assert server.process.wait(12) == 0
    assert time.monotonic() - began < 10.5
    idle.close()


def test_turns_during_the_drain_are_answered_or_refused(launch):
    """After the restart every delivery answered 2xx is there, and a retry of the others doubles nothing."""
    server = launch()
    sid = unique("sid")
    server.register(call_sid=sid)
    deadline = time.monotonic() + 40
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(send_stubbornly, server, f"line {i}", deadline, call_sid=sid) for i in range(400)]
        eventually(lambda: sum(job.done() for job in jobs) > 100, "a quarter is in")
        server.terminate()
        assert server.process.wait(12) == 0
        server.start()
        for job in jobs:
            job.result(60)
    log = server.events(sid)
    assert_log(log)
    assert sorted(spoken(log)) == sorted(f"line {i}" for i in range(400))


# Settings.

def run(folder, *args, timeout=20, **env):
    """Runs the program with the environment `env` alone. It must end by itself."""
    return subprocess.run([BIN / "callscope-server", *args], cwd=folder, env=clean_env(**env), timeout=timeout,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)


GOOD = {"CALLSCOPE_PORT": "0", "CALLSCOPE_JWT_SECRET": JWT_SECRET, "CALLSCOPE_WEBHOOK_SECRETS": SECRET}


@pytest.mark.parametrize("key,value", [
    ("CALLSCOPE_PORT", "http"), ("CALLSCOPE_PORT", "70000"), ("CALLSCOPE_ADDRESS", "not an address"),
    ("CALLSCOPE_DATABASE_URL", "mysql://x/y"), ("CALLSCOPE_JWT_SECRET", "short"), ("CALLSCOPE_WEBHOOK_AUTH", "maybe"),
    ("CALLSCOPE_WEBHOOK_TOLERANCE", "soon"), ("CALLSCOPE_WEBHOOK_TOLERANCE", "-1"),
    ("CALLSCOPE_UNKNOWN_CALLS", "perhaps"), ("CALLSCOPE_RETENTION_DAYS", "x")])
def test_a_wrong_setting(tmp_path, key, value):
    done = run(tmp_path, **{**GOOD, key: value})
    assert done.returncode == 2, (done.returncode, done.stderr)
    name = key.removeprefix("CALLSCOPE_").lower()
    said = done.stderr.strip()
    assert key in said or name in said, said
    assert "environment" in said.lower() or key in said, said
    assert len(said.splitlines()) == 1, said
    if key == "CALLSCOPE_JWT_SECRET":
        assert "short" not in said.replace("too short", "").replace("shorter", "")


def test_a_wrong_setting_in_the_file(tmp_path):
    (tmp_path / "callscope.toml").write_text('webhook_tolerance = "soon"\n')
    done = run(tmp_path, **GOOD)
    assert done.returncode == 2
    assert "webhook_tolerance" in done.stderr and "callscope.toml" in done.stderr
    (tmp_path / "callscope.toml").write_text("this is not toml")
    done = run(tmp_path, **GOOD)
    assert done.returncode == 2 and "callscope.toml" in done.stderr


@pytest.mark.parametrize("env", [
    {"CALLSCOPE_JWT_SECRET": JWT_SECRET},
    {"CALLSCOPE_WEBHOOK_SECRETS": SECRET},
    {},
    {"CALLSCOPE_JWT_SECRET": JWT_SECRET, "CALLSCOPE_WEBHOOK_SECRETS": SECRET, "CALLSCOPE_WEBHOOK_AUTH": "off"},
], ids=["no-webhook-secret", "no-jwt-secret", "neither", "unsigned"])
def test_nothing_made_up_beyond_loopback(tmp_path, env):
    done = run(tmp_path, CALLSCOPE_ADDRESS="0.0.0.0", CALLSCOPE_PORT="0", **env)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.strip()


def test_a_port_that_is_taken(launch, tmp_path):
    server = launch()
    other = tmp_path / "other"
    other.mkdir()
    done = run(other, **{**GOOD, "CALLSCOPE_PORT": str(server.port)})
    assert done.returncode in (1, 2), (done.returncode, done.stderr)
    assert str(server.port) in done.stderr and "panicked" not in done.stderr


def test_secrets_are_made_once(launch, tmp_path):
    server = launch(CALLSCOPE_WEBHOOK_SECRETS=None, CALLSCOPE_JWT_SECRET=None)
    kept = tmp_path / "callscope.secrets.toml"
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    assert "callscope.secrets.toml" in server.log()
    before = kept.read_text()
    token = server.token()
    with Socket(server.ws_url, token) as socket:
        assert socket.before_pong() == []
    server.stop()
    server.start()
    assert kept.read_text() == before
    assert server.get("/calls") == {"calls": [], "next_cursor": None}
    log = server.log()
    for line in before.splitlines():
        for value in line.split('"')[1::2]:
            assert value not in log


def test_config_show(tmp_path):
    (tmp_path / "callscope.toml").write_text("webhook_tolerance = 600\nretention_days = 3\n")
    done = run(tmp_path, "config", "show", **{**GOOD, "CALLSCOPE_RETENTION_DAYS": "9"})
    assert done.returncode == 0, done.stderr
    lines = {name: line for line in done.stdout.splitlines() for name in
             ("webhook_tolerance", "retention_days", "port", "jwt_secret", "unknown_calls") if line.split()[:1] == [name]}
    assert "600" in lines["webhook_tolerance"] and "callscope.toml" in lines["webhook_tolerance"]
    assert "9" in lines["retention_days"] and "env" in lines["retention_days"].lower()
    assert "default" in lines["unknown_calls"].lower()
    assert JWT_SECRET not in done.stdout + done.stderr and SECRET not in done.stdout + done.stderr


def test_the_file_of_settings(launch, tmp_path):
    (tmp_path / "mine.toml").write_text('unknown_calls = "reject"\n')
    server = launch(CALLSCOPE_CONFIG=str(tmp_path / "mine.toml"))
    assert server.post(TURNS, {"call_sid": "x", "speaker": "agent", "message": "x"}).status_code == 404


def test_tokens_of_the_command(launch):
    server = launch()

    def claims(*args):
        done = server.command("token", *args)
        assert done.returncode == 0, done.stderr
        part = done.stdout.strip().split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    now = time.time()
    found = claims("--sub", "ann", "--role", "admin", "--ttl", "8h")
    assert (found["sub"], found["role"]) == ("ann", "admin") and abs(found["exp"] - now - 8 * 3600) < 60
    found = claims("--sub", "ann", "--call", "a", "--call", "b")
    assert found["calls"] == ["a", "b"] and found.get("role", "viewer") == "viewer"
    assert server.command("token").returncode == 2
    assert server.command("token", "--sub", "x", "--role", "king").returncode == 2
    assert server.command("token", "--sub", "x", "--ttl", "soon").returncode == 2


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_migrate(launch, engine):
    server = launch(engine)
    server.turn("x", call_sid="kept")
    server.stop()
    done = server.command("migrate")
    assert done.returncode == 0, done.stderr
    server.start()
    assert spoken(server.events("kept")) == ["x"]
