"""The webhook workbench: replay, trigger, sign, verify and samples, with the server and with the vendor's SDKs."""

import base64
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.errors import BadRequestError

from client import ROOT, SECRET, assert_log, clean_env, eventually, sign, spoken, transcription, unique
from programs import STATE, Receiver, callscope, run

SAMPLES = ROOT / "cli" / "samples"
NODE = Path(__file__).parent / "node"
# These are twenty calls of all kinds, without the one that takes forty minutes.
DAY = ["tow-truck", "storm-night", "harbour-gate", "web-bakery", "barge-in", "ferry-transfer", "broken-tool", "voicemail",
       "zahnarzt", "librairie", "pustakalay", "kissaten", "funduq", "odd-shapes", "wrong-parcel", "dropped-line",
       "silent-line", "line-busy", "no-route", "night-bus"]


def sample(name):
    payload = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return payload if isinstance(payload, list) else [payload]


def said(name):
    """Returns what the two people say in a sample, read without the project's code."""
    items = [i for p in sample(name) for i in p["data"].get("transcript") or [] if isinstance(i, dict)]
    return [i["message"] for i in items if i.get("role") in ("agent", "user")
            and isinstance(i.get("message"), str) and i["message"]]


def deliveries(done):
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if line["type"] == "delivery"]


def states():
    folder = Path(STATE) / "callscope" / "replays"
    return set(folder.iterdir()) if folder.exists() else set()


@pytest.fixture
def receiver():
    started = []

    def start(**kwargs):
        started.append(Receiver(**kwargs))
        return started[-1]

    yield start
    for receiver in started:
        receiver.shutdown()
        receiver.server_close()


# A day's traffic.

