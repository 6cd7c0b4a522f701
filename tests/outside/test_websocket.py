"""The WebSocket, message by message and code by code."""

import json
import socket as sockets
import threading
import time
import uuid

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from client import (WS_PATH, Socket, assert_log, at_once, eventually, jwt, spoken, transcription, unique)

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


def in_an_hour():
    return int(time.time()) + 3600


# The upgrade.

def test_the_three_token_carriers(server):
    token = server.token("viewer")
    with Socket(server.ws_url, token) as socket:
        assert socket.before_pong() == []
        assert socket.ws.subprotocol is None
    with Socket(server.ws_url, subprotocols=["callscope.v1", f"bearer.{token}"]) as socket:
        assert socket.ws.subprotocol == "callscope.v1"
        assert socket.before_pong() == []
    with Socket(f"{server.ws_url}?token={token}") as socket:
        assert socket.before_pong() == []
    # The subprotocol is confirmed too, wherever the token is.
    with Socket(server.ws_url, token, subprotocols=["callscope.v1"]) as socket:
        assert socket.ws.subprotocol == "callscope.v1"


def test_the_first_carrier_present_decides(server):
    good, bad = server.token(), jwt({"sub": "x", "exp": in_an_hour()}, key="another key of enough bytes, surely")
    for kwargs in ({"token": bad, "subprotocols": ["callscope.v1", f"bearer.{good}"]},
                   {"token": bad, "query": f"?token={good}"},
                   {"subprotocols": ["callscope.v1", f"bearer.{bad}"], "query": f"?token={good}"}):
        with pytest.raises(InvalidStatus) as refused:
            Socket(server.ws_url + kwargs.pop("query", ""), **kwargs)
        assert refused.value.response.status_code == 401
    Socket(f"{server.ws_url}?token={bad}", good).ws.close()


BAD_TOKENS = {
    "none": lambda: None,
    "junk": lambda: "not.a.token",
    "other key": lambda: jwt({"sub": "x", "exp": in_an_hour()}, key="another key of enough bytes, surely"),
    "expired": lambda: jwt({"sub": "x", "exp": int(time.time()) - 1}),
    "no exp": lambda: jwt({"sub": "x"}),
    "no sub": lambda: jwt({"exp": in_an_hour()}),
    "alg none": lambda: jwt({"sub": "x", "exp": in_an_hour()}, header={"alg": "none"}),
    "alg none, no mac": lambda: jwt({"sub": "x", "exp": in_an_hour()}, header={"alg": "none"}).rsplit(".", 1)[0] + ".",
    "alg HS512": lambda: jwt({"sub": "x", "exp": in_an_hour()}, header={"alg": "HS512", "typ": "JWT"}),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_tokens_are_refused_before_the_upgrade(server, kind):
    token = BAD_TOKENS[kind]()
    headers = {**UPGRADE, **({"Authorization": f"Bearer {token}"} if token else {})}
    answer = server.http.get(WS_PATH, headers=headers)
    assert answer.status_code == 401, answer.text
    body = answer.json()
    assert body["code"] == "AUTHENTICATION_FAILED" and body["status"] == "error" and body["message"]
    answer = server.http.get(WS_PATH + (f"?token={token}" if token else ""), headers=UPGRADE)
    assert answer.status_code == 401 and answer.json()["code"] == "AUTHENTICATION_FAILED"


def test_a_token_of_any_sender_with_sub_and_exp(server):
    """Tokens that another program minted with the key are valid, and `role` is viewer by default."""
    token = jwt({"sub": "bridge", "exp": in_an_hour(), "uid": "u-17", "jti": str(uuid.uuid4()), "aud": "elsewhere"})
    with Socket(server.ws_url, token):
        listed = server.get("/admin/connections")["connections"]
        mine = [c for c in listed if c["username"] == "bridge"]
        assert len(mine) == 1 and mine[0]["role"] == "viewer" and mine[0]["user_id"] == "u-17"


def test_origins(server):
    own = f"http://127.0.0.1:{server.port}"
    Socket(server.ws_url, server.token(), origin=own).ws.close()
    Socket(server.ws_url, server.token()).ws.close()
    for origin in ("http://evil.example", own + ".evil.example", "null", "https://127.0.0.1", "file://", own + "1",
                   f"http://127.0.0.2:{server.port}"):
        with pytest.raises(InvalidStatus) as refused:
            Socket(server.ws_url, server.token(), origin=origin)
        assert refused.value.response.status_code == 403, origin
        body = json.loads(refused.value.response.body)
        assert body["status"] == "error" and body["code"]


def test_origins_can_be_allowed(launch):
    server = launch(CALLSCOPE_ALLOWED_ORIGINS="https://app.example,https://other.example:8443")
    for origin in ("https://app.example", "https://other.example:8443"):
        Socket(server.ws_url, server.token(), origin=origin).ws.close()
    for origin in ("http://app.example", "https://other.example", "https://app.example.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            Socket(server.ws_url, server.token(), origin=origin)
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Connection": "Upgrade"}, {"Upgrade": "websocket"},
                                     {**UPGRADE, "Upgrade": "h2c"}, {**UPGRADE, "Sec-WebSocket-Version": "8"}],
                         ids=["plain", "no-upgrade", "no-connection", "h2c", "version-8"])
