"""Values, charts and pictures that tests of several modules draw, what is read from a picture, and an opened page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recmia.metrics.roc import Roc
from recmia.metrics.roc import roc as make_roc
from recmia.render import charts, layout, pictures
from recmia.render.charts import Chart
from recmia.render.layout import Static

RULES = ("shared-list", "popular-overlap", "recency")
WORDS = {"popular": "non-members get one popular list", "fold-in": "all served by the same path"}
MANY = [
    "mlp", "list-lr", "rmia", "naive-bayes", "decision-tree", "distance", "k-means", "logistic-regression",
    "random-forest", "gradient-boosting", "k-nn", "someone's <own> \"attack\" [0].x",
]  # fmt: skip
LONG = "A title of very many words " * 12 + "\n/data/" + "x" * 300 + "/ratings.csv; seeds: 5"


def curves(n: int, shift: float, seeds: int) -> list[Roc]:
    member = np.arange(2 * n) < n
    rng = np.random.default_rng(int(100 * shift) + seeds)
    return [make_roc(member, rng.normal(size=2 * n) + shift * member) for _ in range(seeds)]


def roc_picture(
    sections: Sequence[str], attacks: Sequence[str] = ("mlp", "list-lr"), seeds: int = 3, title: str = "A title\nmore"
) -> Static:
    rocs = {
        (section, attack): curves(20, 0.4 * place, seeds)
        for section in sections
        for place, attack in enumerate([*RULES, *attacks])
    }
    aucs = {key: 0.5 + 0.04 * place for place, key in enumerate(rocs)}
    return pictures.roc_picture(rocs, aucs, 20, title, rules=RULES, words=WORDS)


def table(
    axes: Mapping[str, Sequence[Any]],
    regimes: Sequence[str] = ("popular", "fold-in"),
    attacks: Sequence[str] = ("mlp", "list-lr"),
    failed: Sequence[tuple[Any, ...]] = (),
    value: float | None = None,
) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for values in product(*axes.values()):
        if values not in failed:
            for regime, attack in product(regimes, [*attacks, *RULES]):
                auc = float(rng.uniform(0.5, 0.9)) if value is None else value
                row = {"knowledge": "black-box", "regime": regime, "attack": attack, "metric": "auc"}
                rows.append({**row, **dict(zip(axes, values, strict=True)), "value": auc, "low": auc - 0.05,
                             "high": auc + 0.05})  # fmt: skip
    return pl.DataFrame(rows)


def sweep_picture(axes: Mapping[str, Sequence[Any]], title: str = "A title", **settings: Any) -> Static:
    picture = pictures.sweep_picture(table(axes, **settings), axes, title, rules=RULES, words=WORDS)
    assert picture is not None
    return picture


DEFENCES = [
    "none", "popularity-only", "popular-random=0.5", "popular-random=0.1", "shorter-lists=50", "shorter-lists=20",
    "regularisation=0.03", "regularisation=0.1", "early-stopping=10", "early-stopping=5", "fold-in-members",
    "randomised-response=8", "randomised-response=4", "gumbel=10000", "gumbel=3000", "gumbel=1000+shorter-lists=10",
    "gumbel=300+shorter-lists=10", "dp-training=16", "dp-training=4", "dp-training=1",
]  # fmt: skip


def defended(regimes: Sequence[str] = ("popular", "fold-in"), n: int = 20) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for regime, defence in product(regimes, DEFENCES[:n]):
        auc = 1.0 if regime == "popular" else float(rng.uniform(0.5, 1))
        worth = float(rng.uniform(0.05, 0.25))
        row: dict[str, Any] = {"defence": defence, "regime": regime}
        for key, value in (("auc", auc), ("tpr", auc - 0.4), ("ndcg@10", worth)):
            row |= {key: value, f"{key}_low": value - 0.02, f"{key}_high": min(1.0, value + 0.02)}
        rows.append(row)
    return pl.DataFrame(rows)


# A query about a member, and one of which nothing came back, in an answer that is shorter than a line of squares.
QUERIES: list[dict[str, Any]] = [
    {"users": "a member", "asked": 30, "hidden": 28, "k": 100, "hits": [1, 2, 5, 26, 99]},
    {"users": "a non-member", "asked": 1, "hidden": 2, "k": 10, "hits": []},
]


def queries_picture(title: str = "A title") -> Static:
    panels = [(f"Asked about {one['users']}", charts.query_example(one)) for one in QUERIES]
    return layout.picture([panels], title, size=(380, 260))


def one_of_each() -> dict[str, Static]:
    """One of each kind."""
    keys: dict[str, Mapping[str, Sequence[Any]]] = {
        "linear": {"k": [5, 10, 20]}, "log": {"mlp.learning_rate": [0.001, 0.01, 0.1]},
        "even": {"lfm.regularisation": [0.0, 0.003, 0.1]}, "names": {"recommender": ["lfm", "ease"]},
        "map": {"k": [5, 10], "lfm.epochs": [1, 2]},
    }  # fmt: skip
    swept = {name: sweep_picture(axes) for name, axes in keys.items()}
    drawn = {"roc": roc_picture(["popular"]), "frontier": pictures.frontier_picture(defended(), 0.6, "A title")}
    return swept | drawn | {"queries": queries_picture()}


def chart_of_each() -> dict[str, Chart]:
    rng = np.random.default_rng(2)
    users = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(40)],
            "auc": rng.uniform(size=40),
            "low": [0.1] * 40,
            "high": [0.9] * 40,
            "rarity": rng.uniform(size=40),
            "history_length": list(range(1, 41)),
            "identifiable": [number < 4 for number in range(40)],
        }
    )
    rows = table({"k": [5, 10], "lfm.epochs": [1, 2]}, regimes=["fold-in"])
    sections = {"fold-in": {"mlp": curves(20, 1, 3), "recency": curves(20, 0, 3)}}
    roc = charts.rocs(sections, 20, rules=RULES)["fold-in"]
    return {
        "roc": roc["linear"],
        "log": roc["log"],
        "intervals": charts.intervals([{"series": "mlp", "value": 0.7, "low": 0.6, "high": 0.8}]),
        "distribution": charts.distribution(np.arange(60) < 30, rng.normal(size=60)),
        "users": charts.per_user_auc(users, "history_length", "Length of the history", logarithmic=True),
        "lines": charts.sweep_lines(rows.filter(pl.col("lfm.epochs") == 1), "k", [5, 10], rules=RULES),
        "names": charts.sweep_lines(
            rows.filter(pl.col("lfm.epochs") == 1).with_columns(pl.col("k").cast(pl.String)), "k", ["5", "10"]
        ),
        "map": charts.heat_map(rows.filter(attack="mlp"), "k", "lfm.epochs", {"k": [5, 10], "lfm.epochs": [1, 2]}),
        "query": charts.query_example(QUERIES[0]),
        "auc": charts.frontier(defended(["fold-in"]), "auc", 0.6),
        "tpr": charts.frontier(defended(["fold-in"]), "tpr", 0.6),
    }


def cells(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The panels of a picture, legends included."""
    inner = spec.get("concat", spec.get("hconcat"))
    return [spec] if inner is None else [panel for one in inner for panel in cells(one)]


