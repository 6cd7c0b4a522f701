"""Webhooks: signatures, live turns, idempotency, the error table."""

import json
import re
import subprocess
import time
import uuid

import httpx
import pytest

from client import (OLD_SECRET, POST_CALL, SECRET, TURNS, assert_log, at_once, dumps, phone, sign, transcription,
                    unique)

RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def turn(call_sid, message="Hello.", speaker="agent", **more):
    return {"call_sid": call_sid, "speaker": speaker, "message": message, **more}


def assert_error(answer, status):
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    body = answer.json()
    assert body["status"] == "error"
    assert isinstance(body["message"], str) and body["message"]
    assert "details" in body and (body["details"] is None or isinstance(body["details"], str))
    return body


# Signatures.

@pytest.mark.parametrize("spell", [
    lambda t, v: f"t={t},v0={v}",
    lambda t, v: f"t={t},v0={v.upper()}",
    lambda t, v: f"t = {t} ,  v0 =\t{v}",
    lambda t, v: f"v0={v},t={t}",
    lambda t, v: f"t={t},v0={'0' * 64},v0={v}",
    lambda t, v: f"t={t},v0={v},v0={'f' * 64}",
    lambda t, v: f"t={t},v1=abc,v0={v},w=",
], ids=["plain", "uppercase", "blanks", "order", "second-of-two", "first-of-two", "other-schemes"])
@pytest.mark.parametrize("route", [TURNS, POST_CALL])
def test_good_signatures(server, route, spell):
    payload = turn(unique("sid")) if route == TURNS else transcription(unique("conv"))
    body = dumps(payload)
    t, v = sign(body).removeprefix("t=").split(",v0=")
    answer = server.post(route, body, signature=spell(t, v))
    assert answer.status_code == (201 if route == TURNS else 200), answer.text


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_any_of_the_secrets_verifies(server, secret):
    assert server.post(TURNS, turn(unique("sid")), secret=secret).status_code == 201


BAD_SIGNATURES = {
    "missing": lambda body: None,
    "empty": lambda body: ",",
    "no digest": lambda body: f"t={int(time.time())}",
    "no time": lambda body: "v0=" + "0" * 64,
    "junk": lambda body: "hello, world; t==,v0==",
    "other secret": lambda body: sign(body, "wsec_other"),
    "other body": lambda body: sign(body + b" "),
    "other time": lambda body: sign(body).replace("t=", "t=1", 1),
    "short digest": lambda body: sign(body)[:-1],
    "not hex": lambda body: sign(body)[:-1] + "g",
    "old": lambda body: sign(body, at=int(time.time()) - 1830),
    "future": lambda body: sign(body, at=int(time.time()) + 90),
    "huge time": lambda body: f"t={10**30},v0={'0' * 64}",
    "negative time": lambda body: sign(body, at=-5),
    "long": lambda body: "t=1," + ",".join(["v0=" + "0" * 64] * 60),
}


@pytest.mark.parametrize("kind", BAD_SIGNATURES)
@pytest.mark.parametrize("route", [TURNS, POST_CALL])
def test_bad_signatures(server, route, kind):
    sid = unique("sid")
    payload = turn(sid) if route == TURNS else transcription(sid)
    body = dumps(payload)
    answer = server.post(route, body, signature=BAD_SIGNATURES[kind](body) or False)
    error = assert_error(answer, 401)
    assert SECRET not in answer.text and sign(body)[20:] not in answer.text, error
    assert server.api("GET", f"/calls/{sid}").status_code == 404


def test_a_401_says_which(server):
    def message(kind):
        body = dumps(turn(unique("sid")))
        return assert_error(server.post(TURNS, body, signature=BAD_SIGNATURES[kind](body) or False), 401)["message"]
    assert len({message("missing"), message("other secret"), message("old")}) == 3


def test_within_the_tolerance(server):
    assert server.post(TURNS, turn(unique("sid")), at=int(time.time()) - 1770).status_code == 201
    assert server.post(TURNS, turn(unique("sid")), at=int(time.time()) + 45).status_code == 201


