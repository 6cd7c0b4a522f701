"""Post-call webhooks: every type, every sample shipped, every odd shape of the fixtures."""

import base64
import json

import pytest

from client import POST_CALL, ROOT, assert_log, dumps, eventually, phone, spoken, transcription, unique

SAMPLES = ROOT / "cli" / "samples"
FIXTURES = ROOT / "tests" / "fixtures" / "post_call"
INDEX = json.loads((SAMPLES / "index.json").read_text(encoding="utf-8"))


def sample(name):
    payload = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return payload if isinstance(payload, list) else [payload]


def provider_turns(data):
    """Returns what the two people said, without the server's code."""
    items = [i for i in data.get("transcript") or [] if isinstance(i, dict)]
    return [(i["role"], i["message"]) for i in items if i.get("role") in ("agent", "user")
            and isinstance(i.get("message"), str) and i["message"]]


# The samples.

@pytest.mark.parametrize("entry", INDEX, ids=[e["name"] for e in INDEX])
def test_every_sample(server, entry):
    for payload in sample(entry["name"]):
        kind, data = payload["type"], payload["data"]
        conv = data["conversation_id"]
        answer = server.post_call(payload)
        assert answer["status"] == "success" and isinstance(answer["message"], str)
        if kind not in ("post_call_transcription", "call_initiation_failure", "post_call_audio"):
            assert (answer["call_sid"], answer["call_status"]) == (None, None)
            assert server.api("GET", f"/calls/{conv}").status_code == 404
            continue
        assert answer["conversation_id"] == conv
        call = server.call(conv)
        assert answer["call_sid"] == call["call_sid"]
        assert answer["call_status"] == call["status"]
        if kind == "post_call_transcription":
            assert call["status"] == ("failed" if data["status"] == "failed" else "completed")
            check_result(server, conv, data)
        elif kind == "call_initiation_failure":
            assert call["status"] == "failed"
            events = server.events(conv)
            assert [e["type"] for e in events] == ["call_status", "call_completed"]
            assert events[0]["status"] == "failed"
            result = events[1]["call_data"]
            assert result["status"] == "failed" and result["failure_reason"] == data["failure_reason"]
            body = data["metadata"]["body"]
            assert server.call(body.get("CallSid") or body["call_sid"])["call_id"] == call["call_id"]
        else:
            audio = base64.b64decode(data["full_audio"])
            heard = server.api("GET", f"/calls/{conv}/audio")
            if heard.status_code != 404:
                assert heard.content == audio
            assert call["status"] == "completed"


def check_result(server, conv, data):
    events = server.events(conv)
    assert_log(events)
    said = [(e["speaker_type"], e["message_text"]) for e in events if e["type"] == "transcription"
            and e["speaker_type"] != "tool"]
    assert said == provider_turns(data)
    tools = [e["message_text"] for e in events if e["type"] == "transcription" and e["speaker_type"] == "tool"]
    for item in data.get("transcript") or []:
        for tool in (item.get("tool_calls") or []) + (item.get("tool_results") or []):
            assert any(tool["tool_name"] in text for text in tools), tool["tool_name"]
    assert [e["type"] for e in events[-2:]] == ["call_status", "call_completed"]
    result, metadata, analysis = events[-1]["call_data"], data["metadata"], data.get("analysis")
    assert result["duration_seconds"] == int(metadata["call_duration_secs"])
    for key in ("cost", "cost_fiat"):
        assert result[key] == (None if metadata[key] is None else float(metadata[key]))
    assert result["metadata"] == metadata
    assert result["analysis_data"] == analysis
    verdict = (analysis or {}).get("call_successful")
    assert result["call_successful"] == {"success": True, "failure": False, True: True, False: False}.get(verdict)
    assert result["transcript_summary"] == (analysis or {}).get("transcript_summary")
    assert events[-2]["call_end_time"] == result["call_end_time"]
    assert set(result) >= {"status", "subject", "call_start_time", "call_end_time", "duration_seconds", "failure_reason"}
    call = metadata.get("phone_call")
    if call:
        assert server.call(call["call_sid"])["conversation_id"] == conv