def test_not_an_upgrade(server, headers):
    answer = server.http.get(WS_PATH, headers={"Authorization": f"Bearer {server.token()}", **headers})
    assert answer.status_code == 426, answer.text
    assert answer.json()["status"] == "error"


# Requests.

def test_pongs(server):
    with server.socket() as socket:
        for value in (None, 1, "x", {"a": [1, {"b": None}]}, [], False, "🚚\x00"):
            socket.send({"ping": value})
            assert socket.recv() == {"type": "pong", "ping": value}
        socket.send('{"ping": 12345678901234567890123}')
        assert socket.recv()["ping"] == 12345678901234567890123


BAD_MESSAGES = ["", "x", "{", "[]", "1", "null", '"subscribe"', "{}", '{"hello": 1}', '{"subscribe": 5}',
                '{"subscribe": null}', '{"subscribe": ["a"]}', '{"unsubscribe": {}}',
                '{"subscribe": "a", "unsubscribe": "b"}', '{"subscribe": "a", "after": ["1"]}',
                '{"subscribe": "a", "after": -1}', '{"subscribe": "a", "after": 1.5}',
                '{"subscribe": "a", "after": 99999999999999999999}',
                '{"subscribe": "a", "history": "no"}', '{"subscribe": "a", "wait": 1}',
                '{"subscribe": "a", "call_id": "not-a-uuid"}', '{"subscribe": "a"} {"subscribe": "b"}',
                "[" * 5000, '{"ping": ' + "[" * 20000 + "]" * 20000 + "}"]


def test_messages_of_a_wrong_form(server):
    with server.socket() as socket:
        for message in BAD_MESSAGES[:-1]:
            socket.refused(message, "INVALID_MESSAGE_FORMAT")
        # This is very deep but well formed: it is refused or answered, and the connection stays.
        socket.send(BAD_MESSAGES[-1])
        socket.ws.recv(15)
        assert socket.before_pong() == []


def test_binary_frames(server):
    with server.socket() as socket:
        socket.refused(b'{"ping": 1}', "INVALID_MESSAGE_FORMAT")
        socket.refused(b"\xff\x00", "INVALID_MESSAGE_FORMAT")
        assert socket.before_pong() == []


def test_identifiers_of_a_wrong_form(server):
    with server.socket() as socket:
        for identifier in ("", "x" * 129, "a b", "é", "a\x00", "a\nb", "🚚"):
            socket.refused({"subscribe": identifier}, "INVALID_IDENTIFIER")
            socket.refused({"unsubscribe": identifier}, "INVALID_IDENTIFIER")
            socket.refused({"subscribe": identifier, "wait": True}, "INVALID_IDENTIFIER")
        assert socket.before_pong() == []