def test_the_signature_comes_before_the_body(server):
    body = b"\x00\xff not json"
    assert_error(server.post(TURNS, body, signature=sign(body, "wsec_other")), 401)
    assert_error(server.post(TURNS, body), 400)
    # Only the received bytes count: the same JSON in another spelling does not verify.
    payload = turn(unique("sid"))
    spaced = json.dumps(payload, indent=1).encode()
    assert_error(server.post(TURNS, spaced, signature=sign(dumps(payload))), 401)


# Live turns.

def test_a_turn(server):
    sid = unique("sid")
    first = server.post(TURNS, turn(sid, "Hello.", turn_id="a"))
    assert first.status_code == 201
    first = first.json()
    assert first["status"] == "success" and isinstance(first["message"], str)
    assert first["call_sid"] == sid and first["sequence_number"] == 1 and first["seq"] == 1
    assert type(first["transcription_id"]) is int
    second = server.post(TURNS, turn(sid, "Hi.", "user")).json()
    assert second["sequence_number"] == 2 and second["seq"] == 2
    assert second["transcription_id"] != first["transcription_id"]
    assert server.call(sid)["status"] == "in_progress"
    events = server.events(sid)
    assert_log(events)
    assert [(e["speaker_type"], e["message_text"]) for e in events] == [("agent", "Hello."), ("user", "Hi.")]
    assert all(RFC3339.match(e["timestamp"]) for e in events)


def test_a_turn_by_conversation_id(server):
    conv = unique("conv")
    assert server.turn("Hello.", conversation_id=conv)["seq"] == 1
    call = server.call(conv)
    assert call["conversation_id"] == conv
    # A call that a webhook created has a call_sid too, and is found by either name.
    assert call["call_sid"] and server.call(call["call_sid"])["call_id"] == call["call_id"]
    assert server.turn("More.", call_sid=call["call_sid"])["sequence_number"] == 2


def test_all_three_speakers(server):
    sid = unique("sid")
    for speaker in ("agent", "user", "tool"):
        server.turn("x", speaker, call_sid=sid)
    assert [e["speaker_type"] for e in server.events(sid)] == ["agent", "user", "tool"]


@pytest.mark.parametrize("given,shown", [
    ("2026-10-01T16:00:31.25+02:00", "2026-10-01T14:00:31.250000Z"),
    ("2026-10-01T14:00:31Z", "2026-10-01T14:00:31.000000Z"),
    (1790855035, "2026-10-01T11:43:55.000000Z"),
    (1790855035.5, "2026-10-01T11:43:55.500000Z"),
])
def test_timestamps(server, given, shown):
    sid = unique("sid")
    server.turn("x", call_sid=sid, timestamp=given)
    assert server.events(sid)[0]["timestamp"] == shown


BAD_TURNS = {
    "not json": b"{",
    "empty": b"",
    "not utf-8": b'{"call_sid":"bad_utf8","speaker":"agent","message":"\xff"}',
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "two values": b'{"call_sid":"a","speaker":"agent","message":"x"}{}',
    "too deep": b'{"call_sid":"a","speaker":"agent","message":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no identifier": {"speaker": "agent", "message": "x"},
    "identifier a number": {"call_sid": 7, "speaker": "agent", "message": "x"},
    "identifier empty": {"call_sid": "", "speaker": "agent", "message": "x"},
    "identifier too long": {"call_sid": "x" * 129, "speaker": "agent", "message": "x"},
    "identifier with a blank": {"call_sid": "a b", "speaker": "agent", "message": "x"},
    "identifier not ascii": {"conversation_id": "é", "speaker": "agent", "message": "x"},
    "no speaker": {"call_sid": "a", "message": "x"},
    "other speaker": {"call_sid": "a", "speaker": "narrator", "message": "x"},
    "speaker a list": {"call_sid": "a", "speaker": ["agent"], "message": "x"},
    "no message": {"call_sid": "a", "speaker": "agent"},
    "message null": {"call_sid": "a", "speaker": "agent", "message": None},
    "message a number": {"call_sid": "a", "speaker": "agent", "message": 1},
    "message empty": {"call_sid": "a", "speaker": "agent", "message": ""},
    "timestamp a word": {"call_sid": "a", "speaker": "agent", "message": "x", "timestamp": "noon"},
    "is_final a word": {"call_sid": "a", "speaker": "agent", "message": "x", "is_final": "yes"},
}


