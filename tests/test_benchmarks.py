"""The file of results, which every benchmark writes its sections to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_section_takes_the_place_of_its_own_kind_and_with_quick_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("_results", BENCHMARKS / "_results.py")
    assert spec is not None
    assert spec.loader is not None
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--data", "folder"])
    for title, line in (("Speed", "1 s"), ("Memory", "1 MiB"), ("Speed", "2 s")):
        results.write_section(title, "python benchmarks/speed.py", [line])
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Results\n")
    assert [line for line in text.splitlines() if line.endswith((" s", "MiB"))] == ["1 MiB", "2 s"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick"])
    results.write_section("Speed", "python benchmarks/speed.py", ["3 s"])
    assert (tmp_path / "RESULTS.md").read_text() == text
    assert capsys.readouterr().out.splitlines() == [
        "## Speed",
        "",
        "3 s",
        "",
        "RESULTS.md stays as it is: this was --quick.",
    ]


def test_no_benchmark_writes_to_the_file_but_through_the_one_function() -> None:
    """So that none can forget what --quick means."""
    programs = sorted(BENCHMARKS.glob("*.py"))
    assert len(programs) > 10
    for program in programs:
        if program.name != "_results.py":
            assert "RESULTS.write" not in program.read_text(), program.name
