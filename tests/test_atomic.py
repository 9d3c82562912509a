"""Files and folders that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmia.atomic import check_new, new_folder, replaced, write_text
from recmia.errors import ConfigError


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with new_folder(folder) as scratch:
        (scratch / "half").write_text("x")
        assert not folder.exists()
        assert scratch.parent == folder.parent
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert (folder / "half").read_text() == "x"
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="exists; name a new one or remove it"), new_folder(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "run") as scratch:  # noqa: PT012
        (scratch / "half").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make the output folder"), new_folder(tmp_path / "file" / "run"):
        pass


def test_text_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "page.html"
    write_text(path, "one é")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ConfigError, match=r"the output file .*page\.html exists; name a new one or remove it"):
        write_text(path, "three", new=True)
    assert path.read_text() == "two"
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]
    write_text(path.with_name("new"), "x", new=True)
    with pytest.raises(ConfigError, match=r"cannot write .*page\.html/x: File exists"):
        write_text(path / "x", "y")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_is_half_written_replaces_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "page.html"
    write_text(path, "whole")
    with pytest.raises(error), replaced(path) as file:  # noqa: PT012
        file.write(b"half")
        file.flush()
        assert path.read_text() == "whole"
        raise error
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_new_paths(tmp_path: Path) -> None:
    check_new(tmp_path / "run")
    with pytest.raises(ConfigError, match=f"the output file {tmp_path} exists"):
        check_new(tmp_path, "file")
