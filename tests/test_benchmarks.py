"""The benchmarks' own parts: what is kept, compared and drawn. Nothing is timed here."""

import shutil
from xml.etree import ElementTree

import pytest

from benchmarks import docs, in_process
from benchmarks.backends import Backend
from benchmarks.instant import InstantNode
from benchmarks.plots import bars
from benchmarks.results import Effort, Row, Run, ratio
from l402.nodes.desk import NodeDesk


@pytest.mark.parametrize(
    ("target", "met"), [("", True), ("<= 1.4", True), ("<= 1.3", False), (">= 1.4", True)]
)
def test_a_target_is_a_bound(target, met):
    """A row says whether its value keeps to its target, bounds included."""
    assert Row("here", "pass / bare", 1.4, "", target).met is met


def test_a_run_is_read_as_it_was_written(tmp_path):
    """What was measured comes back from its file."""
    run = Run("a machine", [0.5, 1.0], [Row("here", "bare", 40.0, "µs"), Row("here", "part", 0.9)])
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run


def test_only_ratios_are_compared():
    """Of two runs the ratios that both have are set side by side: times depend on the machine."""
    before = Run("one", [], [Row("here", "bare", 40.0, "µs"), Row("here", "part", 0.8)])
    after = Run("other", [], [*before.rows[:1], Row("here", "part", 0.9), Row("here", "new", 1.0)])
    assert list(after.changes(before)) == [(after.rows[1], 0.8)]


def test_a_ratio_is_the_median_of_the_rounds():
    """One disturbed round does not move a ratio."""
    assert ratio([2.0, 4.0, 900.0], [1.0, 2.0, 3.0]) == 2.0


def test_a_plot_is_well_formed():
    """A plot has a bar for each value, and its texts are escaped."""
    plot = bars("a < b", "/s", {"one": {"bare": (9.0, None), "pass": (8.0, 0.89)}})
    drawn = ElementTree.fromstring(plot)
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a < b", "one", "bare", "9 /s", "pass", "8 /s (0.89)"]


def test_an_instant_invoice_is_a_good_one():
    """What the instant node hands out passes every check of an invoice."""
    desk = NodeDesk(InstantNode(10_000, 600))
    assert desk.create_invoice(10_000, "any", 600).msat == 10_000


def test_every_sale_is_measured_and_shown(database, tmp_path, monkeypatch):
    """The app that is measured answers every sale as expected, and the page shows each."""
    run = Run("a machine", [0.0])
    run.rows = list(in_process.rows(Backend("SQLite", database), Effort(1, 1)))
    run.rows.append(Row("start", "import l402", 50.0, "ms", "<= 60"))
    run.write(tmp_path / "latest.json")
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- measured: begin -->\n<!-- measured: end -->\nafter\n")
    readme = shutil.copy(page, tmp_path / "README.md")
    for name in ("LATEST", "DOCS"):
        monkeypatch.setattr(docs, name, tmp_path)
    monkeypatch.setattr(docs, "README", readme)
    monkeypatch.setattr(docs, "BASELINE", tmp_path / "baseline.json")
    docs.publish()
    before, table, after = page.read_text().partition("| in process, SQLite |")
    assert (before[:6], bool(table), after[-6:]) == ("before", True, "after\n")
    assert (tmp_path / "performance-calls.svg").exists()
    assert "| start: import l402 | 50 ms | ≤ 60 |" in readme.read_text()


def test_growth_is_shown_by_record():
    """Each work has a line: its time in each record, and how many times that of the first."""
    run = Run("a machine")
    run.rows = [
        Row("growth, SQLite", "filling 10 rows", 1.0, "s"),
        Row("growth, SQLite", "credit use, 10 rows", 0.2, "ms"),
        Row("growth, SQLite", "credit use, 1,000 rows", 0.25, "ms"),
        Row("growth, SQLite", "credit use, 1,000 / 10 rows", 1.24, "", "<= 1.3"),
    ]
    table = next(docs._tables(run)).splitlines()
    assert table[0] == "| growth, SQLite, ms, and times that of 10 rows | 10 rows | 1,000 rows |"
    assert table[2] == "| credit use | 0.20 | 0.25 (1.24) |"
