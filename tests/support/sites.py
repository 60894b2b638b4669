"""A site: hosts, and what their servers share - Postgres behind pgbouncer, Redis, Redis Cluster."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from l402.store import Store, migrate
from support.fleet_app import FIRST_PAID
from support.fleets import DEADLINE, Fleet
from support.hosts import Host, Network, callers, network
from support.pgbouncer import PgBouncer, bouncing
from support.postgres import PostgresServer
from support.redis_servers import Redis, RedisCluster, running

#: Challenges that one address gets.
CHALLENGES = 20
_ISOLATION = "ALTER DATABASE {} SET default_transaction_isolation = '{}'"
#: Nobody gives the limits up only because this machine is slow.
_PATIENT = '{"socket_timeout": 30, "socket_connect_timeout": 30}'


@dataclass(frozen=True)
class Shop:
    """The same shop on several hosts, with a record of its own."""

    fleet: Fleet
    store: Store
    hosts: list[Host]

    def first_paid(self) -> list[str]:
        """Give the payment hashes that a process signalled as seen first."""
        noted = self.fleet.folder / FIRST_PAID
        return noted.read_text().split() if noted.exists() else []

    def uses(self) -> int:
        """Count the calls that the ledger says were charged."""
        return sum(1 for _ in self.store.ledger.entries(kinds=["use"]))

    def command(self, *words: str) -> str:
        """Run ``flask l402 …`` on the last host, as an operator does; give its output."""
        command = [sys.executable, "-m", "flask", "--app", "support.fleet_app:create_app", "l402"]
        with self.hosts[-1].entered():
            done = subprocess.run(
                [*command, *words], cwd=Path(__file__).parents[1], env=self.fleet.environment,
                capture_output=True, text=True, timeout=DEADLINE,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Site:
    """What stands in the hub, and the hosts around it."""

    folder: Path
    network: Network
    postgres: PostgresServer
    bouncer: PgBouncer
    redis: Redis
    cluster: RedisCluster

    @contextmanager
    def shop(
        self,
        limits: Redis | RedisCluster,
        isolation: str = "read committed",
        hosts: int = 2,
        workers: int = 2,
        **settings: str,
    ) -> Iterator[Shop]:
        """Open a shop on so many of the hosts for the length of a block."""
        direct = self.postgres.fresh()
        name = direct.rpartition("/")[2]
        self.postgres.execute(_ISOLATION.format(name, isolation))
        folder, database = self.folder / name, self.bouncer.url(direct)
        folder.mkdir()
        migrate.upgrade(database)
        given = {
            "L402_RATELIMIT_STORAGE_URI": limits.uri,
            "RATELIMIT_STORAGE_OPTIONS": _PATIENT,
            "L402_CHALLENGE_LIMIT": f"{CHALLENGES}/hour",
            "L402_NODE_CONCURRENCY": "64",  # nobody is turned away for the node's sake
        } | settings
        places = self.network.hosts[:hosts]
        fleet = Fleet(folder, database, places, workers, callers=callers(), **given)
        with closing(Store(database)) as store, closing(fleet):
            yield Shop(fleet, store, places)


@contextmanager
def site(folder: Path, hosts: int) -> Iterator[Site]:
    """Set a site up, and stand in its hub, for the length of a block."""
    with ExitStack() as stack:
        net = stack.enter_context(network(hosts))
        stack.enter_context(net.hub.entered())
        postgres = stack.enter_context(PostgresServer.running())
        here = net.hub.address
        yield Site(
            folder,
            net,
            postgres,
            stack.enter_context(bouncing(postgres, host=here)),
            stack.enter_context(running(Redis(folder / "redis", here))),
            stack.enter_context(running(RedisCluster(folder / "cluster", here))),
        )
