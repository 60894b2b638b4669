"""New secret keys; needs no app, for an app cannot start without one."""

import os
import secrets
from pathlib import Path

import click

from l402.cli.output import json_option, print_json
from l402.protocol.keys import MIN_SECRET_BYTES


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write it to a new file, mode 0600.")
@json_option
def keygen(out: Path | None, as_json: bool) -> None:
    """Make a secret key for L402_SECRET_KEY.

    Every token is signed with a key derived from it: keep it secret, and keep it. It is 32 random
    bytes, written as 64 hex digits. With --out it goes to a file instead of the screen, never
    over one that exists. Needs no app.

    \b
    Example:
      flask l402 keygen --out /etc/shop/l402-key
      export FLASK_L402_SECRET_KEY_PATH=/etc/shop/l402-key
    """
    secret = secrets.token_hex(MIN_SECRET_BYTES)
    if out is None:
        print_json({"secret_key": secret}) if as_json else click.echo(secret)
        return
    _write(out, secret)
    if as_json:
        print_json({"path": str(out)})
    else:
        click.echo(f"wrote {out}; set L402_SECRET_KEY_PATH={out}")


def _write(path: Path, secret: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
    except FileExistsError:
        raise click.ClickException(f"{path} exists, and a key is never overwritten") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
