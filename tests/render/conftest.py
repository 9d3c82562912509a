"""What is drawn once for all tests of figures, and the browser that opens pages: both take time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from recmia.render.charts import Chart
from recmia.render.layout import Static
from tests.render.helpers import chart_of_each, one_of_each


@pytest.fixture(scope="session")
def drawn() -> dict[str, Static]:
    return one_of_each()


@pytest.fixture(scope="session")
def built() -> dict[str, Chart]:
    return chart_of_each()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on the path: the page is opened by no browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
