"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recmia.atomic import check_file, check_new, new_folder, replaced, reserved, write_text
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


def test_a_name_is_kept_by_one_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "er" / "run"
    with reserved(run):
        for kind in ("folder", "file"):
            with (
                pytest.raises(ConfigError, match=f"another run is about to write the output {kind} .*run; name a new"),
                reserved(run, kind),
            ):
                pass
        with reserved(run.with_name("other")):
            assert not run.exists()
        run.mkdir()
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    with pytest.raises(ConfigError, match=r"the output folder .*run exists"), reserved(run):
        pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_name_that_came_to_nothing_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), reserved(tmp_path / "deep" / "er" / "run"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_name_whose_owner_was_killed_is_free(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from recmia.atomic import reserved\n"
        "with reserved(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path / "deep" / "run"], check=False, timeout=60)
    assert killed.returncode == -9
    with reserved(tmp_path / "deep" / "run"), new_folder(tmp_path / "deep" / "run"):
        pass
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_a_name_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ConfigError, match=r"cannot make the output folder .*run: "),
        reserved(tmp_path / "file" / "run"),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="cannot make the output file /proc/deep/run: "),
        reserved(Path("/proc/deep/run"), "file"),
    ):
        pass


def test_files_are_looked_at_before_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("whole")
    check_file(tmp_path / "there")
    check_file(tmp_path / "new")
    check_file(Path("/dev/full"))
    for path in (tmp_path, tmp_path / "missing" / "new", Path("/proc/new")):
        with pytest.raises(ConfigError, match=f"cannot write {path}: "):
            check_file(path)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "whole"


def test_what_the_system_refuses_is_told_with_its_place(tmp_path: Path) -> None:
    """A device takes the place of no file, and no file the place of a device."""
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match=r"cannot write .*/full: No space left on device"):
        write_text(tmp_path / "full", "x")
    assert (tmp_path / "full").is_char_device()
    words = r"cannot write the output folder .*/run: No space left on device"
    with pytest.raises(ConfigError, match=words), new_folder(tmp_path / "run") as scratch:  # noqa: PT012
        (scratch / "half").write_text("x")
        Path("/dev/full").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