@pytest.mark.parametrize("kind", BAD_TURNS)
def test_bad_turns(server, kind):
    assert_error(server.post(TURNS, BAD_TURNS[kind]), 400)


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b"{}", b'{"type":1}', b'{"type":null,"data":{}}',
                                  b'{"type":"post_call_transcription"}', b'{"type":"post_call_audio","data":{}}',
                                  b'{"type":"call_initiation_failure","data":{"conversation_id":null}}',
                                  b'{"type":"post_call_transcription","data":{"conversation_id":7}}',
                                  b'{"type":"post_call_transcription","data":[]}',
                                  b'{"data":{"conversation_id":"conv_without_type"}}'])
def test_bad_post_calls(server, body):
    assert_error(server.post(POST_CALL, body), 400)


@pytest.mark.parametrize("text", ["x" * 65536, "é" * 32768, "🚚" * 16384, "\x00" * 10922], ids=["x", "é", "🚚", "nul"])
def test_a_message_of_64_kib(server, text):
    sid = unique("sid")
    server.turn(text, call_sid=sid)
    assert server.events(sid)[0]["message_text"] == text


@pytest.mark.parametrize("text", ["x" * 65537, "é" * 32769], ids=["x", "é"])
def test_a_message_over_64_kib(server, text):
    assert_error(server.post(TURNS, turn(unique("sid"), text)), 413)


def test_a_body_over_its_limit(server):
    sid = unique("sid")
    assert_error(server.post(TURNS, turn(sid, "x", padding="p" * (1 << 20))), 413)
    assert server.post(TURNS, turn(sid, "x", padding="p" * ((1 << 20) - 300))).status_code == 201
    over = dumps(transcription(unique("conv"), padding="p" * (128 << 20)))
    # The answer may come, and the connection may close, before everything is sent.
    try:
        assert_error(server.post(POST_CALL, over), 413)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        pass
    assert server.http.get("/healthz").status_code == 200


def test_a_large_post_call_in_chunks(server):
    conv = unique("conv")
    body = dumps(transcription(conv, padding="p" * (20 << 20)))
    chunks = (body[i:i + (1 << 20)] for i in range(0, len(body), 1 << 20))
    answer = server.http.post(POST_CALL, content=chunks, headers={"ElevenLabs-Signature": sign(body)})
    assert answer.status_code == 200, answer.text
    assert server.call(conv)["status"] == "completed"


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain", "nonsense",
                                          "application/json; charset=utf-8"])
def test_any_content_type(server, content_type):
    body = dumps(turn(unique("sid")))
    headers = {"ElevenLabs-Signature": sign(body)} | ({"Content-Type": content_type} if content_type else {})
    assert server.http.post(TURNS, content=body, headers=headers).status_code == 201


def test_lone_surrogates_in_a_turn(server):
    sid = unique("sid")
    server.post(TURNS, (b'{"call_sid":"%s","speaker":"user","message":"a\\ud83d b\\udc00 \\ud83d\\ude9a"}' % sid.encode()))
    assert server.events(sid)[0]["message_text"] == "a\ufffd b\ufffd 🚚"


@pytest.mark.parametrize("text", ["🚚 👩🏽‍👧 🇮🇳", "a\x00b", "\ufeff\u202e\u2028\u2029", "\r\n\t\x1b[2J", "e\u0301 é", "  ",
                                  "\\u0041 \\\" \\n", "]]>&<script>'"])
def test_content_is_kept_exactly(server, text):
    sid = unique("sid")
    with server.socket() as socket:
        server.register(call_sid=sid)
        socket.subscribe(sid)
        server.turn(text, call_sid=sid)
        assert socket.recv()["message_text"] == text
    assert server.events(sid)[0]["message_text"] == text


def test_the_rest_of_a_turn_may_be_anything(server):
    sid = unique("sid")
    answer = server.post(TURNS, turn(sid, conversation_id=None, turn_id=None, timestamp=None, is_final=None,
                                     colour={"x": [1e308]}))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("turn_id", ["", "x" * 20_000, "a\x00b", "🚚", "\ud800", " "],
                         ids=["empty", "long", "nul", "emoji", "surrogate", "blank"])
