"""The configuration, read strictly: a wrong value names its key and an example, never a secret."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from l402.errors import ConfigurationError
from l402.settings import Settings, check_service, whole_seconds

SECRET = "a canary's secret of 32 bytes or more"
OLDER = "an older canary's secret, also that long"
NEEDED = {"L402_NODE": "simulated:", "L402_SECRET_KEY": SECRET}


def read(**changes):
    """Settings from the least configuration with some keys changed; None takes a key away."""
    given = NEEDED | {f"L402_{key}": value for key, value in changes.items()}
    return Settings.from_config({key: value for key, value in given.items() if value is not ...})


def amounts(rates):
    return [(rate.amount, rate.get_expiry()) for rate in rates]


def test_defaults():
    """A node and a secret are enough; the rest has the documented defaults."""
    settings = read()
    assert settings.node == "simulated:"
    assert settings.database_url is None
    assert settings.secrets == (SECRET.encode(),)
    assert settings.service is None
    assert settings.valid_for == 3600
    assert settings.invoice_expiry == 600
    assert settings.max_price == 100_000
    assert amounts(settings.rate_limit) == [(600, 60)]
    assert amounts(settings.challenge_limit) == [(120, 60)]
    assert amounts(settings.challenge_limit_total) == [(6000, 60)]
    assert settings.ratelimit_storage_uri is None
    assert settings.strict is None
    assert settings.store_grace == 60
    assert settings.node_concurrency == 2
    assert settings.simulated is False
    assert settings.url_prefix == "/l402"
    assert settings.sqlite_synchronous == "NORMAL"
    assert settings.prices == {}
    assert settings.rates is None
    assert settings.rate_max_age == 600
    assert settings.rate_spread == Decimal("0.02")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("VALID_FOR", "60", 60),
        ("VALID_FOR", 60, 60),
        ("VALID_FOR", timedelta(days=1), 86400),
        ("VALID_FOR", timedelta(seconds=1.9), 1),
        ("INVOICE_EXPIRY", timedelta(minutes=5), 300),
        ("MAX_PRICE", "1000", 1000),
        ("RATE_MAX_AGE", timedelta(minutes=5), 300),
        ("RATE_SPREAD", "0.05", Decimal("0.05")),
        ("RATE_SPREAD", 0.05, Decimal("0.05")),
        ("RATE_SPREAD", Decimal("0.5"), Decimal("0.5")),
        ("PRICES", {"quote": "12"}, {("quote", ""): 12_000}),
        ("STORE_GRACE", 0, 0),
        ("STORE_GRACE", "0", 0),
        ("NODE_CONCURRENCY", "8", 8),
        ("STRICT", True, True),
        ("STRICT", "False", False),
        ("STRICT", "false", False),
        ("STRICT", "TRUE", True),
        ("STRICT", "0", False),
        ("STRICT", 0, False),
        ("STRICT", 1, True),
        ("STRICT", None, None),
        ("SIMULATED", "true", True),
        ("SIMULATED", "False", False),
        ("SIMULATED", 0, False),
        ("SERVICE", "a.B-9", "a.B-9"),
        ("SERVICE", "s" * 32, "s" * 32),
        ("URL_PREFIX", "/pay", "/pay"),
        ("URL_PREFIX", None, None),
        ("DATABASE_URL", "sqlite://", "sqlite://"),
        ("SQLITE_SYNCHRONOUS", "full", "FULL"),
        ("SQLITE_SYNCHRONOUS", "EXTRA", "EXTRA"),
        ("RATELIMIT_STORAGE_URI", "redis://host", "redis://host"),
    ],
)
def test_reads(key, value, expected):
    """Values of the right kind are taken, and text where it can mean only one."""
    found = getattr(read(**{key: value}), key.lower())
    assert found == expected
    assert type(found) is type(expected)


WRONG = [
    ("NODE", ..., "lnd+https://"),
    ("NODE", None, "lnd+https://"),
    ("NODE", "", "lnd+https://"),
    ("NODE", 7, "lnd+https://"),
    ("DATABASE_URL", "", "postgresql://"),
    ("DATABASE_URL", " ", "postgresql://"),
    ("DATABASE_URL", 5432, "postgresql://"),
    ("DATABASE_URL", True, "postgresql://"),
    ("SECRET_KEY", ..., "flask l402 keygen"),
    ("SECRET_KEY", None, "flask l402 keygen"),
    ("SECRET_KEY", "", "flask l402 keygen"),
    ("SECRET_KEY", "canary, 31 bytes, one too few..", "flask l402 keygen"),
    ("SECRET_KEY", b"canary, too short", "flask l402 keygen"),
    ("SECRET_KEY", "a" * 64, "flask l402 keygen"),
    ("SECRET_KEY", "changeme" * 1 + "c" * 24, "flask l402 keygen"),
    ("SECRET_KEY", 1234567, "flask l402 keygen"),
    ("SECRET_KEY", True, "flask l402 keygen"),
    ("SECRET_KEY", [SECRET], "flask l402 keygen"),
    ("SECRET_KEY", 1.5, "flask l402 keygen"),
    ("SECRET_KEY_FALLBACKS", 7.5, "the key before"),
    ("SECRET_KEY_FALLBACKS", {"canary": 1}, "the key before"),
    ("SECRET_KEY_FALLBACKS", True, "the key before"),
    ("SECRET_KEY_FALLBACKS", ["canary, too short"], "flask l402 keygen"),
    ("SECRET_KEY_FALLBACKS", [None], "flask l402 keygen"),
    ("SECRET_KEY_FALLBACKS", "canary, too, short", "flask l402 keygen"),
    ("SERVICE", "", "weather"),
    ("SERVICE", "a b", "weather"),
    ("SERVICE", "a:0", "weather"),
    ("SERVICE", "a=b", "weather"),
    ("SERVICE", "a,b", "weather"),
    ("SERVICE", "a_b", "weather"),
    ("SERVICE", "é", "weather"),
    ("SERVICE", "weather\n", "weather"),
    ("SERVICE", "s" * 33, "weather"),
    ("SERVICE", 5, "weather"),
    ("VALID_FOR", 0, "3600"),
    ("VALID_FOR", -1, "3600"),
    ("VALID_FOR", "", "3600"),
    ("VALID_FOR", "1h", "3600"),
    ("VALID_FOR", "-60", "3600"),
    ("VALID_FOR", "60.0", "3600"),
    ("VALID_FOR", "\u0661\u0662", "3600"),
    ("VALID_FOR", "9" * 5000, "3600"),
    ("VALID_FOR", 60.0, "3600"),
    ("VALID_FOR", True, "3600"),
    ("VALID_FOR", None, "3600"),
    ("VALID_FOR", timedelta(0), "3600"),
    ("VALID_FOR", timedelta(seconds=0.5), "3600"),
    ("VALID_FOR", timedelta(days=-1), "3600"),
    ("INVOICE_EXPIRY", 0, "600"),
    ("INVOICE_EXPIRY", "ten", "600"),
    ("MAX_PRICE", 0, "100000"),
    ("MAX_PRICE", timedelta(1), "100000"),
    ("RATE_MAX_AGE", 0, "600"),
    ("RATE_SPREAD", 0, "0.02"),
    ("RATE_SPREAD", 0.0, "0.02"),
    ("RATE_SPREAD", 1, "0.02"),
    ("RATE_SPREAD", "2%", "0.02"),
    ("RATE_SPREAD", "-0.02", "0.02"),
    ("PRICES", [], "quote"),
    ("STORE_GRACE", -1, "60"),
    ("STORE_GRACE", False, "60"),
    ("NODE_CONCURRENCY", 0, "2"),
    ("RATE_LIMIT", "sometimes", "60/minute"),
    ("RATE_LIMIT", None, "60/minute"),
    ("RATE_LIMIT", 60, "60/minute"),
    ("RATE_LIMIT", "0/minute", "least is 1"),
    ("CHALLENGE_LIMIT", "", "60/minute"),
    ("CHALLENGE_LIMIT_TOTAL", "60/minute;nonsense", "60/minute"),
    ("RATELIMIT_STORAGE_URI", "", "redis://"),
    ("RATELIMIT_STORAGE_URI", 1, "redis://"),
    ("STRICT", "", "True"),
    ("STRICT", "yes", "True"),
    ("STRICT", 2, "True"),
    ("STRICT", 1.0, "True"),
    ("STRICT", [], "True"),
    ("SIMULATED", "off", "True"),
    ("URL_PREFIX", "", "/l402"),
    ("URL_PREFIX", "l402", "/l402"),
    ("URL_PREFIX", True, "/l402"),
    ("SQLITE_SYNCHRONOUS", "OFF", "NORMAL"),
    ("SQLITE_SYNCHRONOUS", None, "NORMAL"),
    ("SQLITE_SYNCHRONOUS", 1, "NORMAL"),
]


@pytest.mark.parametrize(
    ("key", "value", "example"),
    WRONG,
    ids=[f"{key}={str(value)[:30]!a}" for key, value, _ in WRONG],
)
def test_refuses(key, value, example):
    """A wrong value's error names the key and what to write, and quotes no secret."""
    with pytest.raises(ConfigurationError) as caught:
        read(**{key: value})
    assert f"L402_{key}" in str(caught.value)
    assert example in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("L402_SECRET", "L402_SECRET_KEY"),
        ("L402_VALIDFOR", "L402_VALID_FOR"),
        ("L402_RATELIMIT", "L402_RATE_LIMIT"),
        ("L402_SERVICES", "L402_SERVICE"),
        ("L402_node", None),
        ("L402_QQQQQQ", None),
        ("L402_", None),
    ],
)
def test_unknown_key(key, meant):
    """A key that is none is refused, with the one that was meant if there is any."""
    with pytest.raises(ConfigurationError, match=f"{key} is no setting") as caught:
        Settings.from_config(NEEDED | {key: "a canary"})
    assert "canary" not in str(caught.value)
    if meant:
        assert str(caught.value).endswith(f"did you mean {meant}?")
    elif key != "L402_node":
        assert "did you mean" not in str(caught.value)


