import os
import uuid
from pathlib import Path

import psycopg
import pytest

from client import SECRET, Server

ENGINES = ("sqlite", "postgres")


def database_url(engine, folder):
    """Returns the URL of a new and empty database."""
    if engine == "sqlite":
        return f"sqlite://{folder}/calls.db"
    server = os.environ.get("CALLSCOPE_TEST_POSTGRES")
    assert server, "CALLSCOPE_TEST_POSTGRES is not set; tests/run starts a PostgreSQL and sets it"
    name = f"outside_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    head, _, tail = server.partition("://")
    authority = tail.split("/", 1)[0]
    return f"{head}://{authority}/{name}"


def no_panic(server):
    panics = [line for line in server.lines if "panicked" in line]
    assert not panics, "the server panicked:\n" + "\n".join(panics)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    """The server of a module. Its tests use unique names for their calls."""
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder, database_url(engine, folder)).start()
    yield running
    alive = running.process.poll() is None
    running.stop()
    assert alive, "the server ended on its own:\n" + running.log()
    no_panic(running)


@pytest.fixture
def launch(tmp_path):
    """Starts servers for one test: launch(engine, SETTING=value)."""
    started = []

    def start(engine="sqlite", folder: Path | None = None, url=None, **env):
        folder = folder or tmp_path
        server = Server(folder, url or database_url(engine, folder), **env)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()
    for server in started:
        no_panic(server)


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of the server's log for a failed test."""
    report = (yield).get_result()
    server = item.funcargs.get("server") if hasattr(item, "funcargs") else None
    if report.failed and isinstance(server, Server):
        report.sections.append(("server log", "\n".join(server.lines[-30:])))