def test_odd_turn_ids(server, turn_id):
    """The answer is the same each time, and never a 5xx."""
    sid = unique("sid")
    answers = [server.post(TURNS, turn(sid, "x", turn_id=turn_id), at=int(time.time()) - i) for i in range(2)]
    assert answers[0].status_code in (201, 400), answers[0].text
    assert answers[1].status_code == answers[0].status_code


@pytest.mark.parametrize("timestamp", [-1, 0, 253402300800, 1e300, -1e300, 10**30, "9999-12-31T23:59:60Z",
                                       "0000-01-01T00:00:00Z", "2026-10-01", "2026-10-01T14:00:31", "", "1790855035", {}, []])
def test_odd_timestamps(server, timestamp):
    sid = unique("sid")
    answer = server.post(TURNS, turn(sid, timestamp=timestamp))
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        assert RFC3339.match(server.events(sid)[0]["timestamp"])


def test_a_turn_that_names_its_call_twice(server):
    sid, conv = unique("sid"), unique("conv")
    server.turn("One.", call_sid=sid, conversation_id=conv)
    server.turn("Two.", call_sid=sid)
    server.turn("Three.", conversation_id=conv)
    assert len(server.events(sid)) == len(server.events(conv)) == 3


def test_a_partial(server):
    sid = unique("sid")
    server.register(call_sid=sid)
    with server.socket() as socket:
        socket.subscribe(sid)
        answer = server.post(TURNS, turn(sid, "Good even", "user", turn_id="t1", is_final=False))
        assert answer.status_code == 200, answer.text
        assert not {"transcription_id", "sequence_number", "seq"} & answer.json().keys()
        partial = socket.recv()
        assert partial["type"] == "transcription_partial"
        assert not {"transcription_id", "sequence_number", "seq"} & partial.keys()
        assert (partial["message_text"], partial["speaker_type"], partial["turn_id"]) == ("Good even", "user", "t1")
        assert partial["call_sid"] == sid and partial["conversation_id"] is None
        assert RFC3339.match(partial["timestamp"])
        whole = server.post(TURNS, turn(sid, "Good evening.", "user", turn_id="t1"))
        assert whole.status_code == 201 and whole.json()["seq"] == 1
        assert socket.recv()["message_text"] == "Good evening."
    assert [e["type"] for e in server.events(sid)] == ["transcription"]


# Idempotency.

@pytest.mark.parametrize("route", [TURNS, POST_CALL])
def test_a_hundred_at_once_make_one_event(server, route):
    name = unique("id")
    body = dumps(turn(name) if route == TURNS else transcription(name, ["Only once."]))
    signature = sign(body)
    answers = at_once(100, lambda _: server.post(route, body, signature=signature))
    assert {a.status_code for a in answers} == {201 if route == TURNS else 200}, [a.text for a in answers][:3]
    assert len({a.text for a in answers}) == 1
    events = server.events(name)
    assert [e["type"] for e in events] == (
        ["transcription"] if route == TURNS else ["transcription", "call_status", "call_completed"])


def test_fifty_turns_at_once(server):
    sid = unique("sid")
    answers = at_once(50, lambda i: server.turn(f"turn {i}", call_sid=sid))
    assert sorted(a["seq"] for a in answers) == list(range(1, 51))
    assert sorted(a["sequence_number"] for a in answers) == list(range(1, 51))
    assert len({a["transcription_id"] for a in answers}) == 50
    events = server.events(sid)
    assert_log(events)
    said = {e["seq"]: e["message_text"] for e in events}
    assert all(said[a["seq"]] == f"turn {i}" for i, a in enumerate(answers))


def test_an_equal_signature_repeats_and_another_does_not(server):
    sid, now = unique("sid"), int(time.time())
    first = server.post(TURNS, turn(sid), at=now)
    again = server.post(TURNS, turn(sid), at=now)
    assert (again.status_code, again.text) == (first.status_code, first.text)
    other = server.post(TURNS, turn(sid), at=now - 1)
    assert other.status_code == 201 and other.json()["seq"] == 2


def test_an_idempotency_key(server):
    sid, key = unique("sid"), {"Idempotency-Key": unique("key")}
    now = int(time.time())
    first = server.post(TURNS, turn(sid), headers=key, at=now)
    again = server.post(TURNS, turn(sid), headers=key, at=now - 7)
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert_error(server.post(TURNS, turn(sid, "Another."), headers=key), 409)
    assert len(server.events(sid)) == 1
    # A key is unique within its route.
    assert server.post(POST_CALL, transcription(unique("conv")), headers=key).status_code == 200


