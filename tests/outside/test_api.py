"""The HTTP API: calls, transcripts, events, the admin's lists, health."""

import json
import re
import time
import uuid

import pytest
import srt
import webvtt
from markdown_it import MarkdownIt
from websockets.exceptions import InvalidStatus

from client import Socket, assert_log, eventually, jwt, spoken, transcription, unique


def assert_error(answer, *statuses):
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text}"
    body = answer.json()
    assert body["status"] == "error" and isinstance(body["message"], str) and body["message"]
    assert "details" in body and isinstance(body["code"], str) and body["code"]
    return body


# Calls.

def test_a_call_registered_and_read(server):
    sid, conv = unique("sid"), unique("conv")
    metadata = {"z": 1, "a": [None, "🚚\x00"], "n": 12345678901234567890}
    call = server.register(call_sid=sid, conversation_id=conv, subject="api", agent_id="agent_x", metadata=metadata)
    assert uuid.UUID(call["call_id"])
    assert (call["call_sid"], call["conversation_id"], call["status"]) == (sid, conv, "initiated")
    assert (call["subject"], call["agent_id"], call["metadata"]) == ("api", "agent_x", metadata)
    # Only the client that registered the call learns its name in the variables of a conversation.
    assert call.pop("link")
    assert server.call(conv) == server.call(sid) == call
    for taken in ({"call_sid": sid}, {"conversation_id": conv}, {"call_sid": conv}, {"conversation_id": sid}):
        assert_error(server.api("POST", "/calls", json=taken), 409)


def test_an_empty_registration(server):
    assert server.register()["status"] == "initiated"


@pytest.mark.parametrize("body", [b"{", b"[]", b"null ,", b'"x"', b'{"call_sid": 5}', b'{"call_sid": ""}',
                                  b'{"call_sid": "a b"}', b'{"conversation_id": "\xc3\xa9"}', b'{"subject": 7}'])
def test_registrations_of_a_wrong_form(server, body):
    assert_error(server.api("POST", "/calls", content=body, headers={"Content-Type": "application/json"}), 400)


def test_unknown_calls(server):
    name = unique("unknown")
    for path in ("", "/transcript", "/events"):
        assert_error(server.api("GET", f"/calls/{name}{path}"), 404)
    assert_error(server.api("PATCH", f"/calls/{name}", json={"status": "failed"}), 404)
    assert_error(server.api("DELETE", f"/calls/{name}"), 404)