def is_legend(panel: Mapping[str, Any]) -> bool:
    return "data" in panel and panel["data"] == {"values": [{}]}


def panels(picture: Static) -> list[Mapping[str, Any]]:
    return [one for one in cells(picture.spec) if not is_legend(one) and one.get("layer")]


def legends(picture: Static) -> list[list[str]]:
    """The texts of each legend, in order."""
    return [
        [layer["mark"]["text"] for layer in one["layer"] if layer["mark"]["type"] == "text"]
        for one in cells(picture.spec)
        if is_legend(one)
    ]


def headings(picture: Static) -> list[str]:
    return [" ".join(one["title"]["text"]) for one in panels(picture) if "title" in one]


def domains(panel: Mapping[str, Any], channel: str) -> list[Any]:
    found = [layer.get("encoding", {}).get(channel, {}).get("scale", {}).get("domain") for layer in panel["layer"]]
    return [one for one in found if one is not None]


class Opened:
    """A page in a browser that may fetch nothing but the file itself, and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        address = file.as_uri()

        def only_the_file(route: Any) -> None:
            self.asked.append(route.request.url)
            if route.request.url == address:
                route.continue_()
            else:
                route.abort()

        self.page.route("**/*", only_the_file)
        self.page.goto(address)
        self.page.wait_for_function("document.querySelectorAll('.chart:not([data-drawn])').length === 0")

    def colour(self, selector: str, name: str = "color") -> str:
        style = f"getComputedStyle(document.querySelector({selector!r}))"
        return str(self.page.evaluate(f"{style}.getPropertyValue({name!r})"))
