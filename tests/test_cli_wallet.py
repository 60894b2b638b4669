"""``flask l402 wallet``."""

import json
from collections.abc import Callable

import pytest
from flask import Flask

from l402.cli import cli


def test_what_it_prints_pays(app: Flask) -> None:
    """With the address and the credential, a client of lnd's REST API pays an invoice."""
    shown = json.loads(app.test_cli_runner().invoke(cli, ["wallet", "--json"]).stdout)
    assert list(shown) == ["rest", "macaroon_hex"]
    invoice = app.extensions["l402"].desk.node.create_invoice(10_000, "quote", 600).bolt11
    path = shown["rest"].removeprefix("http://127.0.0.1:5000") + "/v2/router/send"
    paid = app.test_client().post(
        path,
        json={"payment_request": invoice},
        headers={"Grpc-Metadata-macaroon": shown["macaroon_hex"]},
        environ_base={"REMOTE_ADDR": "127.0.0.1"},
    )
    assert paid.get_json()["result"]["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("options", "rest"),
    [
        ([], "http://127.0.0.1:5402/l402/simulated"),
        (["--port", "8000"], "http://127.0.0.1:8000/l402/simulated"),
        (["--host", "::1"], "http://[::1]:5402/l402/simulated"),
    ],
)
def test_the_address(app: Flask, options: list[str], rest: str) -> None:
    """The port is $PORT unless it is given."""
    done = app.test_cli_runner().invoke(cli, ["wallet", *options], env={"PORT": "5402"})
    assert done.stdout.splitlines()[0] == f"rest          {rest}"


def test_another_prefix(make_app: Callable[..., Flask]) -> None:
    """The address follows L402_URL_PREFIX; without a blueprint there is no wallet."""
    runner = make_app(L402_URL_PREFIX="/pay").test_cli_runner()
    assert "http://127.0.0.1:5000/pay/simulated\n" in runner.invoke(cli, ["wallet"]).stdout
    none = make_app(L402_URL_PREFIX=None).test_cli_runner().invoke(cli, ["wallet"])
    assert none.exit_code == 1
    assert none.stderr == "Error: L402_URL_PREFIX is None: this app serves no wallet\n"


def test_a_real_node_has_none(make_app: Callable[..., Flask]) -> None:
    """Real payments are made with one's own wallet."""
    node = f"lnd+https://127.0.0.1:1?macaroon={'02' * 40}&network=regtest"
    done = make_app(L402_NODE=node).test_cli_runner().invoke(cli, ["wallet"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "simulated node" in done.stderr