def test_times_come_from_the_payload(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    result = server.events(conv)[-1]["call_data"]
    assert result["call_start_time"] == "2026-11-10T08:40:00.000000Z"
    assert result["call_end_time"] == "2026-11-10T08:41:00.000000Z"
    assert [e["timestamp"] for e in server.events(conv)[:2]] == ["2026-11-10T08:40:00.000000Z",
                                                                "2026-11-10T08:40:03.000000Z"]


def test_the_samples_are_what_they_say():
    assert len(INDEX) >= 10
    files = {p.stem for p in SAMPLES.glob("*.json")} - {"index"}
    assert files == {e["name"] for e in INDEX}
    kinds = {e["kind"] for e in INDEX}
    assert kinds == {"transcription", "failure", "audio", "other"}
    owners = {}
    for entry in INDEX:
        assert set(entry) == {"name", "title", "kind"}
        for payload in sample(entry["name"]):
            data = payload["data"]
            names = [data["conversation_id"]]
            call = (data.get("metadata") or {}).get("phone_call")
            names += [call["call_sid"]] if call else []
            for name in names:
                assert owners.setdefault(name, entry["name"]) == entry["name"]
    storm = sample("storm-night")[0]["data"]
    assert 280 <= storm["metadata"]["call_duration_secs"] <= 320
    assert 45 <= len(provider_turns(storm)) <= 60


# The fixtures, none of which may be refused.

@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda p: p.stem)
def test_every_fixture_is_taken(server, path):
    body = path.read_bytes()
    answer = server.post(POST_CALL, body)
    assert answer.status_code == 200, answer.text
    payload = json.loads(body)
    kind = payload["type"]
    if kind in ("post_call_transcription", "call_initiation_failure"):
        conv = payload["data"]["conversation_id"]
        assert answer.json()["call_status"] in ("completed", "failed")
        events = server.events(conv)
        assert_log(events)
        assert events[-1]["type"] == "call_completed"
        with server.socket() as socket:
            socket.subscribe(conv)
            assert socket.until("call_completed") == events
        for form in ("json", "txt"):
            assert server.api("GET", f"/calls/{conv}/transcript?format={form}").status_code == 200
    # A repeat gets the same answer.
    again = server.post(POST_CALL, body)
    assert (again.status_code, again.text) == (200, answer.text)


def fixture_events(server, name):
    body = (FIXTURES / f"{name}.json").read_bytes()
    server.post_call(body)
    return body, server.events(json.loads(body)["data"]["conversation_id"])


def test_lone_surrogates(server):
    _, events = fixture_events(server, "lone_surrogate")
    assert spoken(events) == ["before \ufffd after", "\ufffd", "💩 whole"]
    assert events[-1]["call_data"]["transcript_summary"] == "half a pair: \ufffd"


def test_nul(server):
    _, events = fixture_events(server, "nul_message")
    assert spoken(events) == ["a\x00b", "a\x00b"]
    result = events[-1]["call_data"]
    assert result["transcript_summary"] == "a\x00b" and result["metadata"]["note"] == "a\x00b"


@pytest.mark.parametrize("name", ["message_64k", "message_over_64k"])
def test_long_messages_are_kept_whole(server, name):
    body, events = fixture_events(server, name)
    assert spoken(events) == [json.loads(body)["data"]["transcript"][0]["message"]]


def test_numbers_of_any_size(server):
    body, events = fixture_events(server, "huge_numbers")
    assert spoken(events) == ["Numbers of every size."]
    raw = server.api("GET", "/calls/conv_fixture_huge_numbers/events").text
    for text in ("0.10000000000000000000000001", "99999999999999999999"):
        assert text in raw


def test_deep_nesting(server):
    body, events = fixture_events(server, "deep_100")
    sent = json.loads(body)["data"]
    assert events[-1]["call_data"]["metadata"] == sent["metadata"]
    assert events[-1]["call_data"]["analysis_data"] == sent["analysis"]


@pytest.mark.parametrize("depth", [1_000, 50_000])
def test_deeper_nesting_brings_nothing_down(server, depth):
    conv = unique("conv")
    body = dumps(transcription(conv, ["Deep."], custom="X")).replace(b'"X"', b"[" * depth + b"]" * depth)
    answer = server.post(POST_CALL, body)
    assert answer.status_code in (200, 400), answer.text
    assert server.http.get("/healthz").status_code == 200


def test_booleans(server):
    _, events = fixture_events(server, "boolean_false")
    assert events[-1]["call_data"]["call_successful"] is False


def test_unheard_of_types_are_kept_and_ignored(server):
    conv = unique("conv")
    for kind in ("post_call_transcription_otel", "transcription", "Post_Call_Transcription", ""):
        answer = server.post_call({"type": kind, "event_timestamp": 1, "data": {"conversation_id": conv}})
        assert (answer["call_sid"], answer["call_status"]) == (None, None)
    assert server.api("GET", f"/calls/{conv}").status_code == 404
    ignored = server.get("/admin/deliveries", params={"verdict": "ignored"})["deliveries"]
    assert len(ignored) >= 4 and all(d["verdict"] == "ignored" for d in ignored)


