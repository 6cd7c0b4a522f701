"""A simple fan-out as many teams start with: FastAPI and a send_json to each socket. Usage: python fanout.py PORT"""

import sys

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self) -> None:
        self.topics: dict[str, set[WebSocket]] = {}

    async def connect(self, topic: str, socket: WebSocket) -> None:
        await socket.accept()
        self.topics.setdefault(topic, set()).add(socket)

    def disconnect(self, topic: str, socket: WebSocket) -> None:
        self.topics.get(topic, set()).discard(socket)

    async def broadcast(self, topic: str, message: dict) -> None:
        for socket in list(self.topics.get(topic, ())):
            try:
                await socket.send_json(message)
            except (WebSocketDisconnect, RuntimeError):
                self.disconnect(topic, socket)


app = FastAPI()
manager = ConnectionManager()


@app.websocket("/sub/{topic}")
async def subscribe(socket: WebSocket, topic: str) -> None:
    await manager.connect(topic, socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(topic, socket)


@app.post("/pub/{topic}", status_code=202)
async def publish(topic: str, request: Request) -> dict:
    await manager.broadcast(topic, await request.json())
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, backlog=4096,
        ws_per_message_deflate=False, ws_ping_interval=None, timeout_keep_alive=300,
    )
