"""The programs under test, and an endpoint for their webhooks that uses none of the project's code."""

import atexit
import json
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from elevenlabs.client import ElevenLabs

from client import BIN, SECRET, clean_env

# The client remembers interrupted replays here instead of in the user's home.
STATE = tempfile.mkdtemp(prefix="callscope-state-")
atexit.register(shutil.rmtree, STATE, ignore_errors=True)


def callscope(server=None, *args, **env):
    env.setdefault("XDG_STATE_HOME", STATE)
    if server is not None:
        env |= {"CALLSCOPE_SERVER": server.url, "CALLSCOPE_TOKEN": server.token()}
    return [BIN / "callscope", *map(str, args)], clean_env(NO_COLOR="1", **env)


def run(server, *args, folder=None, timeout=50, **env):
    command, env = callscope(server, *args, **env)
    return subprocess.run(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout)


class Receiver(ThreadingHTTPServer):
    """A webhook endpoint that verifies with the vendor's SDK and records what came."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port=0, answer=None):
        """`answer(self, handler, event)` may answer the request itself, and returns whether it did."""
        super().__init__(("127.0.0.1", port), Receiver.Handler)
        self.events, self.refused, self.count, self.requests = [], [], {}, []
        self.own_answer = answer
        self.gone = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            if self.server.gone:
                # The connection is closed, so the sender gets no answer.
                self.close_connection = True
                return None
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.server.requests.append((time.monotonic(), self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            try:
                event = ElevenLabs(api_key="none").webhooks.construct_event(
                    body.decode(), self.headers.get("ElevenLabs-Signature", ""), SECRET)
                self.server.events.append((self.path, event))
            except Exception as error:
                why = getattr(getattr(error, "body", None), "error", None) or repr(error)
                self.server.refused.append((self.path, why))
                return self.answer(401, {"status": "error", "message": "refused", "details": None})
            if self.server.own_answer and self.server.own_answer(self, event):
                return None
            if "data" not in event:
                name = event.get("call_sid") or event.get("conversation_id")
                number = self.server.count[name] = self.server.count.get(name, 0) + 1
                return self.answer(201, {"status": "success", "message": "ok", "transcription_id": number,
                                         "sequence_number": number, "seq": number, "call_sid": name})
            self.answer(200, {"status": "success", "message": "ok", "call_sid": None, "call_status": None,
                              "conversation_id": event["data"].get("conversation_id")})

        def answer(self, status, body, **headers):
            body = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