def test_an_idempotency_key_makes_no_second_turn_of_what_was_signed_once(server):
    """The key is outside the signature, so repeating a signed request with other keys doubles nothing."""
    sid, now = unique("sid"), int(time.time())
    for key in (unique("key"), unique("key"), ""):
        answer = server.post(TURNS, turn(sid), headers={"Idempotency-Key": key}, at=now)
        assert (answer.status_code, answer.json()["sequence_number"]) == (201, 1)
    again = server.post(TURNS, turn(sid), headers={"Idempotency-Key": unique("key")}, at=now - 1)
    assert again.json()["sequence_number"] == 2
    assert len(server.events(sid)) == 2


def test_an_idempotency_key_of_a_post_call(server):
    conv, key = unique("conv"), {"Idempotency-Key": unique("key")}
    first = server.post(POST_CALL, transcription(conv), headers=key)
    assert server.post(POST_CALL, transcription(conv), headers=key, at=int(time.time()) - 9).text == first.text
    assert_error(server.post(POST_CALL, transcription(conv, ["Changed."]), headers=key), 409)
    assert len(server.events(conv)) == 4


def test_a_hundred_keys_at_once_with_two_bodies(server):
    sid, key = unique("sid"), {"Idempotency-Key": unique("key")}
    answers = at_once(40, lambda i: server.post(TURNS, turn(sid, f"body {i % 2}"), headers=key))
    assert sorted({a.status_code for a in answers}) == [201, 409]
    assert sum(a.status_code == 201 for a in answers) == 20
    assert len(server.events(sid)) == 1


def test_turn_ids(server):
    sid, other = unique("sid"), unique("sid")
    now = int(time.time())
    first = server.post(TURNS, turn(sid, turn_id="t1"), at=now)
    again = server.post(TURNS, turn(sid, turn_id="t1"), at=now - 5)
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert server.post(TURNS, turn(other, turn_id="t1")).json()["sequence_number"] == 1
    assert server.post(TURNS, turn(sid, turn_id="t2"), at=now).json()["sequence_number"] == 2
    assert len(server.events(sid)) == 2


def test_one_turn_id_in_fifty_bodies_at_once(server):
    sid = unique("sid")
    answers = at_once(50, lambda i: server.post(TURNS, turn(sid, f"spelling {i}", turn_id="t1")))
    assert {a.status_code for a in answers} == {201}, [a.text for a in answers][:3]
    assert len({a.text for a in answers}) == 1
    assert len(server.events(sid)) == 1


def test_turn_ids_hold_whichever_name_the_call_goes_by(server):
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid, conversation_id=conv)
    first = server.post(TURNS, turn(sid, turn_id="t1"))
    again = server.post(TURNS, {"conversation_id": conv, "speaker": "agent", "message": "Hello.", "turn_id": "t1"})
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert len(server.events(sid)) == 1


def test_a_post_call_repeats_however_signed(server):
    conv, now = unique("conv"), int(time.time())
    first = server.post(POST_CALL, transcription(conv), at=now)
    for at, secret in ((now - 30, SECRET), (now - 60, OLD_SECRET), (now - 1700, SECRET)):
        again = server.post(POST_CALL, transcription(conv), at=at, secret=secret)
        assert (again.status_code, again.text) == (200, first.text)
    assert len(server.events(conv)) == 4


def test_fifty_signatures_of_one_post_call_at_once(server):
    conv, now = unique("conv"), int(time.time())
    answers = at_once(50, lambda i: server.post(POST_CALL, transcription(conv, ["Once."]), at=now - i))
    assert {a.status_code for a in answers} == {200} and len({a.text for a in answers}) == 1
    assert len(server.events(conv)) == 3


def test_a_refused_delivery_is_not_taken_for_the_first(server):
    """A delivery answered 4xx took no effect, so its repeat is processed again."""
    sid, key = unique("sid"), {"Idempotency-Key": unique("key")}
    assert_error(server.post(TURNS, turn(sid, speaker="narrator"), headers=key), 400)
    assert server.post(TURNS, turn(sid), headers=key).status_code == 201


