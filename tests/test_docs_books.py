"""What docs/books.md says of the tables, the ledger and the exports."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text
from support.books import fill

from l402.store import Store
from l402.store.export import Book, columns
from l402.store.ledger import EFFECTS
from l402.store.tables import metadata

pytest_plugins = ["support.databases"]

BOOKS = (Path(__file__).resolve().parents[1] / "docs" / "books.md").read_text()
QUERIES = re.findall(r"^```sql\n(.*?)^```$", BOOKS, re.M | re.S)


@pytest.mark.parametrize("query", QUERIES)
def test_queries(store: Store, query: str) -> None:
    """The SQL runs on both databases, and finds what is there."""
    fill(store)
    with store.db.read() as connection:
        assert len(connection.execute(text(query)).all()) == 1


def test_every_kind_of_entry() -> None:
    """Each kind of entry is explained, with what it does to what is owned."""
    signs = {"+": 1, "-": -1, "": 0}
    told = {}
    table = BOOKS.split("| `kind` |")[1].split("\n\n")[0]
    for kinds, effects in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([-+, ]*) ?\|", table, re.M):
        found = (signs[effect.strip()] for effect in effects.split(","))
        told |= dict(zip(re.findall(r"`(\w+)`", kinds), found, strict=True))
    assert told == EFFECTS


def test_every_table() -> None:
    """Each table that people may want to read is named, and none that is not there."""
    named = set(re.findall(r"^\| `(l402_\w+)`", BOOKS, re.M))
    assert named == set(metadata.tables) - {"l402_lease", "l402_ledger", "l402_purge"}


@pytest.mark.parametrize("book", ["payments", "usage", "closings"])
def test_every_column(book: Book) -> None:
    """Each column of an export is explained, in its order."""
    table = BOOKS.split(f"| `{book}` | |\n")[1].split("\n\n")[0]
    names = re.findall(r"^\| (`.*?`) \|", table, re.M)
    assert [name for each in names for name in re.findall(r"`(\w+)`", each)] == columns(book)
