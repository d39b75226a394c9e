"""The page on many ranks holds the tables that its script prints, and the model of the sum is what it says it is."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import scale_ranks  # noqa: E402


def test_the_tables_stand_in_the_page():
    page = (ROOT / "docs" / "distributed-scale.md").read_text()
    for table in scale_ranks.tables().split("\n\n"):
        assert table in page


def test_the_sum_is_as_long_as_measured_where_the_network_counts():
    for P, n, ms in scale_ranks.MEASURED[:3]:
        assert 1000 * scale_ranks.flat(scale_ranks.NETWORKS[0], P, n, 1) == pytest.approx(ms, rel=0.1)


def test_one_host_sends_nothing():
    """A network without bandwidth changes nothing for the ranks of one host, and stops those of two."""
    none = scale_ranks.Network("none", 1e9, 1e-9)
    for way in (scale_ranks.flat, scale_ranks.by_hosts):
        assert way(none, 8, 0.8e6) == way(scale_ranks.NETWORKS[0], 8, 0.8e6)
        assert way(none, 16, 0.8e6) > 1e9
