"""The notebooks run as they stand; ``python -m tests.test_examples`` stores their output anew."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_docs import assert_same_but_for_rounding

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def executed(path: Path, folder: Path) -> Any:
    """The notebook as it is after a run in a folder, without progress."""
    notebook = read(path)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.output_type != "display_data"]
            cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def shown(cell: Any) -> list[str]:
    """The words of a cell's outputs: no markup, no pictures, no progress."""
    found: list[str] = []
    streamed = False
    for output in cell.outputs:
        assert output.output_type != "error", output.evalue
        if output.output_type == "stream":
            # What is printed may come in one piece or in several.
            told = found.pop() if streamed else ""
            found.append(told + output.text)
        elif output.output_type == "execute_result":
            data = output.data
            found.append(re.sub(r"<style>.*?</style>|<[^>]+>", " ", data.get("text/html", ""), flags=re.DOTALL))
            found.append(data["text/plain"] if "image/svg+xml" not in data else "a picture")
        streamed = output.output_type == "stream"
    return found


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.end_to_end
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    kept, again = read(path), executed(path, tmp_path)
    for old, new in zip(kept.cells, again.cells, strict=True):
        if old.cell_type == "code":
            assert len(shown(old)) == len(shown(new)), old.source
            for before, now in zip(shown(old), shown(new), strict=True):
                assert_same_but_for_rounding(before, now)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"/(?:home|root|work|tmp|Users)/|Warning|Traceback", text)
    assert set(read(path).metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)", cell.source):
                assert (EXAMPLES / target).exists(), target


if __name__ == "__main__":
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)  # type: ignore[no-untyped-call]
