"""A file that only grows: whole lines, whoever else writes, and whatever a kill has left."""

import threading
from pathlib import Path

import pytest

from nqcast.storage.append_only import append_line, append_record, read_records
from nqcast.storage.errors import StorageError
from nqcast.storage.lock import one_writer


def test_an_append_waits_for_the_one_that_another_process_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "uses.jsonl"
    append_record(path, {"use": 1})
    with one_writer(tmp_path), path.open("ab") as other:
        other.write(b'{"use": ')
        other.flush()
        writer = threading.Thread(target=append_record, args=(path, {"use": 3}))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        other.write(b"2}\n")
    writer.join(10)
    assert read_records(path) == [{"use": 1}, {"use": 2}, {"use": 3}]


@pytest.mark.parametrize("durable", [True, False])
def test_threads_that_append_at_once_leave_whole_lines_behind_what_a_kill_cut(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    path.write_bytes(b'{"use": -1}\n{"use": ')
    lines = [b'{"use": %d}\n' % number for number in range(40)]
    threads = [threading.Thread(target=append_line, args=(path, line), kwargs={"durable": durable}) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [record["use"] for record in read_records(path)]
    assert found[0] == -1 and sorted(found) == [-1, *range(40)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "it.jsonl").mkdir()
    with pytest.raises(StorageError, match="a folder stands where a file is needed"):
        append_line(tmp_path / "it.jsonl", b"1\n")
