"""Callscope's programs from outside: what they send and print."""

import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.errors import BadRequestError

from client import ROOT, SECRET, assert_log, clean_env, eventually, send_stubbornly, sign, spoken, transcription, unique
from programs import Receiver, callscope, run

SAMPLES = ROOT / "cli" / "samples"
NODE = Path(__file__).parent / "node"


# The vendor's own verification.

def test_the_vendors_sdk_and_ours_sign_alike(server):
    """The server accepts exactly what the SDK accepts."""
    sdk = ElevenLabs(api_key="none").webhooks
    body = json.dumps(transcription(unique("conv"), ["Straße 🚚", "\x00"]))
    header = sign(body.encode())
    assert sdk.construct_event(body, header, SECRET)["type"] == "post_call_transcription"
    assert server.post("/webhooks/elevenlabs/post-call", body.encode(), signature=header).status_code == 200
    for wrong in (header[:-1] + "0", sign(body.encode(), "other"), sign(body.encode(), at=int(time.time()) - 3600)):
        if wrong == header:
            continue
        with pytest.raises(BadRequestError):
            sdk.construct_event(body, wrong, SECRET)
        assert server.post("/webhooks/elevenlabs/post-call", body.encode(), signature=wrong).status_code == 401


def test_the_vendors_sdk_accepts_what_replay_signs(secret_file, tmp_path):
    receiver = Receiver()
    try:
        done = run(None, "replay", "tow-truck", "funduq", "line-busy", "night-bus", "telemetry", "--speed", "max",
                   "--server", receiver.url, "--secret-file", secret_file, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not receiver.refused
        kinds = [event["type"] for path, event in receiver.events if path.endswith("post-call")]
        assert sorted(kinds) == sorted(["post_call_transcription"] * 3 + [
            "call_initiation_failure", "post_call_audio", "post_call_transcription_otel"])
        turns = [event["message"] for path, event in receiver.events if path.endswith("/transcription")]
        tow = json.loads((SAMPLES / "tow-truck.json").read_text())["data"]["transcript"]
        assert [t["message"] for t in tow] == [m for m in turns if m in {t["message"] for t in tow}]
    finally:
        receiver.shutdown()
        receiver.server_close()


# Replay against the server.

def test_replay_of_every_sample(launch, secret_file, tmp_path):
    server = launch()
    done = run(server, "replay", SAMPLES, "--speed", "max", "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    for entry in json.loads((SAMPLES / "index.json").read_text()):
        payload = json.loads((SAMPLES / f"{entry['name']}.json").read_text())
        data = (payload[0] if isinstance(payload, list) else payload)["data"]
        if entry["kind"] == "other":
            continue
        events = server.events(data["conversation_id"])
        assert_log(events)
        said = [i["message"] for i in data.get("transcript") or [] if i.get("role") in ("agent", "user") and i["message"]]
        assert spoken(events) == said, entry["name"]
        assert events[-1]["type"] == "call_completed"


def test_replay_fresh_makes_new_calls(server, secret_file, tmp_path):
    before = {c["call_id"] for c in server.get("/calls", params={"limit": 100})["calls"]}
    for _ in range(2):
        done = run(server, "replay", "tow-truck", "--fresh", "--speed", "max", "--secret-file", secret_file, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    new = [c for c in server.get("/calls", params={"limit": 100})["calls"] if c["call_id"] not in before]
    assert len(new) == 2 and len({c["conversation_id"] for c in new}) == 2
    assert {c["status"] for c in new} == {"completed"}


def test_replay_dry_run_prints_no_secret(server, secret_file, tmp_path):
    before = server.get("/calls")
    done = run(server, "replay", "line-busy", "--dry-run", "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "curl" in done.stdout and SECRET not in done.stdout + done.stderr
    assert server.get("/calls") == before


# Tail.

def test_tail_in_a_pipe_survives_kill_9_during_a_replay(launch, secret_file, tmp_path):
    server = launch()
    payload = json.loads((SAMPLES / "tow-truck.json").read_text())
    conv = payload["data"]["conversation_id"]
    command, env = callscope(server, "tail", conv, "--wait", "-o", "ndjson")
    tail = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, cwd=tmp_path)
    lines, seen = [], threading.Semaphore(0)

    def read():
        for line in tail.stdout:
            lines.append(json.loads(line))
            if lines[-1]["type"] == "transcription":
                seen.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        total = 60
        deadline = time.monotonic() + 40
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(lambda: [
                send_stubbornly(server, f"line {i}", deadline, conversation_id=conv) for i in range(total)])
            for _ in range(2):
                for _ in range(15):
                    assert seen.acquire(timeout=20), (lines[-3:], tail.poll())
                server.kill()
                server.start()
            sending.result(60)
        server.post_call(transcription(conv))
        assert tail.wait(20) == 0, tail.stderr.read()
        reader.join(10)
    finally:
        if tail.poll() is None:
            tail.kill()
            tail.wait(10)
    events = [line for line in lines if "seq" in line and line["type"] in ("transcription", "call_status", "call_completed")]
    assert events == server.events(conv)
    assert spoken(events) == [f"line {i}" for i in range(total)]
    kinds = [line["type"] for line in lines]
    assert "reconnecting" in kinds and "resumed" in kinds


def test_tail_of_an_ended_call_is_plain_in_a_pipe(server, tmp_path):
    conv = unique("conv")
    server.post_call(transcription(conv, ["Hello \x1b[31mred\x1b[0m \u202eevil", "Fine 🚚"]))
    done = run(server, "tail", conv, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Fine 🚚" in done.stdout
    assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)


@pytest.mark.parametrize("args,code", [
    (("tail", "no_such_call"), 3), (("calls", "show", "no_such_call"), 3), (("no-such-command",), 2),
    (("replay", "no-such-sample"), None)])
def test_exit_codes(server, tmp_path, args, code):
    done = run(server, *args, folder=tmp_path)
    assert done.returncode == code if code else done.returncode not in (0, 101), (done.returncode, done.stderr)
    assert done.stdout == "" and done.stderr


def test_exit_codes_of_the_way_there(server, tmp_path):
    assert run(None, "calls", "ls", "--server", "http://127.0.0.1:9", folder=tmp_path, CALLSCOPE_TOKEN="x").returncode == 5
    assert run(None, "calls", "ls", "--server", server.url, folder=tmp_path, CALLSCOPE_TOKEN="x.y.z").returncode == 4


def test_calls_and_lists(server, tmp_path):
    conv = unique("conv")
    server.post_call(transcription(conv))
    done = run(server, "calls", "ls", "-o", "json", folder=tmp_path)
    assert done.returncode == 0 and conv in done.stdout
    json.loads(done.stdout)
    done = run(server, "calls", "show", conv, "-o", "json", folder=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["conversation_id"] == conv
    with server.socket() as socket:
        sid = server.register()["call_sid"]
        socket.subscribe(sid)
        for what in ("connections", "subscriptions"):
            done = run(server, what, "ls", "-o", "json", folder=tmp_path)
            assert done.returncode == 0 and sid in done.stdout, done.stderr
        mine, = [c for c in server.get("/admin/connections")["connections"] if sid in c["subscribed_calls"]]
        done = run(server, "connections", "kick", mine["connection_id"], "--yes", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert socket.closed()[0] == 4012


def test_samples(tmp_path):
    done = run(None, "samples", "ls", folder=tmp_path)
    assert done.returncode == 0
    index = json.loads((SAMPLES / "index.json").read_text())
    assert all(entry["name"] in done.stdout for entry in index)
    done = run(None, "samples", "show", "storm-night", folder=tmp_path)
    assert done.returncode == 0 and "Larch Two" in done.stdout


def test_the_demo_in_a_pipe_is_the_whole_call(tmp_path):
    done = run(None, "demo", "--speed", "10x", folder=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    tow = json.loads((SAMPLES / "tow-truck.json").read_text())["data"]
    at = -1
    for turn in tow["transcript"]:
        at = done.stdout.find(turn["message"], at + 1)
        assert at >= 0, (turn["message"], done.stdout)
    assert "\x1b" not in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_closed_pipe_ends_quietly(server, tmp_path):
    conv = unique("conv")
    server.post_call(transcription(conv, ["x" * 1000] * 500))
    command, env = callscope(server, "tail", conv)
    script = 'set -o pipefail; "$@" | head -n 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(["bash", "-c", script, "-", *map(str, command)], env=env, cwd=tmp_path, capture_output=True,
                          text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, 141) and "panicked" not in done.stderr, done.stderr


# Node.

def test_node(server):
    env = clean_env(WS_URL=server.ws_url, HTTP_URL=server.url, TOKEN=server.token(), WEBHOOK_SECRET=SECRET)
    done = subprocess.run(["node", "--test", "--test-timeout=40000", "live.test.mjs"], env=env, cwd=NODE, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# tests 0" not in done.stdout, done.stdout


def test_the_server_is_still_there(server):
    eventually(lambda: server.http.get("/healthz").status_code == 200, "alive at the end")