def test_unknown_calls(server):
    with server.socket() as socket:
        for identifier in (unique("conv"), "EL_unknown_1", str(uuid.uuid4()), "x" * 128, "a/b?c#d", "~!"):
            error = socket.refused({"subscribe": identifier}, "CALL_NOT_FOUND")
            assert error["identifier"] == identifier
        assert socket.before_pong() == []


def test_a_confirmation(server):
    call = server.register(subject="confirm")
    with server.socket() as socket:
        confirmed = socket.subscribe(call["call_sid"])
        assert {k: confirmed[k] for k in ("call_sid", "conversation_id", "status", "call_id", "seq")} == {
            "call_sid": call["call_sid"], "conversation_id": None, "status": "initiated", "call_id": call["call_id"],
            "seq": 0}
        assert isinstance(confirmed["message"], str)
        server.turn("x", call_sid=call["call_sid"])
        socket.take(1)
        again = socket.subscribe(call["call_sid"])
        assert again["seq"] == 1 and again["status"] == "in_progress"


def a_call(server, turns=5):
    sid = unique("sid")
    for i in range(turns):
        server.turn(f"turn {i + 1}", ("agent", "user")[i % 2], call_sid=sid)
    return sid


def test_history_then_live(server):
    sid = a_call(server)
    with server.socket() as socket:
        assert socket.subscribe(sid)["seq"] == 5
        history = socket.take(5)
        server.turn("turn 6", call_sid=sid)
        events = history + socket.take(1)
    assert events == server.events(sid)
    assert_log(events)
    first = events[0]
    assert set(first) >= {"type", "conversation_id", "call_sid", "transcription_id", "sequence_number", "speaker_type",
                          "message_text", "timestamp", "seq"}


def test_after(server):
    sid = a_call(server)
    call_id = server.call(sid)["call_id"]
    for after in range(6):
        with server.socket() as socket:
            confirmed = socket.subscribe(sid, after=after, **({"call_id": call_id} if after % 2 else {}))
            assert confirmed["seq"] == 5
            assert [m["seq"] for m in socket.take(5 - after)] == list(range(after + 1, 6))
            assert socket.before_pong() == []


def test_cursors_of_another_life(server):
    sid = a_call(server, 3)
    with server.socket() as socket:
        for fields in ({"after": 4}, {"after": 9_000_000_000_000_000_000},
                       {"after": 1, "call_id": str(uuid.uuid4())}):
            assert socket.refused({"subscribe": sid, **fields}, "CURSOR_INVALID")["identifier"] == sid
        assert socket.before_pong() == []
        socket.subscribe(sid, after=3)
    # A call that is deleted and created again under the same name is another call.
    old = server.call(sid)["call_id"]
    assert server.api("DELETE", f"/calls/{sid}").status_code in (200, 204)
    server.turn("again", call_sid=sid)
    with server.socket() as socket:
        socket.refused({"subscribe": sid, "after": 1, "call_id": old}, "CURSOR_INVALID")
        socket.refused({"subscribe": sid, "after": 3}, "CURSOR_INVALID")
        assert socket.subscribe(sid)["call_id"] != old


def test_live_only(server):
    sid = a_call(server)
    with server.socket() as socket:
        socket.subscribe(sid, history=False)
        server.turn("turn 6", call_sid=sid)
        assert socket.recv()["seq"] == 6