# Unknown calls, settings that change the routes.

def test_unknown_calls_can_be_rejected(launch):
    server = launch(CALLSCOPE_UNKNOWN_CALLS="reject")
    sid, conv = unique("sid"), unique("conv")
    body = dumps(turn(sid))
    signature = sign(body)
    assert_error(server.post(TURNS, body, signature=signature), 404)
    assert_error(server.post(POST_CALL, transcription(conv)), 404)
    assert server.api("GET", f"/calls/{sid}").status_code == 404
    assert server.post(POST_CALL, {"type": "unheard_of", "data": {"conversation_id": conv}}).status_code == 200
    server.register(call_sid=sid)
    # The sender's repeat of the same delivery now finds its call.
    assert server.post(TURNS, body, signature=signature).status_code == 201
    assert server.post(POST_CALL, transcription(conv, metadata=phone(sid))).status_code == 200
    assert server.call(conv)["call_sid"] == sid
    rejected = server.get("/admin/deliveries", params={"verdict": "rejected"})["deliveries"]
    assert len(rejected) == 2


def test_unsigned_webhooks_where_they_are_allowed(launch):
    server = launch(CALLSCOPE_WEBHOOK_AUTH="off")
    assert server.post(TURNS, turn(unique("sid")), signature=False).status_code == 201
    assert server.post(POST_CALL, transcription(unique("conv")), signature=False).status_code == 200


def test_another_tolerance(launch):
    server = launch(CALLSCOPE_WEBHOOK_TOLERANCE="100")
    now = int(time.time())
    assert server.post(TURNS, turn(unique("sid")), at=now - 80).status_code == 201
    assert_error(server.post(TURNS, turn(unique("sid")), at=now - 110), 401)


# Other clients.

def test_curl_and_openssl(server, tmp_path):
    sid = unique("sid")
    (tmp_path / "turn.json").write_text(json.dumps(turn(sid, "Straße 🚚")))
    script = """
        t=$(date +%s)
        v0=$( { printf '%s.' "$t"; cat turn.json; } | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.*= //' )
        curl -sS --noproxy '*' -w ' %{http_code}' --data-binary @turn.json -H "ElevenLabs-Signature: t=$t,v0=$v0" "$URL"
    """
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          timeout=30, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET": SECRET, "URL": server.url + TURNS})
    assert done.stdout.endswith(" 201"), done.stdout + done.stderr
    assert server.events(sid)[0]["message_text"] == "Straße 🚚"


def test_deliveries_tell_what_came(server):
    sid = unique("sid")
    body = dumps(turn(sid))
    signature = sign(body)
    for _ in range(2):
        server.post(TURNS, body, signature=signature)
    server.post(TURNS, body, signature=sign(body, "wsec_other"))
    listed = server.get("/admin/deliveries", params={"call": sid})
    assert listed["next_cursor"] is None
    assert sorted(d["verdict"] for d in listed["deliveries"]) == ["accepted", "duplicate"]


def test_no_bytes_bring_it_down(server):
    """Odd bytes in the parts of a request never cause a 5xx."""
    odd = [b"\xff\xfe", b"\x80" * 2000, b"\xed\xa0\x80", b"t=\xff,v0=\xff", b"a" * 6000]
    for value in odd:
        for header in (b"ElevenLabs-Signature", b"Idempotency-Key", b"Authorization", b"Content-Type"):
            body = dumps(turn(unique("sid"), uuid.uuid4().hex))
            headers = [(b"ElevenLabs-Signature", sign(body).encode())] if header != b"ElevenLabs-Signature" else []
            answer = server.http.post(TURNS, content=body, headers=[*headers, (header, value)])
            assert answer.status_code < 500, (header, value[:10], answer.text)
    for path in ("/%ff", "/api/v1/calls/%ff", "/api/v1/calls/%00", "/api/v1/calls?q=%ff", "/api/v1/calls/" + "x" * 5000,
                 "/api/v1/calls/..%2f..%2fetc", "/api/v1/calls/a/events?after=%zz", "/ws/calls/transcriptions?token=%ff"):
        answer = server.http.get(path, headers={"Authorization": f"Bearer {server.token()}"})
        assert answer.status_code < 500, (path, answer.text)


