"""Checks of the record: the database, its tables, its clock and its disk."""

from l402.doctor.patient import Patient
from l402.doctor.verdict import Verdict, error, ok, told, unknown, warning
from l402.errors import StoreError
from l402.store import health, migrate
from l402.store.url import in_memory, shown

#: Seconds by which two clocks may differ: above the first it is told, above the second it harms.
NOTICED, HARMFUL = 10, 60
_START = "start the database, or correct L402_DATABASE_URL"
_OPEN = "let the app's user write to {file} and its folder, or correct L402_DATABASE_URL"
NTP = "have both machines' clocks set by NTP"


def database(patient: Patient) -> Verdict:
    """See that the database answers."""
    db = patient.gate.store.db
    if in_memory(db.url):
        return error(
            "an SQLite database in memory ends with its process, and what was sold with it",
            "set L402_DATABASE_URL, for example sqlite:////srv/api/l402.db",
        )
    file = health.file_of(db.url)
    if file is not None and not file.exists():  # connecting would make it
        return error(f"{file} is not there", "run flask l402 upgrade, which makes it")
    try:
        health.now(db)
    except StoreError as fault:
        return told(fault, _START if file is None else _OPEN.format(file=file))
    return ok(f"{shown(db.url)} answers")


def database_version(patient: Patient) -> Verdict:
    """See that it understands our SQL."""
    version, oldest = health.version(patient.gate.store.db)
    if oldest is not None:
        return error(f"{version} is too old", f"use {oldest} or newer")
    return ok(version)


def schema(patient: Patient) -> Verdict:
    """See that the tables are those of this release.

    :raises SchemaOutdated: they are older, newer, or not there
    """
    patient.gate.store.ping()
    return ok(f"revision {migrate.head()}")


def file_system(patient: Patient) -> Verdict:
    """See that an SQLite file is on a disk of this machine."""
    file = health.file_of(patient.gate.store.db.url)
    if file is None:
        return ok("the database's server keeps its own files")
    try:
        network = health.network_file_system(file)
    except OSError:
        return unknown("this system does not tell what disk a file is on")
    if network is not None:
        return error(
            f"{file} is on a network file system ({network}), which may corrupt it",
            "keep it on a disk of this machine, or use PostgreSQL",
        )
    return ok(f"{file.parent} is on a disk of this machine")


def writable(patient: Patient) -> Verdict:
    """See that a row can be written; it is undone.

    :raises StoreError: it cannot
    """
    health.try_write(patient.gate.store.db)
    return ok("a row was written, and undone")


def database_clock(patient: Patient) -> Verdict:
    """Compare the database's clock with this machine's."""
    clock = patient.gate.clock
    before = clock()
    shown = health.now(patient.gate.store.db).timestamp()
    return difference("the database's clock", shown, before, clock())


def difference(whose: str, moment: float, before: float, after: float) -> Verdict:
    """Judge a moment that another clock showed at some time between two readings of ours."""
    off = max(moment - after, 0) or min(moment - before, 0)
    if abs(off) < NOTICED:
        return ok(f"{whose} agrees with this machine's to {max(1, round(abs(off)))} s")
    words = f"{whose} is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    return error(words, NTP) if abs(off) > HARMFUL else warning(words, NTP)