@pytest.mark.parametrize("odd", ["a\x00b", "", " ", "x" * 300, "a b", "\u00e9", "\n", 5, True, [], {}, 1e308],
                         ids=["nul", "empty", "blank", "long", "inner-blank", "not-ascii", "newline", "number", "bool",
                              "list", "object", "float"])
def test_odd_values_beside_the_conversation_id(server, odd):
    """Only `type` and `conversation_id` can cause a refusal."""
    conv = unique("conv")
    item = {"role": odd, "message": "Said.", "time_in_call_secs": odd, "tool_calls": odd, "tool_results": [odd],
            "interrupted": odd}
    payload = transcription(
        conv, agent_id=odd, status=odd, user_id=odd, transcript=[odd, item, {"role": "user", "message": odd}],
        metadata={"start_time_unix_secs": odd, "call_duration_secs": odd, "cost": odd, "cost_fiat": odd,
                  "phone_call": {"call_sid": odd, "type": odd}, "termination_reason": odd},
        analysis={"call_successful": odd, "transcript_summary": odd},
        conversation_initiation_client_data={"dynamic_variables": {"call_sid": odd, "system__call_sid": odd}})
    payload["event_timestamp"] = odd
    assert server.post_call(payload)["call_status"] == "completed"
    assert "Said." in [e.get("message_text") for e in server.events(conv)]
    failing = unique("conv")
    answer = server.post_call({"type": "call_initiation_failure", "event_timestamp": odd, "data": {
        "conversation_id": failing, "agent_id": odd, "failure_reason": odd,
        "metadata": {"type": odd, "body": {"CallSid": odd, "call_sid": odd, "sip_status_code": odd}}}})
    assert answer["call_status"] == "failed"
    assert server.events(failing)[-1]["type"] == "call_completed"
    assert server.get("/calls", params={"limit": 5})["calls"]
    assert server.get("/admin/deliveries", params={"limit": 5})["deliveries"]


@pytest.mark.parametrize("kind", ["a\x00b", "x" * 5000, "\ud800", "\n", "🚚"], ids=["nul", "long", "surrogate", "newline", "emoji"])
def test_odd_types(server, kind):
    answer = server.post_call({"type": kind, "data": {"conversation_id": "a\x00b"}})
    assert (answer["call_sid"], answer["call_status"]) == (None, None)
    assert server.get("/admin/deliveries", params={"limit": 5})["deliveries"]


@pytest.mark.parametrize("conv", ["", "a b", "a\x00b", "é", "x" * 129], ids=["empty", "blank", "nul", "not-ascii", "long"])
def test_a_conversation_id_that_is_no_identifier(server, conv):
    answer = server.post(POST_CALL, transcription(conv))
    assert answer.status_code == 400 and answer.json()["status"] == "error"


def test_deliveries_keep_every_byte(server):
    """This includes deliveries that were refused after they verified."""
    conv = unique("conv")
    bodies = [(FIXTURES / "lone_surrogate.json").read_bytes().replace(b"conv_fixture_lone_surrogate", conv.encode()),
              b'{"type": "post_call_transcription", "note": "\xff\xfe ' + conv.encode() + b'"}',
              b" \r\n{ \"type\" : \"unheard_of\", \"of\": \"" + conv.encode() + b"\", \"n\": 1.0e+0002 }\n\n"]
    for body, status in zip(bodies, (200, 400, 200)):
        assert server.post(POST_CALL, body).status_code == status
    kept = {}
    for listed in server.get("/admin/deliveries", params={"limit": 20})["deliveries"]:
        shown = server.get(f"/admin/deliveries/{listed['delivery_id']}")
        kept[base64.b64decode(shown["body_base64"])] = shown
    assert [kept[body]["verdict"] for body in bodies] == ["accepted", "rejected", "ignored"]
    assert kept[bodies[0]]["body"] == bodies[0].decode() and kept[bodies[2]]["body"] == bodies[2].decode()
    assert kept[bodies[1]]["body"] is None
    assert kept[bodies[0]]["headers"]


# The course of a call.

def test_live_turns_win_over_the_transcript(server):
    conv = unique("conv")
    server.turn("Said live.", conversation_id=conv)
    server.post_call(transcription(conv, ["Said", "otherwise"]))
    events = server.events(conv)
    assert [e["type"] for e in events] == ["transcription", "call_status", "call_completed"]
    assert spoken(events) == ["Said live."]
    txt = server.api("GET", f"/calls/{conv}/transcript?format=txt&source=final")
    assert txt.status_code == 200 and "otherwise" in txt.text
    txt = server.api("GET", f"/calls/{conv}/transcript?format=txt&source=live")
    assert txt.status_code == 200 and "Said live." in txt.text


