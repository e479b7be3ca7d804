"""Shares of a long command's work: together they are all of it, and a merge takes nothing that does not fit."""

import argparse
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.cli.main import main
from ccc_w2v.cli.shares import words_without_shard
from ccc_w2v.errors import InputError
from ccc_w2v.sharding import Shard, ShardRecord, keep_shard, parse_shard, read_shards, shard_folder


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60), st.data())
def test_shards_are_neighbours_without_gap_or_overlap_and_none_is_empty(sizes, data):
    count = data.draw(st.integers(1, len(sizes)))
    items = list(range(len(sizes)))
    shares = [Shard(number, count).take(items, sizes) for number in range(1, count + 1)]
    assert [item for share in shares for item in share] == items
    assert all(shares)


@given(st.lists(st.integers(1, 100), min_size=200, max_size=400), st.integers(1, 20))
def test_shards_are_of_about_the_same_size(sizes, count):
    sums = [sum(Shard(number, count).take(sizes, sizes)) for number in range(1, count + 1)]
    assert max(sums) - min(sums) <= 2 * max(sizes)


def test_more_shards_than_items_are_refused():
    with pytest.raises(InputError, match="--shard 1/3: there are 2 items"):
        Shard(1, 3).take([1, 2], [1, 1])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected i/n"):
        parse_shard(text)
    assert parse_shard("2/8") == Shard(2, 8)


def test_a_command_line_without_its_shard():
    assert words_without_shard(["a", "--shard", "1/2", "b"]) == ["a", "b"]
    assert words_without_shard(["a", "--shard=1/2", "b"]) == ["a", "b"]


def write(out, number, count=2, **changed):
    values = {"command": "x", "items": 3, "all_items": 6, "of": {"manifest": "a"}, "options": {}, **changed}
    record = ShardRecord(number=number, count=count, **values)
    keep_shard_in(shard_folder(out, Shard(number, count)), record)


def keep_shard_in(folder, record):
    folder.mkdir(parents=True, exist_ok=True)
    keep_shard(folder, record)


def test_whole_shards_are_read_in_order(tmp_path):
    for number in (10, *range(1, 10)):
        write(tmp_path / "out", number, 10, items=1, all_items=10)
    assert [record.number for _, record in read_shards(tmp_path / "out")] == list(range(1, 11))


def other_count(out):
    write(out, 1, 3)


def missing(out):
    shutil.rmtree(shard_folder(out, Shard(2, 2)))


def unfinished(out):
    (shard_folder(out, Shard(1, 2)) / "shard.json").unlink()


def none(out):
    shutil.rmtree(shard_folder(out, Shard(2, 2)).parent)


def damaged(out):
    (shard_folder(out, Shard(1, 2)) / "shard.json").write_text("{")


def renamed(out):
    shutil.copy(shard_folder(out, Shard(1, 2)) / "shard.json", shard_folder(out, Shard(2, 2)) / "shard.json")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (none, "holds no shards; run the command with --shard 1/N"),
        (missing, "1 of 2 shards are not finished: 2"),
        (unfinished, "1 of 2 shards are not finished: 1"),
        (other_count, "holds shards of 2 and 3"),
        (damaged, "not what --shard writes"),
        (renamed, "says that it is shard 1/2; its folder was renamed"),
        (lambda out: write(out, 2, of={"manifest": "b"}), "2-of-2: does not belong to 1-of-2: it differs in manifest"),
        (lambda out: write(out, 2, command="y"), "differs in command"),
        (lambda out: write(out, 2, version="0"), "differs in version"),
        (lambda out: write(out, 2, items=2), "hold 5 items together, expected 6"),
        (lambda out: None, "its shards are of 'x', which this version does not merge"),
    ],
)
def test_what_does_not_fit_together_is_one_line_and_nothing_is_written(tmp_path, harm, message, capsys):
    out = tmp_path / "out"
    for number in (1, 2):
        write(out, number)
    harm(out)
    assert main(["merge", str(out)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()


def test_a_record_is_readable_json(tmp_path):
    write(tmp_path / "out", 1, 1, items=6)
    content = json.loads((shard_folder(tmp_path / "out", Shard(1, 1)) / "shard.json").read_text())
    assert (content["number"], content["count"], content["items"]) == (1, 1, 6)
