"""The WebSocket framing against the Autobahn test suite's own cases, as kosoku runs them.

The suite needs an echo server: `callscope-echo` is one with the framing of the server's sessions.
"""

import asyncio
import subprocess

import kosoku
import pytest
from client import BIN, clean_env

# These need permessage-deflate, which the server does not offer, and would all say UNIMPLEMENTED.
NOT_OFFERED = ["12.*", "13.*"]
CASES = 301


@pytest.fixture
def echo():
    process = subprocess.Popen([BIN / "callscope-echo"], env=clean_env(), stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().removeprefix("listening on ").strip()
        assert process.poll() is None, "the echo server ended on its own"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(address):
    """Returns the suite's verdicts, which its failure carries too."""
    async def client():
        return await kosoku.run_fuzzingclient(f"ws://{address}", exclude_cases=NOT_OFFERED, concurrency=4)

    try:
        return asyncio.run(client())
    except kosoku.FailureError as failure:
        return failure.results


# Five verdicts are not a plain OK: text that is not UTF-8 is refused at the end of its frame and not at the byte
# (6.4.3 and 6.4.4, NON-STRICT), and what the standard leaves open is INFORMATIONAL (7.1.6, 7.13.1 and 7.13.2).
def test_every_case_of_the_suite_passes_and_closes_cleanly(echo):
    results = run(echo)
    odd = [f"{r.case_id}: {r.behavior.value}, close {r.behavior_close.value}: {r.result} {r.result_close}"
           for r in results if not r.passed]
    assert not odd, "\n".join(odd)
    assert len(results) == CASES
    unclean = [r.case_id for r in results if r.behavior_close.value not in ("OK", "INFORMATIONAL")]
    assert not unclean, unclean