def test_leaves_other_keys_alone():
    """Keys of Flask and of others are none of ours."""
    settings = Settings.from_config(
        NEEDED
        | {"SECRET_KEY": "flask's own key, quite another one", "XL402_NODE": 1, "DEBUG": True}
    )
    assert settings == read()


def test_changes_nothing():
    """Reading leaves the app's configuration as it was."""
    config = NEEDED | {"L402_VALID_FOR": timedelta(hours=1)}
    before = dict(config)
    Settings.from_config(config)
    assert config == before


@pytest.mark.parametrize("flask_key", [SECRET, SECRET.encode()])
@pytest.mark.parametrize("place", ["SECRET_KEY", "SECRET_KEY_FALLBACKS"])
def test_never_flasks_own_key(flask_key, place):
    """Flask's key signs sessions; it is refused as ours, as an older one too."""
    ours = {"L402_SECRET_KEY": OLDER, "L402_SECRET_KEY_FALLBACKS": [SECRET]}
    if place == "SECRET_KEY":
        ours = {"L402_SECRET_KEY": SECRET}
    with pytest.raises(ConfigurationError, match="Flask's own SECRET_KEY") as caught:
        Settings.from_config({"L402_NODE": "simulated:", "SECRET_KEY": flask_key} | ours)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "older",
    [[OLDER], (OLDER,), [OLDER.encode()], OLDER.replace(",", ";")],
    ids=["list", "tuple", "bytes", "text"],
)
def test_older_keys(older):
    """Older secrets stand behind the newest, in their order."""
    expected = older if isinstance(older, str) else OLDER
    assert read(SECRET_KEY_FALLBACKS=older).secrets == (SECRET.encode(), expected.encode())


