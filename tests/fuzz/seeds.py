"""Writes the first inputs of a fuzz target: fixtures, samples and requests. Usage: seeds.py TARGET FOLDER"""

import gzip
import json
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALL_ID = "01a0c4d0-8110-77ce-88ba-553b36cde28d"
REQUESTS = [
    {"subscribe": "EL_dispatch_1790855035"},
    {"subscribe": "conv_1", "after": 7, "call_id": CALL_ID},
    {"subscribe": "conv_1", "history": False, "wait": True},
    {"unsubscribe": "CA0123"},
    {"ping": [None, 1e300, {"a": "\u0000"}]},
]
TURN = {"call_sid": "EL_x_1", "conversation_id": "conv_1", "speaker": "user", "message": "a\ud800b\u0000", "turn_id": "t1",
        "is_final": False, "timestamp": "2026-10-01T14:00:31.25+02:00"}


def frame(opcode, payload, fin=True, mask=b"\1\2\3\4"):
    """Returns a client's frame (RFC 6455 section 5.2)."""
    head = bytes([opcode | (0x80 if fin else 0)])
    size = len(payload)
    head += bytes([0x80 | size]) if size < 126 else bytes([0xfe]) + size.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def client_frames():
    for request in REQUESTS:
        text = json.dumps(request).encode()
        yield b"\x05" + frame(1, text)
        yield b"\x00" + frame(1, text[:9], fin=False) + frame(9, b"p") + frame(0, text[9:], mask=b"\0\0\0\0")
        yield b"\x00" + text
    yield b"\x00" + frame(8, (1000).to_bytes(2, "big") + b"bye")
    yield b"\x01" + frame(2, b"\xff") + frame(10, b"") + frame(1, b"\xc3") + frame(8, b"")
    yield b"\x03" + frame(1, b"x" * 300)


def webhooks():
    for path in sorted((ROOT / "tests/fixtures").rglob("*.json")):
        yield b"\x01" + path.read_bytes()
    for path in sorted((ROOT / "cli/samples").glob("*.json")):
        yield b"\x01" + path.read_bytes()
    yield b"\x00" + json.dumps(TURN).encode()
    yield b"\x00" + b'\xef\xbb\xbf{"call_sid":"a","speaker":"tool","message":"m","timestamp":1790855035.5}'


HEADERS = [b"t=1790855035,v0=%", b" t = 1790855035 , v1=x,v0=" + b"0" * 64 + b",v0=%", b"v0=%,t=1790853235", b"t=,v0=",
           b"t=1790855035|v0=%", b"t=1790855035,v0=" + b"0" * 64 + b"|t=1790855035,v0=%"]
FORGED = b"t=1790855035,v0=" + b"0" * 64
BODIES = [b"{}", json.dumps(TURN).encode(), json.dumps(TURN, indent=2).encode() + b"\r\n", b'{"price":0,"n":[1,2.5,1e5,NaN]}',
          b"[" * 2000 + b"]" * 2000, b'{"a":' * 1500, b"[" * 500 + b"0" + b",0" * 2000 + b"]" * 500, b'"' + b"\\u00e4" * 900 + b'"',
          b"1" * 5000, b"[" + b'"",' * 2000 + b"1]", b"\xff\xfe\x00" * 900, b" \r\n" * 2000, b'"e30="', b"ZXlKMElqb2lleUo5",
          b"payload=%7B%22a%22%3A+1%7D&x=1", gzip.compress(b" " * 60000), zlib.compress(b'{"a": 1}'), b"\xef\xbb\xbf{}", "\xfc".encode()]


def signatures():
    for header in HEADERS:
        yield header + b"\n{}"
    for body in BODIES:
        yield FORGED + b"\n" + body
        yield HEADERS[0] + b"\n" + body


def cursors():
    yield from (CALL_ID.encode(), CALL_ID.replace("-", "").encode(), b"0", b"9223372036854775807", b"-1", b"1790855035",
                b"2026-10-01T14:00:31.25+02:00", b"0000-01-01T00:00:00Z", b"q\0", b"1e3")


if __name__ == "__main__":
    target, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate({"client-frames": client_frames, "webhooks": webhooks, "signatures": signatures,
                               "cursors": cursors}[target]()):
        (folder / f"seed-{number:03}").write_bytes(seed)
