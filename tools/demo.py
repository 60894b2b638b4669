"""Buy from the example API with a real client, step by step, then go on serving it.

``PORT`` is where it listens (5402); with ``ONCE=1`` it ends after the last step, with a code other
than zero if any step went otherwise than it should.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from example import Example
from purchase import Stage, demonstrate
from wallet import Wallet


@contextmanager
def simulated() -> Iterator[Stage]:
    """The example with its simulated node, and the node's stand-in wallet."""
    configured = os.environ.get("APP_CONFIG", "development")
    example = Example(os.environ | {"APP_CONFIG": configured})
    with example.serving() as server:
        wallet = Wallet(**json.loads(example.flask("l402", "wallet", "--json")))
        yield Stage(example, server, wallet)


if __name__ == "__main__":
    sys.exit(demonstrate(simulated()))