def test_older_keys_as_text():
    """In an environment variable older secrets are parted by commas."""
    text = f"{'0123456789abcdef' * 2} , {'fedcba9876543210' * 2},"
    assert read(SECRET_KEY_FALLBACKS=text).secrets[1:] == (
        b"0123456789abcdef" * 2,
        b"fedcba9876543210" * 2,
    )


def test_secret_of_digits():
    """A secret that is all digits arrives as a number from the environment, and is text again."""
    digits = "1234567890" * 4
    assert read(SECRET_KEY=int(digits)).secrets == (digits.encode(),)
    assert read(SECRET_KEY_FALLBACKS=int(digits)).secrets[1:] == (digits.encode(),)
    assert read(SECRET_KEY_FALLBACKS=[int(digits)]).secrets[1:] == (digits.encode(),)


def test_secret_from_a_file(tmp_path):
    """A file's content is the secret, without the line end that an editor leaves."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    assert read(SECRET_KEY=..., SECRET_KEY_PATH=str(path)).secrets == (SECRET.encode(),)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"canary"])
def test_secret_file_too_short(tmp_path, content):
    """A file with too short a secret is refused, and not shown."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="flask l402 keygen") as caught:
        read(SECRET_KEY=..., SECRET_KEY_PATH=str(path))
    assert "canary" not in str(caught.value)


