"""Stores webhooks durably, as a good FastAPI and SQLAlchemy service does. Usage: python ingest.py PORT DATABASE-URL

DATABASE-URL is sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER@HOST:PORT/NAME. The environment variable
WEBHOOK_SECRET holds the secret that signs webhooks.
"""

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import sys
import time

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import DateTime, ForeignKey, String, UniqueConstraint, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["WEBHOOK_SECRET"].encode()
TOLERANCE_SECS = 30 * 60
URL = sys.argv[2]
IS_SQLITE = URL.startswith("sqlite")


class Base(DeclarativeBase):
    pass


class Call(Base):
    __tablename__ = "calls"
    id: Mapped[int] = mapped_column(primary_key=True)
    call_sid: Mapped[str] = mapped_column(String(128), unique=True)
    turns: Mapped[int] = mapped_column(default=0)


class Transcription(Base):
    __tablename__ = "transcriptions"
    __table_args__ = (UniqueConstraint("call_id", "sequence_number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    call_id: Mapped[int] = mapped_column(ForeignKey("calls.id"))
    sequence_number: Mapped[int]
    speaker_type: Mapped[str] = mapped_column(String(16))
    message_text: Mapped[str]
    timestamp: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True))


engine = create_async_engine(URL, **({} if IS_SQLITE else {"pool_size": 20, "max_overflow": 0, "pool_timeout": 60}))
sessions = async_sessionmaker(engine, expire_on_commit=False)
# SQLite has one writer at a time, and waiting for this lock is cheaper than polling SQLite's own.
write_lock = asyncio.Lock() if IS_SQLITE else contextlib.nullcontext()

if IS_SQLITE:

    @event.listens_for(engine.sync_engine, "connect")
    def make_durable(connection, _):
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


def verify(header: str | None, body: bytes) -> None:
    parts = dict(part.split("=", 1) for part in (header or "").split(",") if "=" in part)
    signed_at, digest = parts.get("t", ""), parts.get("v0", "")
    if not signed_at.isdigit() or abs(time.time() - int(signed_at)) > TOLERANCE_SECS:
        raise HTTPException(401, "signature too old or malformed")
    expected = hmac.new(SECRET, f"{signed_at}.".encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, digest):
        raise HTTPException(401, "wrong signature")


async def store(turn: dict) -> dict:
    async with sessions() as session:
        query = select(Call).where(Call.call_sid == turn["call_sid"]).with_for_update()
        call = (await session.execute(query)).scalar_one_or_none()
        if call is None:
            call = Call(call_sid=turn["call_sid"], turns=0)
            session.add(call)
            await session.flush()
        call.turns += 1
        row = Transcription(
            call_id=call.id, sequence_number=call.turns, speaker_type=turn["speaker"], message_text=turn["message"],
            timestamp=datetime.datetime.now(datetime.UTC),
        )
        session.add(row)
        await session.commit()
        return {
            "status": "success", "transcription_id": row.id, "sequence_number": row.sequence_number,
            "call_sid": call.call_sid,
        }


@app.post("/webhooks/elevenlabs/transcription", status_code=201)
async def transcription(request: Request) -> dict:
    body = await request.body()
    verify(request.headers.get("ElevenLabs-Signature"), body)
    turn = json.loads(body)
    async with write_lock:
        try:
            return await store(turn)
        except IntegrityError:
            # Another request created the call in the meantime.
            return await store(turn)


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, backlog=4096,
        timeout_keep_alive=300,
    )