def test_live_only_on_an_ended_call(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    with server.socket() as socket:
        confirmed = socket.subscribe(conv, history=False)
        assert confirmed["status"] == "completed" and confirmed["seq"] == 4
        assert socket.before_pong() == []
        server.turn("Late.", conversation_id=conv)
        assert socket.before_pong() == []
        assert not followed(server, conv)


def test_resuming_at_the_head_of_an_ended_call(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    with server.socket() as socket:
        assert socket.subscribe(conv, after=4)["seq"] == 4
        assert socket.before_pong() == []
        assert not followed(server, conv)
        socket.subscribe(conv, after=3)
        assert socket.recv()["type"] == "call_completed"
        eventually(lambda: not followed(server, conv), "the subscription ends")


def followed(server, identifier):
    call_id = server.call(identifier)["call_id"]
    return [s for s in server.get("/admin/subscriptions")["subscriptions"] if s["call_id"] == call_id]


def test_waiting(server):
    sid = unique("sid")
    with server.socket() as socket:
        socket.send({"subscribe": sid, "wait": True})
        pending = socket.recv()
        assert pending["type"] == "subscription_pending" and pending["identifier"] == sid and pending["message"]
        server.turn("One.", call_sid=sid)
        confirmed, first = socket.take(2)
        assert confirmed["type"] == "subscription_confirmed" and confirmed["identifier"] == sid
        assert first["message_text"] == "One."
        server.turn("Two.", call_sid=sid)
        assert socket.recv()["seq"] == 2


def test_waiting_twice_is_answered_twice(server):
    sid = unique("sid")
    with server.socket() as socket:
        for _ in range(2):
            socket.send({"subscribe": sid, "wait": True})
            assert socket.recv()["type"] == "subscription_pending"
        server.turn("One.", call_sid=sid)
        assert [m["type"] for m in socket.take(2)] == ["subscription_confirmed", "transcription"]
        assert socket.before_pong() == []


def test_waiting_for_a_registration(server):
    sid = unique("sid")
    with server.socket() as socket:
        socket.send({"subscribe": sid, "wait": True})
        assert socket.recv()["type"] == "subscription_pending"
        server.register(call_sid=sid)
        confirmed = socket.recv()
        assert confirmed["type"] == "subscription_confirmed" and confirmed["status"] == "initiated"


def test_waiting_for_a_known_call(server):
    sid = a_call(server, 2)
    with server.socket() as socket:
        socket.subscribe(sid, wait=True)
        assert len(spoken(socket.take(2))) == 2


def test_a_wait_can_be_given_up(server):
    sid = unique("sid")
    with server.socket() as socket:
        socket.send({"subscribe": sid, "wait": True})
        assert socket.recv()["type"] == "subscription_pending"
        socket.send({"unsubscribe": sid})
        gone = socket.recv()
        assert gone["type"] == "unsubscribe_confirmed" and gone["identifier"] == sid
        other = unique("sid")
        socket.send({"subscribe": other, "wait": True})
        assert socket.recv()["type"] == "subscription_pending"
        server.turn("x", call_sid=sid)
        server.turn("x", call_sid=other)
        assert [m.get("identifier") or m["call_sid"] for m in socket.take(2)] == [other, other]


def test_subscribing_twice(server):
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid, conversation_id=conv)
    server.turn("One.", call_sid=sid)
    with server.socket() as socket:
        socket.subscribe(sid)
        assert spoken(socket.take(1)) == ["One."]
        for name in (sid, conv, server.call(sid)["call_id"]):
            socket.subscribe(name)
        server.turn("Two.", call_sid=sid)
        assert spoken([socket.recv()]) == ["Two."]
        assert socket.before_pong() == []


def test_unsubscribing(server):
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid, conversation_id=conv)
    with server.socket() as socket, server.socket() as other:
        socket.subscribe(sid)
        other.subscribe(sid)
        # Any of the call's names is accepted.
        socket.send({"unsubscribe": conv})
        gone = socket.recv()
        assert gone["type"] == "unsubscribe_confirmed" and gone["identifier"] == conv and gone["message"]
        server.turn("One.", call_sid=sid)
        assert other.recv()["message_text"] == "One."
        assert socket.before_pong() == []
        # An identifier without a subscription, or an unknown one, is no error.
        for name in (sid, unique("unknown")):
            socket.send({"unsubscribe": name})
            assert socket.recv()["type"] == "unsubscribe_confirmed"
        # The next subscription starts at the beginning.
        socket.subscribe(sid)
        assert spoken(socket.take(1)) == ["One."]