@pytest.mark.timeout(150)
def test_a_days_traffic_in_one_command(launch, secret_file, tmp_path):
    server = launch()
    assert len(DAY) == 20
    done = run(server, "replay", *DAY, "--fresh", "--repeat", 10, "--concurrency", 200, "--speed", "60x", "--shuffle",
               "--duplicate", "--drop", "2%", "--seed", 11, "--secret-file", secret_file, "-o", "ndjson",
               folder=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    sent = deliveries(done)
    assert all(line["expected"] and line["copy_status"] == line["status"] for line in sent)
    lost = sum(line["lost"] for line in sent)
    assert 0.005 * len(sent) < lost < 0.05 * len(sent), f"{lost} of {len(sent)} lost"
    assert "lost on the way and sent again" in done.stderr and "--seed 11" in done.stderr

    listed = run(server, "calls", "ls", "--limit", 500, "-o", "ndjson", folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    calls = {call["conversation_id"]: call for call in map(json.loads, listed.stdout.splitlines())}
    assert len(listed.stdout.splitlines()) == len(calls) == 200
    assert Counter(call["status"] for call in calls.values()) == {"completed": 170, "failed": 30}

    names = {line["answer"]["conversation_id"]: line["source"] for line in sent if line["route"] == "post-call"}
    assert names.keys() == calls.keys()
    assert Counter(names.values()) == dict.fromkeys(DAY, 10)
    for conversation, name in names.items():
        events = server.events(conversation)
        assert_log(events)
        assert spoken(events) == said(name), name
        kinds = Counter(event["type"] for event in events)
        assert (kinds["call_status"], kinds["call_completed"]) == (1, 1), (name, kinds)
        turn_lines = {line["number"] for line in sent if line["source"] == name and line["route"] == "transcription"}
        assert kinds["transcription"] == len(turn_lines), name
    assert not states()


# The vendor's SDKs.

@pytest.mark.parametrize("tamper", [None, "signature", "timestamp", "body"])
@pytest.mark.parametrize("command", ["replay", "trigger"])
def test_the_python_sdk_accepts_what_is_sent_and_refuses_what_is_tampered_with(receiver, secret_file, tmp_path, command, tamper):
    target = receiver()
    args = ["replay", "tow-truck", "night-bus", "kissaten", "no-route", "telemetry", "--fresh", "--concurrency", 5] \
        if command == "replay" else ["trigger", "transcription"]
    args += ["--to", target.url + "/hook", "--secret-file", secret_file] + (["--tamper", tamper] if tamper else [])
    done = run(None, *args, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    count = 6 if command == "replay" else 1
    assert (len(target.events), len(target.refused)) == ((0, count) if tamper else (count, 0)), target.refused
    assert {path for path, _ in target.events + target.refused} == {"/hook"}
    reason = "tolerance" if tamper == "timestamp" else "does not match"
    assert all(reason in why for _, why in target.refused), target.refused


@pytest.mark.parametrize("tamper", ["signature", "timestamp", "body"])
def test_a_backend_that_takes_what_is_tampered_with_is_found_out(receiver, secret_file, tmp_path, tamper):
    careless = receiver()
    careless.RequestHandlerClass = type("Careless", (Receiver.Handler,), {
        "do_POST": lambda self: (self.rfile.read(int(self.headers["Content-Length"])), self.answer(200, {}))})
    done = run(None, "replay", "line-busy", "--to", careless.url, "--tamper", tamper, "--secret-file", secret_file,
               folder=tmp_path)
    assert done.returncode == 8, done.stderr
    assert "- 4xx" in done.stderr and "+ 200" in done.stderr


class NodeReceiver:
    """The same endpoint with the vendor's Node SDK, in a process of its own."""

    def __init__(self):
        self.process = subprocess.Popen(["node", "receiver.mjs"], cwd=NODE, stdout=subprocess.PIPE, text=True,
                                        env=clean_env(WEBHOOK_SECRET=SECRET))
        self.port = json.loads(self.process.stdout.readline())["port"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def take(self, count):
        return [json.loads(self.process.stdout.readline()) for _ in range(count)]

    def stop(self):
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def node():
    receiver = NodeReceiver()
    yield receiver
    receiver.stop()


def test_the_node_sdk_accepts_what_is_sent(node, secret_file, tmp_path):
    done = run(None, "replay", "tow-truck", "funduq", "night-bus", "line-busy", "--fresh", "--to", node.url + "/hook",
               "--turns-to", node.url + "/turns", "--speed", "max", "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    came = node.take(int(re.search(r"^(\d+) deliveries", done.stderr, re.M)[1]))
    assert all(line["accepted"] for line in came), came
    assert {line["path"] for line in came} == {"/hook", "/turns"}
    for event in ("failure", "audio", "otel"):
        assert run(None, "trigger", event, "--to", node.url, "--secret-file", secret_file, folder=tmp_path).returncode == 0
    assert [line["accepted"] for line in node.take(3)] == [True] * 3


@pytest.mark.parametrize("tamper", ["signature", "timestamp", "body"])
def test_the_node_sdk_refuses_what_is_tampered_with(node, secret_file, tmp_path, tamper):
    for command in (["replay", "zahnarzt"], ["trigger", "failure"]):
        done = run(None, *command, "--to", node.url, "--tamper", tamper, "--secret-file", secret_file, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        refused, = node.take(1)
        assert not refused["accepted"]
        assert ("tolerance" if tamper == "timestamp" else "does not match") in refused["reason"], refused


def test_both_sdks_accept_what_sign_signs(node, secret_file, tmp_path):
    body = tmp_path / "body.json"
    body.write_bytes(json.dumps(transcription(unique("conv"), ["Straße 🚚"])).encode())
    done = run(None, "webhook", "sign", body, "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    header = done.stdout.strip()
    sdk = ElevenLabs(api_key="none").webhooks
    assert sdk.construct_event(body.read_text(), header, SECRET)["type"] == "post_call_transcription"
    with pytest.raises(BadRequestError):
        sdk.construct_event(body.read_text() + " ", header, SECRET)
    posted = subprocess.run(["curl", "-sS", "--noproxy", "*", "-H", f"ElevenLabs-Signature: {header}", "--data-binary",
                             f"@{body}", node.url], capture_output=True, text=True, timeout=20)
    assert node.take(1)[0]["accepted"], posted


# Interrupted replays.

def replay_of(receiver_url, secret_file, *more):
    return ["replay", "tow-truck", "barge-in", "zahnarzt", "--fresh", "--repeat", 4, "--concurrency", 3, "--speed", "60x",
            "--to", receiver_url + "/hook", "--turns-to", receiver_url + "/turns", "--secret-file", secret_file, *more]


def effects(receiver):
    """Returns the received deliveries, keyed by call and turn or by body."""
    return Counter((path, event.get("conversation_id"), event.get("turn_id")) if path == "/turns" else
                   (path, event["data"]["conversation_id"], event["type"]) for path, event in receiver.events)


TOTAL = 4 * sum(len(said(name)) + 1 for name in ("tow-truck", "barge-in", "zahnarzt"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_replay_goes_on_and_doubles_nothing(receiver, secret_file, tmp_path, how):
    target = receiver()
    command, env = callscope(None, *replay_of(target.url, secret_file))
    replay = subprocess.Popen(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(target.events) >= 20, "the replay has begun")
    replay.send_signal(how)
    _, stderr = replay.communicate(timeout=20)
    before = len(target.events)
    assert before < TOTAL, "it was over before it was interrupted"
    if how == signal.SIGKILL:
        resume = ["replay", "--resume"]
    else:
        assert replay.returncode == 130, stderr
        assert f"stopped after {before} of {TOTAL} deliveries" in stderr, stderr
        resume = re.search(r"go on with: callscope (replay --resume \w+)", stderr)[1].split()
    # The paths of the first command line are found from any working directory.
    done = run(None, *resume, folder="/")
    assert done.returncode == 0, done.stderr
    counted = effects(target)
    assert len(counted) == TOTAL and not target.refused
    # Only what was in flight at a kill -9 may come twice, as the same delivery.
    doubled = sum(counted.values()) - TOTAL
    assert doubled <= (3 if how == signal.SIGKILL else 0), doubled
    assert len({key[1] for key in counted}) == 12
    assert not states()
    assert run(None, "replay", "--resume", folder=tmp_path).returncode == 3


def test_a_target_that_goes_away_and_comes_back(receiver, secret_file, tmp_path):
    target = receiver()
    command, env = callscope(None, *replay_of(target.url, secret_file))
    replay = subprocess.Popen(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(target.events) >= 10, "the replay has begun")
    target.gone = True
    lines = [replay.stderr.readline()]
    while lines[-1] and "not delivered" not in lines[-1]:
        lines.append(replay.stderr.readline())
    assert lines[-1], lines
    target.gone = False
    _, stderr = replay.communicate(timeout=40)
    assert replay.returncode == 0, stderr
    counted = effects(target)
    assert len(counted) == sum(counted.values()) == TOTAL


def test_a_target_that_is_gone_for_good_says_how_to_go_on(launch, secret_file, tmp_path):
    server = launch()
    args = ["replay", "tow-truck", "--fresh", "--speed", "max", "--repeat", 400, "--secret-file", secret_file]
    command, env = callscope(server, *args)
    replay = subprocess.Popen(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(server.get("/calls", params={"limit": 100})["calls"]) > 3, "calls come in")
    replay.send_signal(signal.SIGINT)
    assert replay.wait(20) == 130
    server.kill()
    gone = run(server, "replay", "--resume", folder=tmp_path)
    assert gone.returncode == 5, gone.stderr
    assert re.search(r"no answer from \S+: .*stopped after \d+ of 4400 deliveries", gone.stderr), gone.stderr
    assert "then go on with: callscope replay --resume" in gone.stderr
    server.start()
    going = subprocess.Popen(callscope(server, "replay", "--resume")[0], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(server.get("/calls", params={"limit": 100})["calls"]) > 20, "it goes on")
    going.send_signal(signal.SIGINT)
    assert going.wait(20) == 130
    for call in server.get("/calls", params={"limit": 100, "status": "completed"})["calls"]:
        assert spoken(server.events(call["conversation_id"])) == said("tow-truck")
    for left in states():
        left.unlink()


def test_sources_that_changed_are_not_gone_on_with(receiver, secret_file, tmp_path):
    target = receiver()
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([transcription(unique("conv")) for _ in range(50)]))
    command, env = callscope(None, "replay", mine, "--rate", 20, "--to", target.url, "--secret-file", secret_file)
    replay = subprocess.Popen(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(target.events) >= 5, "the replay has begun")
    replay.send_signal(signal.SIGINT)
    assert replay.wait(20) == 130
    mine.write_text(json.dumps([transcription(unique("conv"))]))
    done = run(None, "replay", "--resume", folder=tmp_path)
    assert done.returncode == 1 and "have changed" in done.stderr, done.stderr
    for left in states():
        left.unlink()


# A target that asks to come later.

@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_by_all_calls_at_once(receiver, secret_file, tmp_path, status):
    asked = []

    def busy(handler, _):
        if len(asked) < 1:
            asked.append(time.monotonic())
            handler.answer(status, {"message": "later"}, Retry_After="2")
            return True
        return False

    target = receiver(answer=busy)
    done = run(None, "replay", "line-busy", "no-answer", "no-route", "--fresh", "--repeat", 10, "--concurrency", 3, "--to",
               target.url, "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = effects(target)
    # The delivery that was asked to come later came twice.
    assert (len(counted), sum(counted.values())) == (30, 31)
    soon = [at for at, *_ in target.requests if at < asked[0] + 1.9]
    # Three deliveries were on their way already, and all others waited.
    assert len(soon) <= 3, len(soon)
    assert "asked to come again in 2 s" in done.stderr


def test_a_target_that_asks_for_an_hour_is_left_alone(receiver, secret_file, tmp_path):
    def closed(handler, event):
        if len(target.events) > 3:
            handler.answer(503, {"message": "closed for today"}, Retry_After="3600")
            return True
        return False

    target = receiver(answer=closed)
    done = run(None, "replay", "line-busy", "--fresh", "--repeat", 5, "--to", target.url, "--secret-file", secret_file,
               folder=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "closed for today, and asks to come again in 3600 s; stopped after 3 of 5 deliveries" in done.stderr, done.stderr
    # This Retry-After names tomorrow.
    target.own_answer = None
    assert run(None, "replay", "--resume", folder=tmp_path).returncode == 0
    assert len(effects(target)) == 5 and not states()


# Contents, expectations and views.

def test_a_saved_tail_and_a_kept_delivery_can_be_replayed(launch, secret_file, tmp_path):
    server = launch()
    conv = unique("conv")
    server.turn("Hello \"you\".", conversation_id=conv)
    server.turn("Bye.", speaker="user", conversation_id=conv)
    server.post_call(transcription(conv, ["Hello \"you\".", "Bye."]))
    saved = tmp_path / "saved.ndjson"
    assert run(server, "tail", conv, "--save", saved, folder=tmp_path).returncode == 0
    done = run(server, "replay", saved, "--fresh", "--speed", "max", "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again, = [c for c in server.get("/calls")["calls"] if c["conversation_id"] != conv]
    assert again["status"] == "completed"
    assert spoken(server.events(again["conversation_id"])) == ["Hello \"you\".", "Bye."]

    kept = [d for d in server.get("/admin/deliveries", params={"call": conv})["deliveries"] if d["route"] == "post-call"][0]
    whole = server.get(f"/admin/deliveries/{kept['delivery_id']}")
    delivery = tmp_path / "delivery.json"
    delivery.write_text(json.dumps(whole))
    target = Receiver()
    try:
        done = run(None, "replay", delivery, "--as-is", "--to", target.url, folder=tmp_path)
        assert done.returncode == 0, (done.stderr, target.refused)
        _, _, headers, body = target.requests[0]
        assert body == base64.b64decode(whole["body_base64"])
        assert headers["elevenlabs-signature"] == {k.lower(): v for k, v in whole["headers"]}["elevenlabs-signature"]
    finally:
        target.shutdown()
        target.server_close()
    # Its signature still verifies with the headers that it came with.
    assert run(None, "webhook", "verify", delivery, "--secret-file", secret_file, folder=tmp_path).returncode == 0
    assert run(None, "replay", saved, "--as-is", folder=tmp_path).returncode == 2


def test_fields_are_set_and_removed_and_the_rest_keeps_its_bytes(receiver, secret_file, tmp_path):
    target = receiver()
    mine = tmp_path / "mine.json"
    mine.write_bytes(b'{ "type":"post_call_audio", "data":{"conversation_id":"c","big": 1e400,"full_audio":"aGk="} }')
    done = run(None, "replay", mine, "--set", "data.note=hello you", "--set", "data.n[]=1", "--set", "data.n=[]", "--set",
               "data.n[]=2", "--remove", "data.full_audio", "--to", target.url, "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert target.requests[0][3] == \
        b'{ "type":"post_call_audio", "data":{"conversation_id":"c","big": 1e400, "note": "hello you", "n": [2]} }'
    done = run(None, "replay", mine, "--remove", "data.nothing", "--to", target.url, folder=tmp_path)
    assert done.returncode == 2 and "data.nothing" in done.stderr


def test_expectations_end_with_8_and_a_diff(server, secret_file, tmp_path):
    done = run(server, "replay", "line-busy", "--fresh", "--set", "data.conversation_id=7", "--expect", "2xx",
               "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 8
    assert re.search(r"^  - 2xx\n  \+ 400 .*conversation_id", done.stderr, re.M), done.stderr
    done = run(server, "replay", "line-busy", "--fresh", "--set", "data.conversation_id=7", "--expect", "400",
               "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_watch_shows_what_it_causes(server, secret_file, tmp_path):
    done = run(server, "replay", "barge-in", "no-route", "--fresh", "--speed", "60x", "--watch", "--secret-file",
               secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    at = -1
    for message in said("barge-in"):
        at = done.stdout.find(message, at + 1)
        assert at >= 0, (message, done.stdout)
    assert "call failed; unknown" in done.stdout


def test_a_dry_run_can_be_pasted_into_a_shell(server, secret_file, tmp_path):
    done = run(server, "replay", "zahnarzt", "--fresh", "--dry-run", "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0 and SECRET not in done.stdout + done.stderr
    folder = callscope()[0][0].parent
    pasted = subprocess.run(["bash", "-e", "-c", done.stdout], cwd=tmp_path, capture_output=True, text=True, timeout=50,
                            env=clean_env(PATH=f"{folder}:{os.environ['PATH']}", NO_PROXY="*"))
    answers = re.findall(r'"status":"(\w+)"', pasted.stdout)
    assert answers == ["success"] * (len(said("zahnarzt")) + 1), pasted.stdout + pasted.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(server, secret_file, tmp_path):
    command, env = callscope(server, "replay", "tow-truck", "--fresh", "--speed", "max", "--secret-file", secret_file, "-o", "ndjson")
    done = subprocess.run(["bash", "-c", 'set -o pipefail; "$@" | head -n 1; exit ${PIPESTATUS[0]}', "-", *map(str, command)],
                          env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert not states()


def test_a_rate_bounds_all_calls_together(receiver, secret_file, tmp_path):
    target = receiver()
    done = run(None, "replay", "line-busy", "--fresh", "--repeat", 21, "--concurrency", 21, "--rate", 20, "--to",
               target.url, "--secret-file", secret_file, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    times = sorted(at for at, *_ in target.requests)
    # No second has more than its share, apart from one delivery at its border.
    assert max(sum(at <= other < at + 0.5 for other in times) for at in times) <= 13
    assert len(times) == 21


# Trigger and samples.

def test_trigger_edits_in_the_users_editor(server, secret_file, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/Hello, is anybody there?/Edited 東/' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    conv = unique("conv")
    done = run(server, "trigger", "turn", "--set", f"conversation_id={conv}", "--edit", "--secret-file", secret_file,
               folder=tmp_path, EDITOR=str(editor))
    assert done.returncode == 0, done.stderr
    assert spoken(server.events(conv)) == ["Edited 東"]
    editor.write_text("#!/bin/sh\necho '{' > \"$1\"\n")
    done = run(server, "trigger", "turn", "--edit", "--secret-file", secret_file, folder=tmp_path, EDITOR=str(editor))
    assert done.returncode == 1 and "not JSON" in done.stderr
    kept = re.search(r"callscope replay (\S+)", done.stderr)[1]
    assert Path(kept).read_text() == "{\n"
    Path(kept).unlink()
    Path(kept).parent.rmdir()


def test_trigger_prints_exactly_what_it_would_send(receiver, secret_file, tmp_path):
    target = receiver()
    args = ["trigger", "failure", "--set", "data.conversation_id=conv_mine", "--set", "event_timestamp=1790000000",
            "--set", 'data.metadata.body.CallSid="CA1"', "--set", "data.metadata.body.Timestamp=-"]
    printed = run(None, *args, "--print", folder=tmp_path)
    assert printed.returncode == 0
    assert run(None, *args, "--to", target.url, "--secret-file", secret_file, folder=tmp_path).returncode == 0
    assert target.requests[0][3] == printed.stdout.encode()
    # This is how the vendor writes it.
    assert json.dumps(json.loads(printed.stdout)) == printed.stdout


def test_samples_new_and_validate(tmp_path):
    done = run(None, "samples", "new", "night-bus", "mine.json", folder=tmp_path)
    assert done.returncode == 0 and "callscope samples validate -- mine.json" in done.stderr, done.stderr
    mine = json.loads((tmp_path / "mine.json").read_text())
    assert mine[0]["data"]["conversation_id"] == mine[1]["data"]["conversation_id"] != sample("night-bus")[0]["data"]["conversation_id"]
    assert run(None, "samples", "new", "night-bus", "mine.json", folder=tmp_path).returncode == 1
    assert run(None, "samples", "validate", "mine.json", folder=tmp_path).returncode == 0
    mine[0]["data"]["transcript"][1]["time_in_call_secs"] = "four"
    mine[0]["data"]["mood"] = "odd"
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    done = run(None, "samples", "validate", "mine.json", folder=tmp_path)
    assert done.returncode == 8
    assert sorted(done.stdout.splitlines()) == [
        "mine.json#1: unknown data.mood: is a field that is not known",
        "mine.json#1: wrong data.transcript[1].time_in_call_secs: is a text; ElevenLabs sends a whole number"]


def test_what_validate_calls_refused_the_server_refuses(server, secret_file, tmp_path):
    bodies = ["{}", "[", "7", '{"type":"post_call_audio"}', '{"type":"post_call_transcription","data":{}}',
              '{"type":"call_initiation_failure","data":{"conversation_id":"a b"}}', '{"type":7}']
    for body in bodies:
        (tmp_path / "body.json").write_text(body)
        done = run(None, "samples", "validate", "body.json", folder=tmp_path)
        assert done.returncode == 8 and "refused" in done.stdout, (body, done.stdout, done.stderr)
        assert server.post("/webhooks/elevenlabs/post-call", body.encode()).status_code == 400, body
    shipped = [name for name in (e["name"] for e in json.loads((SAMPLES / "index.json").read_text()))]
    assert len(shipped) >= 20
    done = run(None, "samples", "validate", *shipped, folder=tmp_path)
    # These are odd on purpose, and no others are.
    assert {line.split(":")[0] for line in done.stdout.splitlines() if " wrong " in line} == {"odd-shapes", "silent-line"}
    assert " refused " not in done.stdout


# Verify.

WRITERS = {
    "json.dumps": ["python3", "-c", "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin)))"],
    "compact, as it is said": ["python3", "-c", "import json, sys; sys.stdout.reconfigure(encoding='utf-8'); "
                               "json.dump(json.load(sys.stdin), sys.stdout, ensure_ascii=False, separators=(',', ':'))"],
    "indented": ["python3", "-c", "import json, sys; json.dump(json.load(sys.stdin), sys.stdout, indent=2)"],
    "JSON.stringify": ["node", "-e", "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8'))))"],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_real_programs_write_again_is_recognised(secret_file, tmp_path, writer):
    """Another program parses and writes every sample, and the diagnosis writes it the same way, byte for byte."""
    for path in sorted(SAMPLES.glob("*.json")):
        if path.stem == "index":
            continue
        # The body may exist in two forms: as the vendor sends it, and as the file has it.
        wire = json.dumps(json.loads(path.read_text(encoding="utf-8"))).encode()
        written = subprocess.run(WRITERS[writer], input=wire, capture_output=True, timeout=30)
        assert written.returncode == 0, written.stderr
        for body in (wire, path.read_bytes()):
            if body.strip() == written.stdout.strip():
                continue
            (tmp_path / "body").write_bytes(body)
            done = run(None, "webhook", "verify", "body", "--header", sign(written.stdout), "--secret-file", secret_file,
                       "--explain", "-o", "json", folder=tmp_path)
            assert [cause["code"] for cause in json.loads(done.stdout)["causes"]] == ["body_reserialised"], (path.stem, done.stdout)


PYTHON = json.dumps(transcription("conv_explained", ["Straße"], metadata={"price": 5.7e-05, "call_duration_secs": 3}))
COMPACT = json.dumps(json.loads(PYTHON), separators=(",", ":"), ensure_ascii=False)
NOW = 1_790_855_035


def standard_webhooks(body):
    import hashlib
    import hmac
    key = base64.b64decode(STANDARD.removeprefix("whsec_"))
    digest = hmac.new(key, f"msg_1.{NOW}.{body}".encode(), hashlib.sha256).digest()
    return ["webhook-id: msg_1", f"webhook-timestamp: {NOW}", f"webhook-signature: v1,{base64.b64encode(digest).decode()}"]


STANDARD = "whsec_" + base64.b64encode(b"a key of some length").decode()
EXPLAINED = {
    "fits": (PYTHON, lambda: [sign(PYTHON.encode(), at=NOW)], [], 0),
    "re-serialised by JavaScript": (COMPACT, lambda: [sign(PYTHON.encode(), at=NOW)], ["body_reserialised"], 8),
    "re-serialised by Python": (PYTHON, lambda: [sign(COMPACT.encode(), at=NOW)], ["body_reserialised"], 8),
    "newline added": (PYTHON + "\n", lambda: [sign(PYTHON.encode(), at=NOW)], ["newline_added"], 8),
    "newline removed": (PYTHON, lambda: [sign((PYTHON + "\n").encode(), at=NOW)], ["newline_removed"], 8),
    "CRLF": ("{\r\n}", lambda: [sign(b"{\n}", at=NOW)], ["line_ends_changed"], 8),
    "another known secret": (PYTHON, lambda: [sign(PYTHON.encode(), "wsec_spare", at=NOW)], ["other_secret"], 8),
    "a secret with a newline": (PYTHON, lambda: [sign(PYTHON.encode(), SECRET + "\n", at=NOW)], ["secret_with_blanks"], 8),
    "an unset secret": (PYTHON, lambda: [sign(PYTHON.encode(), "undefined", at=NOW)], ["secret_unset"], 8),
    "milliseconds": (PYTHON, lambda: [sign(PYTHON.encode(), at=NOW * 1000)], ["milliseconds"], 8),
    "too old": (PYTHON, lambda: [sign(PYTHON.encode(), at=NOW - 7200)], ["too_old"], 8),
    "from the future": (PYTHON, lambda: [sign(PYTHON.encode(), at=NOW + 600)], ["from_the_future"], 8),
    "capitals": (PYTHON, lambda: [re.sub("v0=.*", lambda m: "v0=" + m[0][3:].upper(), sign(PYTHON.encode(), at=NOW))],
                 ["uppercase_hex"], 0),
    "another header": (PYTHON, lambda: ["X-Webhook-Signature: " + sign(PYTHON.encode(), at=NOW)], ["other_header"], 8),
    "Stripe": (PYTHON, lambda: ["Stripe-Signature: " + sign(PYTHON.encode(), at=NOW).replace("v0", "v1")], ["stripe_scheme"], 8),
    "Standard Webhooks": (PYTHON, lambda: standard_webhooks(PYTHON), ["standard_webhooks_scheme"], 8),
    "no signature": (PYTHON, lambda: ["Content-Type: application/json"], ["no_signature"], 8),
    "nothing known": (PYTHON, lambda: [sign(PYTHON.encode(), "a secret that is unknown", at=NOW)], [], 8),
    "a forged body": (PYTHON.replace("Straße", "Gasse").replace("\\u00df", "x"), lambda: [sign(PYTHON.encode(), at=NOW)], [], 8),
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_verify_explains(secret_file, tmp_path, case):
    body, headers, causes, code = EXPLAINED[case]
    (tmp_path / "body").write_bytes(body.encode())
    (tmp_path / "spare").write_text("wsec_spare\n")
    (tmp_path / "standard").write_text(STANDARD)
    secret = tmp_path / "standard" if case == "Standard Webhooks" else secret_file
    args = [part for header in headers() for part in ("--header", header)]
    args = ["webhook", "verify", "body", *args, "--at", NOW, "--secret-file", secret, "--secret-file", "spare"]
    done = run(None, *args, "--explain", "-o", "json", folder=tmp_path)
    assert done.returncode == code, done.stderr
    explained = json.loads(done.stdout)
    assert [cause["code"] for cause in explained["causes"]] == causes, explained
    assert explained["accepted"] == (code == 0)
    words = run(None, *args, "--explain", folder=tmp_path).stdout
    assert ("none of the known causes" in words) == (code == 8 and not causes), words
    assert run(None, *args, folder=tmp_path).returncode == code
    for hidden in (SECRET, "wsec_spare", STANDARD):
        assert hidden not in done.stdout + done.stderr + words
