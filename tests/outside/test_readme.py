"""The README's shell blocks, pasted one after the other into one shell in an empty home; the links of every page; what
docs/webhooks.md quotes.

Only what a test cannot have is replaced: cloning and building (the built programs are in PATH), the ports, and the
addresses of PostgreSQL and Redis. A `text` block is the output of the `sh` block before it; `…` stands for anything.
"""

import json
import os
import re
import signal
import socket
import subprocess

import pytest
from markdown_it import MarkdownIt

from client import BIN, JWT_SECRET, ROOT, SECRET, clean_env
from conftest import database_url

README = (ROOT / "README.md").read_text()
PATIENCE = 150


def blocks():
    """Yields each shell block as (heading, commands, expected output or None)."""
    heading, last = "", None
    for match in re.finditer(r"^## ([^\n]+)$|^```(sh|text)\n(.*?)^```$", README, re.M | re.S):
        title, kind, body = match.groups()
        if title:
            heading = title
        elif kind == "text":
            last[2] = body
        else:
            if last:
                yield last
            last = [heading, body, None]
    yield last


BLOCKS = list(blocks())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def adapted(commands, folder, ports):
    """Returns the commands as the test can run them. `ports` maps the README's ports to free ones."""
    replacements = [
        (r"^git clone .*\n|^cargo build .*\n", ""),
        (r"^cargo run --release --bin (\S+) -- demo$", r"\1 demo --speed 20x"),
        (r"\$PWD/target/release", str(BIN)),
        (r"postgres://callscope@\S+", database_url("postgres", folder) if "postgres://" in commands else ""),
        (r"redis://127.0.0.1:6379", os.environ.get("CALLSCOPE_TEST_REDIS", "")),
        (rf"\b({'|'.join(ports)})\b", lambda match: ports[match[0]]),
        # This command follows until it is interrupted.
        (r"^callscope tail --active$", "timeout -s INT 6 callscope tail --active || [ $? -eq 124 ]"),
    ]
    for pattern, instead in replacements:
        commands = re.sub(pattern, instead, commands, flags=re.M)
    return commands


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Returns the output of each block, or None if it failed or was not reached."""
    home = tmp_path_factory.mktemp("home")
    ports = {port: free_port() for port in ("8000", "8001", "8002", "8080")}
    script = ["set -e -o pipefail"]
    for number, (_, commands, _) in enumerate(BLOCKS):
        script += [f"echo '@@ block {number}'", adapted(commands, home, ports), f"printf '\\n@@ end {number}\\n'"]
    file, output = home / "readme.sh", home / "printed"
    file.write_text("\n".join(script))
    env = clean_env(HOME=str(home), PATH=f"{BIN}:{os.environ['PATH']}", CALLSCOPE_PORT=ports["8000"],
                    CALLSCOPE_SERVER=f"http://127.0.0.1:{ports['8000']}")
    with output.open("wb") as out:
        shell = subprocess.Popen(["bash", str(file)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            shell.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            shell.wait()
    text = output.read_text(errors="replace")
    found = {int(n): body for n, body in re.findall(r"^@@ block (\d+)\n(.*?)\n@@ end \1$", text, re.M | re.S)}
    return [found.get(number) for number in range(len(BLOCKS))], text[-3000:]


def as_pattern(text):
    """Returns the regular expression of a `text` block: a line of `…` matches any lines, `…` within a line any text."""
    lines = []
    for line in text.splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(r".*".join(re.escape(part) for part in line.split("…")) + r"\n")
    return "".join(lines)


@pytest.mark.timeout(PATIENCE + 30)
@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[f"{n}: {block[0]}" for n, block in enumerate(BLOCKS)])
def test_a_block_of_the_readme_works_as_pasted(printed, number):
    outputs, end = printed
    _, commands, shown = BLOCKS[number]
    assert outputs[number] is not None, f"failed, or was not reached:\n{commands}\nthe end of all output:\n{end}"
    if shown:
        assert re.search("^" + as_pattern(shown), outputs[number] + "\n", re.M), \
            f"the README shows\n{shown}\nand the programs print\n{outputs[number]}"


PAGES = sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "migrations/README.md"])


def links_and_anchors(page):
    """The targets of a page's links, and the fragments that lead to its headings."""
    links, anchors, heading = [], set(), False
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        if token.type == "inline":
            targets = (child.attrs.get("href") or child.attrs.get("src") for child in token.children)
            links += [target for target in targets if target]
            if heading:
                text = "".join(child.content for child in token.children).lower()
                anchors.add("".join(c for c in text if c.isalnum() or c in " -_").replace(" ", "-"))
        heading = token.type == "heading_open"
    return links, anchors


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_somewhere(page):
    for link in links_and_anchors(page)[0]:
        if link.startswith("http"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads to no file"
        if fragment:
            assert fragment in links_and_anchors(target)[1], f"{link} leads to no heading"


def test_the_workbench_page_quotes_what_the_program_says(tmp_path):
    page = (ROOT / "docs/webhooks.md").read_text()
    for name, text in (("callscope.secrets.toml", f'webhook_secrets = ["{SECRET}"]\njwt_secret = "{JWT_SECRET}"\n'),
                       ("secret.txt", "another secret")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    body = {"call_sid": "EL_desk_1", "speaker": "user", "message": "My engine died."}
    (tmp_path / "body.json").write_text(json.dumps(body))
    (tmp_path / "parsed.json").write_text(json.dumps(body, separators=(",", ":")))

    def said(*arguments):
        ran = subprocess.run([BIN / "callscope", *arguments], cwd=tmp_path, env=clean_env(HOME=str(tmp_path)),
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return [*ran.stdout.splitlines(), *ran.stderr.splitlines()]

    value = said("webhook", "sign", "body.json")[0]
    other_header = ["--header", f"X-Webhook-Signature: {value}", "--secret-file", "secret.txt"]
    quoted = [
        *said("webhook", "verify", "parsed.json", "--header", value),
        *said("webhook", "verify", "parsed.json", "--header", value, "--explain"),
        *said("webhook", "verify", "body.json", *other_header, "--explain"),
        *said("webhook", "verify", "body.json", "--header", f"t=1790855035,v0={'ab' * 32}", "--explain"),
        *said("samples", "new", "tow-truck", "mine.json"),
    ]
    mine = json.loads((tmp_path / "mine.json").read_text())
    mine["data"]["transcript"][1].update(time_in_call_secs="3", mood="calm")
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    quoted += said("samples", "validate", "mine.json")
    assert len(quoted) > 15
    for line in quoted:
        assert line in page, f"docs/webhooks.md does not show: {line}"