def test_the_list_in_pages(server):
    subject = "pages-" + uuid.uuid4().hex[:8]
    made = [server.register(subject=subject, agent_id=subject)["call_id"] for _ in range(7)]
    seen, cursor, pages = [], None, 0
    while True:
        params = {"agent_id": subject, "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = server.get("/calls", params=params)
        assert len(page["calls"]) <= 3
        seen += [c["call_id"] for c in page["calls"]]
        cursor, pages = page["next_cursor"], pages + 1
        if cursor is None:
            break
        # A call that appears between two pages neither shifts nor doubles the rest.
        if pages == 1:
            server.register(subject=subject, agent_id=subject)
    assert seen == made[::-1]


def test_the_list_filtered(server):
    agent = "agent-" + uuid.uuid4().hex[:8]
    conv = unique("conv")
    server.post_call(transcription(conv, agent_id=agent))
    waiting = server.register(agent_id=agent, subject="needle-" + agent)
    def ids(**params):
        return {c["call_id"] for c in server.get("/calls", params={"agent_id": agent, **params})["calls"]}
    done = server.call(conv)
    assert done["agent_id"] == agent
    assert ids() == {done["call_id"], waiting["call_id"]}
    assert ids(status="completed") == {done["call_id"]}
    assert ids(status="initiated") == {waiting["call_id"]}
    assert ids(status="failed") == set()
    assert ids(q="needle-" + agent) == {waiting["call_id"]}
    assert ids(q=conv) == {done["call_id"]}
    assert ids(since="2999-01-01T00:00:00Z") == set()
    assert ids(since="2020-01-01T00:00:00Z") == {done["call_id"], waiting["call_id"]}
    for odd in ("%", "_", "'", "\\", "🚚", "' OR 1=1 --"):
        assert ids(q=odd + "no such call") == set()


@pytest.mark.parametrize("params", [{"status": "done"}, {"limit": "many"}, {"limit": "-1"}, {"cursor": "junk"},
                                    {"since": "yesterday"}])
def test_lists_with_a_wrong_filter(server, params):
    assert_error(server.api("GET", "/calls", params=params), 400)


def test_a_patch(server):
    sid, conv, more = unique("sid"), unique("conv"), unique("sid")
    call = server.register(call_sid=sid, metadata={"a": 1})
    changed = server.api("PATCH", f"/calls/{sid}", json={"conversation_id": conv, "subject": "patched",
                                                         "metadata": {"b": 2}})
    assert changed.status_code == 200, changed.text
    changed = changed.json()
    assert (changed["call_id"], changed["conversation_id"], changed["subject"], changed["metadata"]) == (
        call["call_id"], conv, "patched", {"b": 2})
    assert server.call(conv)["call_id"] == call["call_id"]
    server.register(call_sid=more)
    assert_error(server.api("PATCH", f"/calls/{sid}", json={"conversation_id": more}), 409)
    assert_error(server.api("PATCH", f"/calls/{sid}", json={"status": "done"}), 400)
    assert_error(server.api("PATCH", f"/calls/{sid}", json={"conversation_id": "a b"}), 400)
    assert server.call(sid)["conversation_id"] == conv


def test_a_status_by_patch(server):
    sid = unique("sid")
    server.register(call_sid=sid)
    assert server.api("PATCH", f"/calls/{sid}", json={"status": "failed"}).json()["status"] == "failed"
    events = server.events(sid)
    assert events[0]["type"] == "call_status" and events[0]["status"] == "failed"
    # A call that ended stays ended.
    for back in ("initiated", "in_progress"):
        assert_error(server.api("PATCH", f"/calls/{sid}", json={"status": back}), 400, 409)
    assert server.call(sid)["status"] == "failed"
    assert server.events(sid) == events


def test_a_delete(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    call = server.call(conv)
    with server.socket() as socket:
        answer = server.api("DELETE", f"/calls/{conv}")
        assert answer.status_code in (200, 204), answer.text
        for name in (conv, call["call_sid"], call["call_id"]):
            assert_error(server.api("GET", f"/calls/{name}"), 404)
        socket.refused({"subscribe": conv}, "CALL_NOT_FOUND")
    assert conv not in server.api("GET", "/calls", params={"limit": 100}).text


# Transcripts and events.

def test_transcripts(server):
    conv = unique("conv")
    server.post_call(transcription(conv, ["Straße, 🚚?", "Yes\x00, \x1b[31mred."]))
    as_json = server.api("GET", f"/calls/{conv}/transcript?format=json")
    assert as_json.status_code == 200 and "application/json" in as_json.headers["content-type"]
    assert "Straße, 🚚?" in json.dumps(as_json.json(), ensure_ascii=False)
    assert "Yes\x00, \x1b[31mred." in [v for turn in as_json.json()["turns"] for v in turn.values()]
    txt = server.api("GET", f"/calls/{conv}/transcript?format=txt")
    assert txt.status_code == 200 and txt.headers["content-type"].startswith("text/plain")
    assert "charset=utf-8" in txt.headers["content-type"].lower()
    assert "agent" in txt.text and "Straße, 🚚?" in txt.text
    assert server.api("GET", f"/calls/{conv}/transcript").status_code == 200
    for source in ("auto", "live", "final"):
        assert server.api("GET", f"/calls/{conv}/transcript?format=txt&source={source}").status_code == 200
    assert_error(server.api("GET", f"/calls/{conv}/transcript?format=docx"), 400)
    assert_error(server.api("GET", f"/calls/{conv}/transcript?format=txt&source=dream"), 400)


HOSTILE = "2\n\n00:00:00,000 --> 00:09:00,000\n<b>x</b> **y** [z](http://e.vil) <script>&amp; \x1b[2J\u202e"


def test_subtitles_and_markdown_mean_to_their_readers_what_was_said(server):
    """Foreign parsers find one cue and one paragraph per turn, whatever was said."""
    said = ["Straße, 🚚?", HOSTILE, "", "Yes."]
    conv = unique("conv")
    server.post_call(transcription(conv, said))
    turns = server.api("GET", f"/calls/{conv}/transcript").json()["turns"]
    url = f"/calls/{conv}/transcript?format="

    answer = server.api("GET", url + "srt")
    assert answer.headers["content-type"] == "application/x-subrip; charset=utf-8"
    cues = list(srt.parse(answer.text))
    assert len(cues) == len(turns) and all(cue.end > cue.start for cue in cues)
    assert cues[0].content == "agent: Straße, 🚚?"
    assert all("\x1b" not in cue.content and "\u202e" not in cue.content for cue in cues)

    answer = server.api("GET", url + "vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    captions = webvtt.from_string(answer.text).captions
    assert len(captions) == len(turns)
    assert [caption.voice for caption in captions] == [turn["speaker_type"] for turn in turns]
    assert "&lt;script&gt;" in answer.text and "<script>" not in answer.text and answer.text.count("-->") == len(turns)

    answer = server.api("GET", url + "md")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    html = MarkdownIt("commonmark").render(answer.text)
    assert "<script" not in html and "<a " not in html and "<b>" not in html and "<em>" not in html
    assert html.count("<strong>") == len(turns), "only who spoke stands out"


def test_events_are_the_websockets(server):
    conv = unique("conv")
    server.post_call(transcription(conv, ["One.", "Two.", "Three."]))
    with server.socket() as socket:
        socket.subscribe(conv)
        frames = socket.until("call_completed")
    page = server.get(f"/calls/{conv}/events")
    assert page == {"events": frames, "head": 5}
    page = server.get(f"/calls/{conv}/events", params={"after": 1, "limit": 2})
    assert (page["events"], page["head"]) == (frames[1:3], 5)
    assert server.get(f"/calls/{conv}/events", params={"after": 5}) == {"events": [], "head": 5}
    for params in ({"after": "x"}, {"after": "-1"}, {"limit": "x"}):
        assert_error(server.api("GET", f"/calls/{conv}/events", params=params), 400)


# Admin.

def test_connections(server):
    sid = server.register(subject="seen")["call_sid"]
    token = server.token("viewer", sub=unique("viewer"))
    with Socket(server.ws_url, token) as socket:
        socket.subscribe(sid)
        server.turn("x", call_sid=sid)
        socket.take(1)
        listed = server.get("/admin/connections")
        assert isinstance(listed["nodes"], list) and listed["nodes"]
        mine = [c for c in listed["connections"] if sid in c["subscribed_calls"]]
        assert len(mine) == 1
        mine = mine[0]
        assert uuid.UUID(mine["connection_id"]).version == 4
        assert mine["username"].startswith("viewer_") and mine["user_id"] and mine["role"] == "viewer"
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", mine["connected_at"])
        host, _, port = mine["remote_addr"].rpartition(":")
        assert "127.0.0.1" in host + port
        assert mine["node"] in listed["nodes"]
        eventually(lambda: [c["sent"] for c in server.get("/admin/connections")["connections"]
                            if c["connection_id"] == mine["connection_id"]][0] >= 1, "what was sent is counted")
        subscription, = [s for s in server.get("/admin/subscriptions")["subscriptions"] if s["call_sid"] == sid]
        assert subscription["connection_ids"] == [mine["connection_id"]]
        assert set(subscription) >= {"call_id", "call_sid", "conversation_id", "status", "connection_ids"}
        assert subscription["status"] == "in_progress"
    eventually(lambda: mine["connection_id"] not in server.api("GET", "/admin/connections").text, "it left the list")
    eventually(lambda: sid not in server.api("GET", "/admin/subscriptions").text, "and the other list")


def test_a_kick(server):
    sid = server.register(subject="kicked")["call_sid"]
    with server.socket() as socket:
        socket.subscribe(sid)
        mine, = [c for c in server.get("/admin/connections")["connections"] if sid in c["subscribed_calls"]]
        path = f"/admin/connections/{mine['connection_id']}"
        assert_error(server.api("DELETE", path, token=server.token("viewer")), 403)
        answer = server.api("DELETE", path)
        assert answer.status_code in (200, 202, 204), answer.text
        assert socket.closed()[0] == 4012
    eventually(lambda: mine["connection_id"] not in server.api("GET", "/admin/connections").text, "it is gone")
    assert_error(server.api("DELETE", path), 404)
    assert_error(server.api("DELETE", f"/admin/connections/{uuid.uuid4()}"), 404)
    assert_error(server.api("DELETE", "/admin/connections/nonsense"), 400, 404)


def test_stats(server):
    stats = server.get("/admin/stats")
    assert isinstance(stats, dict) and stats
    text = json.dumps(stats)
    assert "uptime" in text and "version" in text and "connections" in text


def test_deliveries(server):
    conv = unique("conv")
    server.post_call(transcription(conv))
    server.post_call(transcription(conv))
    listed = server.get("/admin/deliveries", params={"call": conv})["deliveries"]
    assert sorted(d["verdict"] for d in listed) == ["accepted", "duplicate"]
    accepted = server.get("/admin/deliveries", params={"call": conv, "verdict": "accepted"})["deliveries"]
    assert [d["verdict"] for d in accepted] == ["accepted"]
    assert_error(server.api("GET", "/admin/deliveries", params={"verdict": "maybe"}), 400)
    seen, cursor = [], None
    for _ in range(200):
        page = server.get("/admin/deliveries", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += [d["delivery_id"] for d in page["deliveries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) >= 2


# Rights.

ADMINS = [("POST", "/calls"), ("PATCH", "/calls/{sid}"), ("DELETE", "/calls/{sid}"), ("GET", "/admin/connections"),
          ("GET", "/admin/subscriptions"), ("GET", "/admin/stats"), ("GET", "/admin/deliveries")]
VIEWERS = [("GET", "/calls"), ("GET", "/calls/{sid}"), ("GET", "/calls/{sid}/transcript"), ("GET", "/calls/{sid}/events")]


@pytest.mark.parametrize("method,path", ADMINS + VIEWERS)
def test_without_a_token(server, method, path):
    sid = server.register()["call_sid"]
    url = "/api/v1" + path.format(sid=sid)
    for headers in ({}, {"Authorization": "Bearer junk"}, {"Authorization": "Basic eDp5"},
                    {"Authorization": "Bearer " + jwt({"sub": "x", "role": "admin", "exp": int(time.time()) - 1})},
                    {"Authorization": "Bearer " + jwt({"sub": "x", "role": "admin", "exp": int(time.time()) + 60},
                                                      key="a key of another server, long enough")}):
        body = assert_error(server.http.request(method, url, headers=headers, json={} if method != "GET" else None), 401)
        assert body["code"] == "AUTHENTICATION_FAILED"
    assert server.call(sid)


@pytest.mark.parametrize("method,path", ADMINS)
def test_what_viewers_may_not(server, method, path):
    sid = server.register()["call_sid"]
    answer = server.api(method, path.format(sid=sid), token=server.token("viewer"), json={} if method != "GET" else None)
    assert_error(answer, 403)
    assert server.call(sid)


@pytest.mark.parametrize("method,path", VIEWERS)
def test_what_viewers_may(server, method, path):
    sid = server.register()["call_sid"]
    assert server.api(method, path.format(sid=sid), token=server.token("viewer")).status_code == 200


def test_a_token_limited_to_some_calls(server):
    mine, other = server.register()["call_sid"], server.register()["call_sid"]
    token = server.token("viewer", calls=(mine,))
    for path in ("", "/events", "/transcript"):
        assert server.api("GET", f"/calls/{mine}{path}", token=token).status_code == 200
        assert_error(server.api("GET", f"/calls/{other}{path}", token=token), 403)
    assert other not in server.api("GET", "/calls", token=token).text
    limited = server.token("admin", calls=(mine,))
    assert_error(server.api("DELETE", f"/calls/{other}", token=limited), 403)
    assert_error(server.api("PATCH", f"/calls/{other}", token=limited, json={"subject": "x"}), 403)
    assert server.call(other)["subject"] != "x"


def test_a_limited_admin_reaches_no_other_call_by_merging(server):
    mine, other = server.register()["call_sid"], server.register()["call_sid"]
    before = server.call(other)
    limited = server.token("admin", calls=(mine,))
    for fields in ({"conversation_id": other}, {"call_sid": other}, {"identifiers": [other]},
                   {"identifiers": [before["call_id"]]}):
        answer = server.api("PATCH", f"/calls/{mine}", token=limited, json={**fields, "merge": True})
        assert answer.status_code in (400, 403, 409), (fields, answer.text)
    assert server.call(other) == before


def test_an_unknown_role_is_no_admin(server):
    token = jwt({"sub": "x", "role": "Admin ", "exp": int(time.time()) + 60})
    assert server.api("GET", "/admin/stats", token=token).status_code in (401, 403)


# Everything else.

def test_health(server):
    assert server.http.get("/healthz").status_code == 200
    ready = server.http.get("/readyz")
    assert ready.status_code == 200
    assert "database" in ready.text or "store" in ready.text or "storage" in ready.text


@pytest.mark.parametrize("method,path,statuses", [
    ("GET", "/nowhere", (404,)), ("GET", "/api/v1/nowhere", (404,)), ("POST", "/api/v2/calls", (404,)),
    ("DELETE", "/api/v1/calls", (404, 405)), ("GET", "/webhooks/elevenlabs/transcription", (404, 405)),
    ("PUT", "/webhooks/elevenlabs/post-call", (404, 405)), ("POST", "/ws/calls/transcriptions", (404, 405, 426)),
    ("POST", "/webhooks/elevenlabs/other", (404,)), ("GET", "/../etc/passwd", (400, 404)),
    ("GET", "/api/v1/calls/a/b/c/d", (404,)), ("BREW", "/coffee", (400, 404, 405, 501))])
def test_routes_that_are_none(server, method, path, statuses):
    assert_error(server.http.request(method, path, headers={"Authorization": f"Bearer {server.token()}"}), *statuses)


def test_a_body_too_large_for_the_api(server):
    answer = server.api("POST", "/calls", content=b'{"metadata": "' + b"x" * (40 << 20) + b'"}')
    assert_error(answer, 413)


def test_foreign_origins_get_no_cors(server):
    headers = {"Origin": "http://evil.example", "Authorization": f"Bearer {server.token()}"}
    answer = server.http.get("/api/v1/calls", headers=headers)
    assert answer.headers.get("access-control-allow-origin") not in ("*", "http://evil.example")


def test_allowed_origins_get_cors(launch):
    server = launch(CALLSCOPE_ALLOWED_ORIGINS="https://app.example")
    origin = {"Origin": "https://app.example"}
    answer = server.api("GET", "/calls", headers=origin)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://app.example"
    answer = server.http.get("/api/v1/calls", headers=origin)
    assert answer.status_code == 401 and answer.headers["access-control-allow-origin"] == "https://app.example"
    for method in ("GET", "POST", "PATCH", "DELETE"):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
        preflight = server.http.options("/api/v1/calls/x" if method != "POST" else "/api/v1/calls", headers=origin | asked)
        assert preflight.status_code in (200, 204), preflight.text
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert method in preflight.headers["access-control-allow-methods"]
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert "authorization" in allowed and "content-type" in allowed
        foreign = server.http.options("/api/v1/calls/x", headers={"Origin": "https://evil.example"} | asked)
        assert foreign.headers.get("access-control-allow-origin") not in ("*", "https://evil.example")


def test_nothing_secret_is_logged(launch):
    server = launch()
    token = server.token()
    Socket(f"{server.ws_url}?token={token}").ws.close()
    server.turn("x", call_sid="logged")
    with pytest.raises(InvalidStatus):
        Socket(f"{server.ws_url}?token={token}x")
    server.get("/calls")
    server.stop()
    server.reader.join(10)
    log = "\n".join(server.lines)
    for secret in (token, token.split(".")[2], server.env["CALLSCOPE_JWT_SECRET"],
                   *server.env["CALLSCOPE_WEBHOOK_SECRETS"].split(",")):
        assert secret not in log
    assert "token=" not in log


def test_logs_and_events_agree(server):
    """Every reader of the finished call sees what was said."""
    sid, conv = unique("sid"), unique("conv")
    server.register(call_sid=sid, conversation_id=conv)
    for i in range(20):
        server.turn(f"line {i}", ("agent", "user")[i % 2], **({"call_sid": sid} if i % 3 else {"conversation_id": conv}))
    events = server.events(sid)
    assert_log(events)
    assert spoken(events) == [f"line {i}" for i in range(20)]
    call = server.call(conv)
    assert call["status"] == "in_progress"