def test_a_later_transcription_replaces_the_result(server):
    conv = unique("conv")
    server.post_call(transcription(conv, ["One."]))
    later = transcription(conv, ["One."], analysis={"call_successful": "failure", "transcript_summary": "Second look."})
    server.post_call(later)
    events = server.events(conv)
    assert [e["type"] for e in events] == ["transcription", "call_status", "call_completed", "call_completed"]
    assert events[-1]["call_data"]["transcript_summary"] == "Second look."
    assert server.call(conv)["call_data"]["call_successful"] is False
    with server.socket() as socket:
        socket.subscribe(conv)
        assert socket.take(4) == events
        assert socket.before_pong() == []


def test_turns_after_the_end_are_appended(server):
    conv = unique("conv")
    server.post_call(transcription(conv, ["One."]))
    assert server.turn("Late.", conversation_id=conv)["sequence_number"] == 2
    events = server.events(conv)
    assert_log(events)
    assert [e["type"] for e in events] == ["transcription", "call_status", "call_completed", "transcription"]
    assert server.call(conv)["status"] == "completed"
    with server.socket() as socket:
        socket.subscribe(conv)
        assert socket.take(4) == events


@pytest.mark.parametrize("first", ["initiation", "status"])
def test_done_turns_failed_into_completed(server, first):
    conv = unique("conv")
    failure = {"type": "call_initiation_failure", "event_timestamp": 1, "data": {"conversation_id": conv,
                                                                              "failure_reason": "busy"}}
    answer = server.post_call(failure if first == "initiation" else transcription(conv, status="failed"))
    assert answer["call_status"] == "failed"
    assert server.post_call(transcription(conv, ["It worked."]))["call_status"] == "completed"
    events = server.events(conv)
    assert [e["type"] for e in events[-2:]] == ["call_status", "call_completed"]
    assert events[-2]["status"] == "completed" and events[-1]["call_data"]["status"] == "completed"
    assert events[-1]["call_data"]["failure_reason"] is None


def test_a_failure_after_completed_changes_nothing(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    before = server.events(conv)
    answer = server.post_call({"type": "call_initiation_failure", "event_timestamp": 1,
                               "data": {"conversation_id": conv, "failure_reason": "busy"}})
    assert answer["call_status"] == "completed"
    assert server.post_call(transcription(conv, status="failed"))["call_status"] == "completed"
    assert server.events(conv) == before
    verdicts = [d["verdict"] for d in server.get("/admin/deliveries", params={"call": conv})["deliveries"]]
    assert sorted(verdicts) == ["accepted", "ignored", "ignored"]


def test_audio_before_the_transcription(server):
    conv = unique("conv")
    audio = {"type": "post_call_audio", "event_timestamp": 1,
             "data": {"conversation_id": conv, "full_audio": base64.b64encode(b"ID3\x04 not much").decode()}}
    assert server.post_call(audio)["call_status"] == "in_progress"
    assert server.call(conv)["has_audio"] is True
    assert server.post_call(transcription(conv))["call_status"] == "completed"
    call = server.call(conv)
    assert call["has_audio"] is True and call["status"] == "completed"


def test_three_thousand_turns(server):
    conv = unique("conv")
    messages = [f"{i}: {'🚚é' * (i % 40)}" for i in range(3000)]
    with server.socket() as socket:
        socket.send({"subscribe": conv, "wait": True})
        assert socket.recv()["type"] == "subscription_pending"
        server.post_call(transcription(conv, messages))
        received = [m for m in socket.until("call_completed") if m["type"] not in ("subscription_confirmed",)]
    events = server.events(conv)
    assert_log(events)
    assert spoken(events) == messages
    assert received == events
    txt = server.api("GET", f"/calls/{conv}/transcript?format=txt").text
    assert all(line in txt for line in messages[::500])


def test_registered_subject_and_audience_see_the_end(server):
    sid, conv = unique("sid"), unique("conv")
    call = server.register(call_sid=sid, subject="boiler-7")
    with server.socket() as socket:
        confirmed = socket.subscribe(sid)
        assert confirmed["status"] == "initiated" and confirmed["call_id"] == call["call_id"]
        server.turn("Hello.", call_sid=sid)
        server.post_call(transcription(conv, ["Hello."], metadata=phone(sid)))
        status, completed = socket.take(3)[1:]
        assert (status["type"], completed["type"]) == ("call_status", "call_completed")
        assert status["status"] == "completed" and status["conversation_id"] == conv
        assert completed["call_data"]["subject"] == "boiler-7"
        eventually(lambda: not [s for s in server.get("/admin/subscriptions")["subscriptions"] if s["call_sid"] == sid],
                   "the subscription ends by itself")