def test_the_end_of_a_call(server):
    conv = unique("conv")
    server.turn("One.", conversation_id=conv)
    with server.socket() as socket:
        socket.subscribe(conv)
        socket.take(1)
        server.post_call(transcription(conv))
        status, completed = socket.take(2)
        assert (status["type"], status["seq"]) == ("call_status", 2)
        assert status["status"] == "completed" and status["call_end_time"] and status["conversation_id"] == conv
        assert (completed["type"], completed["seq"]) == ("call_completed", 3)
        assert set(completed["call_data"]) >= {
            "status", "subject", "call_start_time", "call_end_time", "duration_seconds", "transcript_summary", "cost",
            "cost_fiat", "call_successful", "failure_reason", "analysis_data", "metadata"}
        # The subscription has ended, so it does not receive what comes late.
        eventually(lambda: not followed(server, conv), "the subscription ends")
        server.turn("Late.", conversation_id=conv)
        assert socket.before_pong() == []
        # The connection stays open, and can replay the whole call again.
        socket.subscribe(conv)
        assert [m["type"] for m in socket.take(4)] == ["transcription", "call_status", "call_completed", "transcription"]


def test_a_status_set_by_hand(server):
    call = server.register(subject="by-hand")
    with server.socket() as socket:
        socket.subscribe(call["call_sid"])
        changed = server.api("PATCH", f"/calls/{call['call_sid']}", json={"status": "in_progress"})
        assert changed.status_code == 200, changed.text
        message = socket.recv()
        assert (message["type"], message["status"], message["call_end_time"]) == ("call_status", "in_progress", None)
        server.turn("x", call_sid=call["call_sid"])
        assert socket.recv()["type"] == "transcription"


def test_many_calls_over_one_connection(server):
    sids = [a_call(server, 2) for _ in range(5)]
    with server.socket() as socket:
        for sid in sids:
            socket.send({"subscribe": sid})
        messages = socket.take(15)
        for sid in sids:
            mine = [m for m in messages if m.get("call_sid") == sid]
            assert [m["type"] for m in mine] == ["subscription_confirmed", "transcription", "transcription"]
            assert [m["seq"] for m in mine[1:]] == [1, 2]


