"""A directory as the meeting point: what is there is there whole, and runs do not meet."""

import os

import pytest

from gpudoctor.cluster.board import LIMIT, Unreachable
from gpudoctor.cluster.board.share import Share


@pytest.fixture
def opened(tmp_path):
    board = Share(str(tmp_path), "job", opens=True)
    assert board.find(0)
    return board


@pytest.fixture
def joined(tmp_path, opened):
    board = Share(str(tmp_path), "job", opens=False)
    assert board.find(0)
    return board


def test_what_one_puts_another_gets(opened, joined):
    opened.put("facts/1", b"\x00\xff")

    assert joined.get("facts/1") == b"\x00\xff"
    assert joined.get("facts/2") is None


def test_what_is_put_again_replaces(opened, joined):
    opened.put("beat/1", b"1")
    opened.put("beat/1", b"2")

    assert joined.get("beat/1") == b"2"


def test_numbers_are_given_once(opened, joined):
    given = [board.add("joined") for board in (opened, joined, joined, opened)]

    assert given == [1, 2, 3, 4]
    assert joined.add("joined", 0) == 4
    assert joined.add("fetched", 0) == 0


def test_of_what_is_too_large_only_that_is_seen(opened, joined):
    opened.put("facts/1", b"x" * (LIMIT + 10))

    assert len(joined.get("facts/1")) == LIMIT + 1


def test_a_key_leads_nowhere_else(opened, tmp_path):
    opened.put("../../out", b"")

    assert not (tmp_path.parent / "out").exists()
    assert not (tmp_path / "out").exists()


def test_nothing_is_found_before_it_is_opened(tmp_path):
    assert not Share(str(tmp_path), "job", opens=False).find(0)
    assert list(tmp_path.iterdir()) == []


def test_jobs_do_not_meet(tmp_path, opened):
    assert not Share(str(tmp_path), "other", opens=False).find(0)


def test_another_run_takes_the_place_of_one_that_died(tmp_path, opened, joined):
    opened.put("roll", b"old")
    again = Share(str(tmp_path), "job", opens=True)

    assert joined.renewed()
    assert joined.find(0)
    assert not joined.renewed()
    assert joined.get("roll") is None
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_takes_all_away(tmp_path, opened, joined):
    joined.put("facts/1", b"")
    joined.close()
    opened.close()

    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_the_run_that_came_after(tmp_path, opened):
    again = Share(str(tmp_path), "job", opens=True)
    opened.close()

    assert Share(str(tmp_path), "job", opens=False).find(0)
    again.close()


def test_a_run_that_is_over_is_told_so(tmp_path, opened, joined):
    opened.close()

    with pytest.raises(Unreachable, match="has ended"):
        joined.put("beat/1", b"")


def test_no_directory():
    with pytest.raises(Unreachable, match="no such directory"):
        Share("/nowhere/at/all", "job", opens=True)


def test_where_others_can_write_nobody_meets(tmp_path):
    (tmp_path / "gpudoctor-job").mkdir()
    os.chmod(tmp_path / "gpudoctor-job", 0o777)

    with pytest.raises(Unreachable, match="others could have written"):
        Share(str(tmp_path), "job", opens=True)