def test_secret_file_missing(tmp_path):
    """A file that cannot be read is named, with the reason."""
    with pytest.raises(ConfigurationError, match=r"L402_SECRET_KEY_PATH: cannot read .*missing"):
        read(SECRET_KEY=..., SECRET_KEY_PATH=str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=r"L402_SECRET_KEY_PATH: cannot read .*directory"):
        read(SECRET_KEY=..., SECRET_KEY_PATH=str(tmp_path))


def test_secret_where_its_path_belongs():
    """A secret that was put where its path belongs is not repeated, whatever signs are in it."""
    with pytest.raises(ConfigurationError, match="cannot read the file: No such") as caught:
        read(SECRET_KEY=..., SECRET_KEY_PATH="canary/" * 6)
    assert "canary" not in str(caught.value)


def test_secret_path_is_text():
    """A path that is no text is refused with an example."""
    with pytest.raises(
        ConfigurationError, match=r"L402_SECRET_KEY_PATH is not text.*/run/secrets/"
    ):
        read(SECRET_KEY=..., SECRET_KEY_PATH=5)


def test_two_secrets(tmp_path):
    """A secret and a path to one are a contradiction."""
    with pytest.raises(ConfigurationError, match="not both"):
        read(SECRET_KEY_PATH=str(tmp_path))


def test_from_the_environment(monkeypatch):
    """Everything can be set by FLASK_… variables."""
    for key, value in {
        "NODE": "simulated:",
        "SECRET_KEY": "1234567890" * 4,
        "VALID_FOR": "120",
        "STRICT": "False",
        "SIMULATED": "true",
        "URL_PREFIX": "null",
        "RATE_LIMIT": "5/second",
        "SECRET_KEY_FALLBACKS": json.dumps([OLDER]),
    }.items():
        monkeypatch.setenv(f"FLASK_L402_{key}", value)
    app = Flask("environment")
    app.config.from_prefixed_env()
    settings = Settings.from_config(app.config)
    assert settings.secrets == (b"1234567890" * 4, OLDER.encode())
    assert (settings.valid_for, settings.strict, settings.simulated) == (120, False, True)
    assert settings.url_prefix is None
    assert amounts(settings.rate_limit) == [(5, 1)]


def test_shows_no_secret():
    """Settings do not print what they hold."""
    assert "canary" not in repr(read(NODE="phoenixd+http://:canary@host:9740"))


KEYS = [key for key, _, _ in WRONG]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(KEYS), ANYTHING)
def test_is_total(key, value):
    """Any value of any key is taken, or refused by the key's name."""
    if key == "SECRET_KEY_PATH" and isinstance(value, str):
        return
    fault = None
    try:
        read(**{key: value})
    except ConfigurationError as error:
        fault = str(error)
    assert fault is None or "L402_SECRET_KEY" in fault or f"L402_{key}" in fault


@pytest.mark.parametrize("service", ["", None, 5, "a b", "a:b", "\u017f", "s" * 33])
def test_check_service(service):
    """A name that could not stand in a caveat is refused by its argument's name."""
    with pytest.raises(ConfigurationError, match=r"^paywall: .*weather"):
        check_service(service, "paywall")


def test_whole_seconds():
    """A length of time is whole seconds, a fraction dropped."""
    assert whole_seconds(timedelta(minutes=1, milliseconds=999)) == 60
