"""Of a log the end is kept, whatever was printed."""

from pathlib import Path

from calibration.supervision.log import END_BYTES, end_of


def test_a_short_log_is_kept_whole_without_blanks_around(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"")
    assert end_of(log) == ""
    log.write_text("loading\nready\n\n")
    assert end_of(log) == "loading\nready"


def test_of_a_long_log_the_last_bytes_are_kept_also_where_they_begin_within_a_character(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("ä" * END_BYTES + "n")
    assert end_of(log) == "\ufffd" + "ä" * (END_BYTES // 2 - 1) + "n"


def test_what_was_in_the_file_before_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("earlier\nmine\n")
    assert end_of(log, began=len("earlier\n")) == "mine"