def test_every_subscriber_gets_every_event_once_in_order(server):
    """Turns come from many senders at the same time while subscribers come and go."""
    sid, total, readers = unique("sid"), 200, 12
    server.register(call_sid=sid)
    begun, results = threading.Semaphore(0), [None] * readers

    def follow(i):
        events, rounds = [], 0
        while len(events) < total:
            with server.socket() as socket:
                call = {"call_id": follow.call_id} if rounds else {}
                socket.subscribe(sid, after=events[-1]["seq"] if events else 0, **call)
                begun.release()
                stop = total if rounds > 3 else min(total, len(events) + 17 + 5 * i)
                while len(events) < stop:
                    events.append(socket.recv())
            rounds += 1
        results[i] = events

    follow.call_id = server.call(sid)["call_id"]
    threads = [threading.Thread(target=follow, args=(i,)) for i in range(readers)]
    for thread in threads:
        thread.start()
    for _ in range(readers):
        begun.acquire(timeout=15)
    for wave in range(4):
        at_once(total // 4, lambda i, wave=wave: server.turn(f"turn {wave}.{i}", call_sid=sid))
    for thread in threads:
        thread.join(30)
    log = server.events(sid)
    assert_log(log)
    assert all(events == log for events in results)


def test_a_hundred_subscribers(server):
    sid = unique("sid")
    server.register(call_sid=sid)
    name = unique("many")
    token = server.token("viewer", sub=name)
    crowd = [server.socket(token) for _ in range(100)]
    try:
        for socket in crowd:
            socket.subscribe(sid)
        for i in range(20):
            server.turn(f"line {i}", call_sid=sid)
        log = server.events(sid)
        assert all(socket.take(20) == log for socket in crowd)
        assert len(followed(server, sid)[0]["connection_ids"]) == 100
    finally:
        for socket in crowd:
            socket.ws.close()
    eventually(lambda: name not in server.api("GET", "/admin/connections").text, "all of them left")
    assert not followed(server, sid)


# Rights.

def test_a_token_limited_to_some_calls(server):
    mine, other = a_call(server, 1), a_call(server, 1)
    coming = unique("coming")
    token = server.token("viewer", calls=(mine, coming))
    with server.socket(token) as socket:
        socket.subscribe(mine)
        socket.take(1)
        assert socket.refused({"subscribe": other}, "FORBIDDEN")["identifier"] == other
        socket.refused({"subscribe": unique("unknown"), "wait": True}, "FORBIDDEN")
        socket.send({"subscribe": coming, "wait": True})
        assert socket.recv()["type"] == "subscription_pending"
        server.turn("x", call_sid=coming)
        assert [m["type"] for m in socket.take(2)] == ["subscription_confirmed", "transcription"]


def test_a_limited_token_finds_its_call_by_any_name(server):
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid, conversation_id=conv)
    with server.socket(server.token("viewer", calls=(conv,))) as socket:
        socket.subscribe(sid)
        socket.subscribe(conv)


def test_a_token_that_expires_while_connected(server):
    token = jwt({"sub": "brief", "exp": int(time.time()) + 3})
    with Socket(server.ws_url, token) as socket:
        socket.subscribe(server.register()["call_sid"])
        code, _ = socket.closed()
    assert code == 4001


# Limits.

def test_64_kib(server):
    with server.socket() as socket:
        for size in (65535, 65536):
            socket.send('{"ping": 1' + " " * (size - 11) + "}")
            assert socket.recv() == {"type": "pong", "ping": 1}
        socket.send('{"ping": 1' + " " * (65537 - 11) + "}")
        assert socket.closed()[0] == 1009


def test_64_kib_in_fragments(server):
    with server.socket() as socket:
        socket.ws.send(['{"ping"', ': "', "x" * 40_000, '"}'])
        assert socket.recv()["ping"] == "x" * 40_000
        try:
            socket.ws.send(["x" * 30_000] * 3)
        except ConnectionClosed:
            pass  # The server may have read the last fragment before the client is done with it.
        assert socket.closed()[0] == 1009


def test_invalid_utf8(server):
    with server.socket() as socket:
        socket.ws.send(b'{"ping": "\xff\xfe"}', text=True)
        assert socket.closed()[0] == 1007


def test_a_broken_frame(server):
    """Reserved bits, an unknown opcode or an unmasked frame cause a close with the protocol's code, and no more."""
    for raw in (b"\xf1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", Frame(Opcode.TEXT, b"{}").serialize(mask=False),
                b"\x89\xfe\x00\x80" + b"\0" * 132):
        with server.socket() as socket:
            socket.ws.socket.sendall(raw)
            try:
                assert socket.closed()[0] in (1002, 1009)
            except AssertionError as cut:
                assert "without a close frame" in str(cut), cut
    with server.socket() as socket:
        assert socket.before_pong() == []


def test_a_connection_cut_without_a_word_leaves_nothing_behind(server):
    sid = a_call(server, 1)
    name = unique("cut")
    socket = server.socket(server.token(sub=name))
    socket.subscribe(sid)
    socket.take(1)
    assert followed(server, sid)
    socket.ws.socket.shutdown(sockets.SHUT_RDWR)

    def gone():
        listed = server.get("/admin/connections")["connections"]
        return not followed(server, sid) and name not in [c["username"] for c in listed]
    eventually(gone, "connection and subscription are gone")


