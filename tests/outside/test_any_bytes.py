"""Bytes of any kind cause no 5xx, no panic and no end of the server. A seed makes failures reproducible."""

import copy
import json
import random
import socket as sockets

import pytest
from websockets.exceptions import ConnectionClosed

from client import POST_CALL, ROOT, TURNS, dumps, transcription, unique

ODD = [None, True, 0, -1, 1e308, 10**40, "", "\x00", "\ud800", "🚚", "x" * 200, [], {}, [[]], {"": None}, "NaN", [None] * 3]
PAYLOADS = [p.read_bytes() for p in sorted((ROOT / "cli" / "samples").glob("*.json")) if p.stem != "index"
            and p.stat().st_size < 20_000]


def places(value, path=()):
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))
    if path:
        yield path


def altered(chance, payload):
    """Returns a copy with one to four of its values replaced or removed."""
    payload = copy.deepcopy(payload)
    for _ in range(chance.randint(1, 4)):
        path = chance.choice(list(places(payload)))
        inner = payload
        for key in path[:-1]:
            inner = inner[key]
        if isinstance(inner, dict) and chance.random() < 0.3:
            del inner[path[-1]]
        else:
            inner[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return payload


@pytest.mark.parametrize("seed", range(4))
def test_payloads_with_odd_values(server, seed):
    chance = random.Random(seed)
    whole = [p for p in map(json.loads, PAYLOADS) if isinstance(p, dict)] + [transcription("conv_x")]
    for _ in range(60):
        payload = copy.deepcopy(chance.choice(whole))
        payload["data"]["conversation_id"] = unique("conv")
        payload = altered(chance, payload)
        body = dumps(payload)
        answer = server.post(POST_CALL, body)
        data = payload.get("data")
        known = payload.get("type") in ("post_call_transcription", "call_initiation_failure", "post_call_audio")
        if isinstance(payload.get("type"), str) and (not known or isinstance(data, dict)
                                                     and str(data.get("conversation_id", "")).startswith("conv_")):
            assert answer.status_code == 200, (answer.text, body)
        else:
            assert answer.status_code in (200, 400), (answer.text, body)


@pytest.mark.parametrize("seed", range(4))
def test_bodies_with_odd_bytes(server, seed):
    chance = random.Random(seed)
    for _ in range(60):
        body = bytearray(chance.choice(PAYLOADS))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            body[at:at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        for route in (POST_CALL, TURNS):
            answer = server.post(route, bytes(body))
            assert answer.status_code in (200, 400, 413), (answer.text, bytes(body))


@pytest.mark.parametrize("seed", range(4))
def test_messages_of_any_kind(server, seed):
    chance = random.Random(seed)
    sid = server.register()["call_sid"]
    keys = ["subscribe", "unsubscribe", "ping", "after", "call_id", "history", "wait", "x"]
    with server.socket() as socket:
        for _ in range(180):
            message = {chance.choice(keys): chance.choice([*ODD, sid, 1]) for _ in range(chance.randint(0, 4))}
            text = json.dumps(message)
            if chance.random() < 0.3:
                at = chance.randrange(len(text))
                text = text[:at] + chance.choice(["", "\x00", "}", '"', "é", "[" * 300]) + text[at + 1:]
            socket.send(text.encode() if chance.random() < 0.05 else text)
        assert socket.before_pong() is not None


@pytest.mark.parametrize("seed", range(4))
def test_frames_of_any_kind(server, seed):
    chance = random.Random(seed)
    for _ in range(25):
        socket = server.socket()
        try:
            socket.ws.socket.sendall(chance.randbytes(chance.choice([1, 2, 6, 14, 200, 70_000])))
            socket.ws.socket.shutdown(sockets.SHUT_WR)
            socket.closed()
        except (OSError, AssertionError, ConnectionClosed):
            pass
    with server.socket() as socket:
        assert socket.before_pong() == []


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_any_kind(server, seed):
    """Raw bytes on the port get an answer below 500, or none."""
    chance = random.Random(seed)
    token = server.token()
    base = (f"GET /ws/calls/transcriptions?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://127.0.0.1:{server.port}\r\n"
            "Sec-WebSocket-Protocol: callscope.v1, x\r\n\r\n").encode()
    for _ in range(40):
        raw = bytearray(base)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            raw[at:at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
        with sockets.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(bytes(raw))
            connection.shutdown(sockets.SHUT_WR)
            try:
                answer = connection.recv(4096)
            except OSError:
                continue
            if answer:
                status = int(answer.split(b" ", 2)[1])
                assert status < 500, (bytes(raw), answer)
    assert server.http.get("/healthz").status_code == 200
