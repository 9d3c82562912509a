"""What is drawn once for all tests of figures: drawing takes time."""

from __future__ import annotations

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