def test_the_subscription_limit(server):
    with server.socket() as socket:
        def ask(identifier):
            while True:
                socket.send({"subscribe": identifier, "wait": True})
                answer = socket.recv()
                if answer.get("code") != "RATE_LIMITED":
                    return answer
                threading.Event().wait(0.05)
        names = [unique("limit") for _ in range(256)]
        assert all(ask(name)["type"] == "subscription_pending" for name in names)
        assert ask(unique("limit"))["code"] == "SUBSCRIPTION_LIMIT"
        assert ask(names[0])["type"] == "subscription_pending"
        while True:
            socket.send({"unsubscribe": names[0]})
            if socket.recv()["type"] == "unsubscribe_confirmed":
                break
            threading.Event().wait(0.05)
        assert ask(unique("limit"))["type"] == "subscription_pending"


def test_too_many_messages(server):
    with server.socket() as socket:
        for i in range(400):
            socket.send({"ping": i})
        answers = [socket.recv() for _ in range(400)]
        pongs = sum(a["type"] == "pong" for a in answers)
        assert 200 <= pongs <= 350, pongs
        assert {a["code"] for a in answers if a["type"] == "error"} == {"RATE_LIMITED"}

        def answered():
            socket.send({"ping": "again"})
            return socket.recv()["type"] == "pong"
        eventually(answered, "the connection recovers")


def test_too_many_messages_for_ten_seconds(launch):
    with launch().socket() as socket:
        stop = threading.Event()

        def flood():
            end = time.monotonic() + 25
            try:
                while not stop.is_set() and time.monotonic() < end:
                    for _ in range(25):
                        socket.send({"ping": 1})
                    stop.wait(0.05)
            except ConnectionClosed:
                pass
        thread = threading.Thread(target=flood)
        began = time.monotonic()
        thread.start()
        try:
            code, _ = socket.closed(30)
        finally:
            stop.set()
            thread.join(30)
        assert code == 4102
        assert 8 <= time.monotonic() - began <= 25


def test_a_subscriber_that_does_not_read_slows_no_other(server):
    sid = unique("sid")
    server.register(call_sid=sid)
    with server.socket(max_queue=1) as asleep, server.socket() as awake:
        asleep.subscribe(sid)
        awake.subscribe(sid)
        text = "x" * 60_000
        for i in range(40):
            server.turn(f"{i} {text}", call_sid=sid)
            assert awake.recv(5)["seq"] == i + 1
        assert [asleep.recv()["seq"] for _ in range(40)] == list(range(1, 41))


def test_a_subscriber_that_never_reads_is_let_go(launch):
    """Such a client delays no other, is closed at the write deadline, and loses nothing when it comes back."""
    server = launch()
    sid = unique("sid")
    call_id = server.register(call_sid=sid)["call_id"]
    name = unique("asleep")
    with server.socket(server.token(sub=name), max_queue=1) as asleep, server.socket() as awake:
        asleep.subscribe(sid)
        awake.subscribe(sid)
        text, total = "x" * 60_000, 300
        for i in range(total):
            server.turn(f"{i} {text}", call_sid=sid)
            assert awake.recv(5)["seq"] == i + 1

        def gone():
            return name not in server.api("GET", "/admin/connections").text
        eventually(gone, "it is let go", 40)
        with pytest.raises(ConnectionClosed) as cut:
            while True:
                asleep.recv()
        assert cut.value.rcvd is None or cut.value.rcvd.code == 4101
        events = [m for m in asleep.seen if m["type"] == "transcription"]
    assert len(events) < total
    with server.socket() as again:
        again.subscribe(sid, after=len(events), call_id=call_id)
        events += again.take(total - len(events))
    assert [e["seq"] for e in events] == list(range(1, total + 1))
