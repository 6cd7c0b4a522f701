"""A call is the same by each of its names: late identifiers, merging."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from client import assert_log, at_once, eventually, phone, spoken, transcription, unique


@pytest.mark.parametrize("where", ["phone_call", "callscope_link", "system__call_sid"])
def test_a_conversation_id_that_comes_late(server, where):
    """A subscriber by call_sid and a waiting one by conversation_id receive the same events."""
    sid, conv = unique("sid"), unique("conv")
    link = server.register(call_sid=sid)["link"]
    with server.socket() as by_sid, server.socket() as by_conv:
        by_sid.subscribe(sid)
        by_conv.send({"subscribe": conv, "wait": True})
        pending = by_conv.recv()
        assert pending["type"] == "subscription_pending" and pending["identifier"] == conv
        server.turn("One.", "agent", call_sid=sid)
        server.turn("Two.", "user", call_sid=sid)
        live = by_sid.take(2)
        assert spoken(live) == ["One.", "Two."]
        assert by_conv.before_pong() == []
        if where == "phone_call":
            payload = transcription(conv, metadata=phone(sid))
        else:
            value = link if where == "callscope_link" else sid
            payload = transcription(conv, conversation_initiation_client_data={"dynamic_variables": {where: value}})
        assert server.post_call(payload)["call_sid"] == sid
        live += by_sid.take(2)
        confirmed = by_conv.recv()
        assert confirmed["type"] == "subscription_confirmed" and confirmed["identifier"] == conv
        assert confirmed["call_sid"] == sid
        late = by_conv.take(4)
    assert late == live == server.events(sid) == server.events(conv)
    assert_log(live)


def test_a_conversation_id_linked_by_hand_midway(server):
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid)
    with server.socket() as by_sid, server.socket() as by_conv:
        by_sid.subscribe(sid)
        by_conv.send({"subscribe": conv, "wait": True})
        assert by_conv.recv()["type"] == "subscription_pending"
        server.turn("By sid.", call_sid=sid)
        linked = server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv})
        assert linked.status_code == 200, linked.text
        assert linked.json()["conversation_id"] == conv
        server.turn("By conversation.", conversation_id=conv)
        first = by_sid.take(2)
        assert by_conv.recv()["type"] == "subscription_confirmed"
        assert by_conv.take(2) == first
        assert spoken(first) == ["By sid.", "By conversation."]
        assert (first[0]["conversation_id"], first[1]["conversation_id"]) == (None, conv)


def test_every_name_finds_the_call(server):
    conv, provider = unique("conv"), "CA" + unique("")[1:]
    server.post_call(transcription(conv, metadata=phone(provider)))
    call = server.call(conv)
    for name in (conv, provider, call["call_sid"], call["call_id"]):
        assert server.call(name)["call_id"] == call["call_id"]
        with server.socket() as socket:
            assert socket.subscribe(name)["call_id"] == call["call_id"]


def test_own_call_sids(server):
    one = server.register(subject="tow.truck_7-a")
    assert one["call_sid"].startswith("EL_tow.truck_7-a_") and one["call_sid"].rsplit("_", 1)[1].isdigit()
    assert one["status"] == "initiated" and one["subject"] == "tow.truck_7-a"
    assert server.register()["call_sid"].startswith("EL_call_")
    sids = [server.register(subject="busy")["call_sid"] for _ in range(5)]
    assert len(set(sids)) == 5
    for subject in ("", "a b", "é", "x" * 65, "a/b"):
        answer = server.api("POST", "/calls", json={"subject": subject})
        assert answer.status_code == 400, (subject, answer.text)


def test_el_identifiers_are_sids_first(server):
    """One text cannot be the call_sid of a call and the conversation_id of another, because identifiers are unique."""
    name = "EL_" + unique("own")
    server.register(call_sid=name)
    answer = server.api("POST", "/calls", json={"conversation_id": name})
    assert answer.status_code == 409, answer.text
    made = "EL_" + unique("made")
    server.turn("Hi.", call_sid=made)
    assert server.call(made)["call_sid"] == made


def two_records(server, by_sid, by_conv):
    sid, conv = unique("sid"), unique("conv")
    for i in range(by_sid):
        server.turn(f"sid {i}", call_sid=sid)
    for i in range(by_conv):
        server.turn(f"conv {i}", conversation_id=conv)
    return sid, conv


@pytest.mark.parametrize("by_sid,by_conv", [(2, 3), (3, 2), (2, 2)], ids=["conv-survives", "sid-survives", "tie"])
@pytest.mark.parametrize("how", ["post-call", "patch"])
def test_merging(server, by_sid, by_conv, how):
    sid, conv = two_records(server, by_sid, by_conv)
    of_sid, of_conv = server.call(sid), server.call(conv)
    logs = {sid: server.events(sid), conv: server.events(conv)}
    kept, gone = (conv, sid) if by_conv > by_sid else (sid, conv)
    survivor, absorbed = (of_conv, of_sid) if kept == conv else (of_sid, of_conv)
    with server.socket() as on_kept, server.socket() as on_gone:
        on_kept.subscribe(kept)
        assert on_kept.take(len(logs[kept])) == logs[kept]
        on_gone.subscribe(gone)
        assert on_gone.take(len(logs[gone])) == logs[gone]

        if how == "post-call":
            server.post_call(transcription(conv, metadata=phone(sid)))
        else:
            assert server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv}).status_code == 409
            merged = server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv, "merge": True})
            assert merged.status_code == 200, merged.text
            assert merged.json()["call_id"] == survivor["call_id"]
            server.post_call(transcription(conv))

        events = server.events(kept)
        assert_log(events)
        assert spoken(events) == spoken(logs[kept]) + spoken(logs[gone])
        assert [e["type"] for e in events[-2:]] == ["call_status", "call_completed"]
        # The surviving record keeps its events; the other record's turns are new events with new numbers.
        assert events[:len(logs[kept])] == logs[kept]
        assert [e["timestamp"] for e in events[len(logs[kept]):-2]] == [e["timestamp"] for e in logs[gone]]
        ids = [e["transcription_id"] for e in events[:-2]]
        assert len(set(ids)) == len(ids)

        assert on_kept.take(len(events) - len(logs[kept])) == events[len(logs[kept]):]

        merged = on_gone.recv()
        assert merged["type"] == "call_merged", merged
        assert merged["identifier"] == gone and isinstance(merged["message"], str)
        assert (merged["from_call_id"], merged["call_id"]) == (absorbed["call_id"], survivor["call_id"])
        rest = on_gone.until("call_completed")
        assert [m for m in rest if m["type"] != "subscription_confirmed"] == events

    for name in (sid, conv):
        assert server.call(name)["call_id"] == survivor["call_id"]
        assert server.events(name) == events
    with server.socket() as socket:
        error = socket.refused({"subscribe": gone, "after": 1, "call_id": absorbed["call_id"]}, "CURSOR_INVALID")
        assert error["identifier"] == gone
        socket.subscribe(kept, after=1, call_id=survivor["call_id"])
        assert socket.until("call_completed") == events[1:]
    assert len([c for c in server.get("/calls")["calls"] if c["call_id"] == absorbed["call_id"]]) == 0


def test_a_merge_ends_the_wait_for_neither_name(server):
    """After a merge both names are still followed, each on its own connection."""
    sid, conv = two_records(server, 1, 2)
    with server.socket() as socket:
        socket.subscribe(sid)
        socket.take(1)
        assert server.api("PATCH", f"/calls/{conv}", json={"call_sid": sid, "merge": True}).status_code == 200
        assert socket.until("call_merged")[-1]["identifier"] == sid
        server.turn("After.", call_sid=sid)
        said = []
        while "After." not in said:
            said += spoken([socket.recv()])
        assert said == ["conv 0", "conv 1", "sid 0", "After."]


def test_a_merge_while_turns_come_in(server):
    sid, conv = two_records(server, 5, 6)
    with server.socket() as on_sid, server.socket() as on_conv, ThreadPoolExecutor(8) as pool:
        on_sid.subscribe(sid)
        on_conv.subscribe(conv)
        names = [{"call_sid": sid}, {"conversation_id": conv}]
        jobs = [pool.submit(server.turn, f"more {i}", "user", **names[i % 2]) for i in range(40)]
        merged = server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv, "merge": True})
        assert merged.status_code == 200, merged.text
        for job in jobs:
            job.result(30)
        server.post_call(transcription(conv))
        events = server.events(conv)
        assert_log(events)
        assert sorted(spoken(events)) == sorted(
            [f"sid {i}" for i in range(5)] + [f"conv {i}" for i in range(6)] + [f"more {i}" for i in range(40)])
        logs = []
        for socket in (on_sid, on_conv):
            messages = socket.until("call_completed")
            at = [i for i, m in enumerate(messages) if m["type"] == "call_merged"]
            if at:
                messages = messages[at[-1] + 1:]
            logs.append([m for m in messages if m["type"] != "subscription_confirmed"])
        assert logs == [events, events]


def test_a_chain_of_merges(server):
    """Three records become one, one after the other, and a follower of the first ends at the last."""
    names = [unique("sid") for _ in range(3)]
    for count, name in zip((1, 2, 4), names):
        for i in range(count):
            server.turn(f"{name} {i}", call_sid=name)
    ids = [server.call(name)["call_id"] for name in names]
    with server.socket() as socket:
        socket.subscribe(names[0])
        socket.take(1)
        for other in names[1:]:
            merged = server.api("PATCH", f"/calls/{names[0]}", json={"identifiers": [other], "merge": True})
            assert merged.status_code == 200, merged.text
        conv = unique("conv")
        server.post_call(transcription(conv, metadata=phone(names[0])))
        messages = socket.until("call_completed")
        at = max(i for i, m in enumerate(messages) if m["type"] == "call_merged")
        assert messages[at]["call_id"] == ids[2]
        events = server.events(conv)
        assert [m for m in messages[at + 1:] if m["type"] != "subscription_confirmed"] == events
    assert_log(events)
    assert len(spoken(events)) == 7
    for name in names:
        assert server.events(name) == events
    for call_id in ids[:2]:
        with server.socket() as socket:
            socket.refused({"subscribe": names[0], "after": 0, "call_id": call_id}, "CURSOR_INVALID")


def test_merges_at_once(server):
    """Twelve pairs are merged from both ends while turns come in for both records."""
    pairs = [(unique("sid"), unique("conv")) for _ in range(12)]
    for sid, conv in pairs:
        server.turn("sid", call_sid=sid)
        server.turn("conv", conversation_id=conv)

    def act(i):
        sid, conv = pairs[i % 12]
        match i // 12:
            case 0:
                return server.post("/webhooks/elevenlabs/post-call", transcription(conv, metadata=phone(sid))).status_code
            case 1:
                return server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv, "merge": True}).status_code
            case 2:
                return server.turn("more by sid", call_sid=sid)["status"]
            case _:
                return server.turn("more by conv", conversation_id=conv)["status"]

    results = at_once(48, act)
    assert set(results) == {200, "success"}, results
    for sid, conv in pairs:
        events = server.events(sid)
        assert events == server.events(conv)
        assert_log(events)
        assert sorted(spoken(events)) == ["conv", "more by conv", "more by sid", "sid"]
        assert server.call(sid)["status"] == "completed"


def test_registrations_at_once(server):
    sid = unique("sid")
    answers = at_once(30, lambda _: server.api("POST", "/calls", json={"call_sid": sid}).status_code)
    assert sorted(answers) == [201] + [409] * 29
    made = at_once(30, lambda _: server.register(subject="rush")["call_sid"])
    assert len(set(made)) == 30


def test_first_turns_at_once_make_one_call(server):
    conv = unique("conv")
    sids = at_once(30, lambda i: server.turn(f"{i}", conversation_id=conv)["call_sid"])
    assert len(set(sids)) == 1
    assert len(server.events(conv)) == 30


def test_a_failure_with_a_known_sid_ends_that_call(server):
    sid, conv = unique("CA"), unique("conv")
    call = server.register(call_sid=sid)
    with server.socket() as socket:
        socket.subscribe(sid)
        server.post_call({"type": "call_initiation_failure", "event_timestamp": 1794300000, "data": {
            "agent_id": "a", "conversation_id": conv, "failure_reason": "no-answer",
            "metadata": {"type": "twilio", "body": {"CallSid": sid, "CallStatus": "no-answer"}}}})
        assert [m["type"] for m in socket.take(2)] == ["call_status", "call_completed"]
    eventually(lambda: server.call(conv)["call_id"] == call["call_id"], "the conversation names the call")
    assert server.call(conv)["status"] == "failed"
