"""The documentation's code and claims, against the real thing."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from l402 import settings
from l402.cli import cli
from l402.testing import PayingClient

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.M | re.S)


def run(document: Path) -> dict[str, Any]:
    """Run a document's Python from its top to its end, as one module."""
    names: dict[str, Any] = {"__name__": "shop"}
    for snippet in snippets(document, "python"):
        exec(compile(snippet, document.name, "exec"), names)
    return names


def exports(name: str) -> list[str]:
    """What the README has a shell export under a name, as ``name=value``."""
    words = [shlex.split(block, comments=True) for block in snippets(ROOT / "README.md", "sh")]
    return [word for block in words for word in block if word.startswith(f"{name}=")]


@pytest.fixture
def shop(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the README's code defines, configured as it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASK_L402_NODE", "simulated:")
    monkeypatch.setenv("FLASK_L402_SIMULATED", "true")
    monkeypatch.setenv("FLASK_L402_SECRET_KEY", "0123456789abcdef" * 4)
    monkeypatch.setenv("FLASK_L402_DATABASE_URL", database)
    for line in exports("FLASK_L402_RATES"):
        monkeypatch.setenv(*line.split("=", 1))
    return run(ROOT / "README.md")


def test_the_readmes_shop_sells(shop: dict[str, Any]) -> None:
    """The twenty lines of the README make an endpoint that asks for ten satoshis."""
    app: Flask = shop["app"]
    answer = FlaskClient(app).get("/quote")
    assert (answer.status_code, answer.json["amountSats"]) == (402, 10)
    assert FlaskClient(app).get("/report?rows=3").json["amountSats"] == 3
    assert FlaskClient(app).get("/lookup/ada").json["amountSats"] == 200
    assert FlaskClient(app).get("/ask").json["amountSats"] == 5
    assert FlaskClient(app).post("/render").json["amountSats"] == 50
    assert FlaskClient(app).get("/forecast").json["amountSats"] == 11  # 0.01 USD, rounded up
    close(app)


def test_the_readmes_words_are_sold(shop: dict[str, Any]) -> None:
    """Each word of the README's stream is charged to the credit that was bought."""
    client = PayingClient(shop["app"])
    assert client.get("/story").text == "data: Once\n\ndata: upon\n\ndata: a\n\ndata: time\n\n"
    state = client.get("/l402/credential").json
    (credit,) = state["balances"].values()
    assert (credit["balance_msat"], credit["reserved_msat"]) == (500_000 - 4 * 100, 0)
    close(shop["app"])


def test_the_readmes_price_changes(shop: dict[str, Any]) -> None:
    """Its commands change what a challenge asks, and what was asked before is still paid."""
    app: Flask = shop["app"]
    commands = re.findall(r"^flask l402 (price .*)$", (ROOT / "README.md").read_text(), re.M)
    assert [shlex.split(command)[1] for command in commands] == ["set", "list", "unset"]
    client, asked = PayingClient(app), []
    assert client.get("/quote").status_code == 200
    for command in commands:
        done = app.test_cli_runner().invoke(cli, shlex.split(command))
        assert done.exit_code == 0, done.output
        asked.append(FlaskClient(app).get("/quote").json["amountSats"])
        assert client.get("/quote").status_code == 200
    assert (asked, client.payments) == ([25, 25, 10], 1)
    close(app)


def test_the_readmes_tests_pass(shop: dict[str, Any]) -> None:
    """The tests that the README shows pass on the app that it shows."""
    tests = [value for name, value in shop.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert len(tests) == 2
    close(shop["app"])


def test_the_documents_code_runs() -> None:
    """Python in the other documents runs as it stands."""
    for document in DOCUMENTS[1:]:
        run(document)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document: Path) -> None:
    """Every ``flask l402`` command that a document names exists."""
    named = set(re.findall(r"flask (?:--app \w+ )?l402 ([a-z]+)", document.read_text()))
    assert named <= set(cli.commands)


def test_every_key_is_documented() -> None:
    """The list of configuration keys names all that are read, and no other."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert set(re.findall(r"^\| `L402_(\w+)`", text, re.M)) == settings._KEYS


def test_links_lead_somewhere() -> None:
    """Links between the documents name files and headings that exist."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            if target.startswith("http"):
                continue
            path, _, heading = target.partition("#")
            linked = document.parent / path if path else document
            assert linked.is_file(), target
            assert not heading or heading in anchors(linked), target


def test_make_knows_what_the_readme_names() -> None:
    """Every ``make`` target in the README is in the Makefile."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"`make ([^`]+)`", (ROOT / "README.md").read_text())
    assert {shlex.split(command)[0] for command in named} <= set(targets)


def anchors(document: Path) -> set[str]:
    """The anchors that a document's headings make."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def close(app: Flask) -> None:
    """Let go of an app's thread and connections."""
    app.extensions["l402"].sync.close()
    app.extensions["l402"].store.close()
