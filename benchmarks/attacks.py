"""Attacks that ask beside attacks that look: the tables and figures of docs/attacks.md.

The strict regime on ml-latest-small: every user is served by fold-in, members and non-members alike, two seeds with 4
targets each that are never among the shadows.

    python benchmarks/attacks.py [--only SECTION,...] [--store DIR]

With --store, what was trained before is not trained again. The sections are those of `SECTIONS`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from _results import write_section

from recmia.attacks import RULES
from recmia.cache import ArrayStore
from recmia.render.charts import sweep_lines
from recmia.render.layout import Entry, Legend, picture
from recmia.render.style import styles
from recmia.results.audit import AuditResult, run_audit
from recmia.results.setup import resolve
from recmia.settings import AuditSettings

TARGETS = 4
RECOMMENDERS = (
    "ease", "itemknn", "userknn", "als", "lfm", "bpr", "ncf", "lightgcn", "hybrid", "content", "popularity", "random",
)  # fmt: skip
FIGURE = Path(__file__).parents[1] / "docs" / "asking.png"
METRICS = ("auc", "tpr@fpr=0.01")
COMMAND = "python benchmarks/attacks.py"
# Those that learn the order, two that do not, and controls: nothing is learned at so small a rate.
SEQUENTIAL: dict[str, dict[str, Any]] = {
    "sasrec": {}, "gru4rec": {}, "itemknn": {}, "lfm": {},
    "sasrec, not trained": {"sasrec": {"learning_rate": 1e-9, "epochs": 1}},
    "gru4rec, not trained": {"gru4rec": {"learning_rate": 1e-9, "epochs": 1}}, "popularity": {}, "random": {},
}  # fmt: skip
# The rules without a model that come nearest to an attack.
SHOWN_RULES = ("popular-overlap", "history-length", "history-popularity")

Store = ArrayStore


def audit(store: Store, recommender: str, **settings: Any) -> AuditResult:
    """One audit in the strict regime."""
    fixed = {"regimes": ["fold-in"], "n_targets": TARGETS, "seeds": 2, "recommender": recommender, "thresholds": False}
    started = time.perf_counter()
    result = run_audit(resolve(AuditSettings.parse(fixed | settings)), jobs=os.cpu_count() or 1, store=store)
    words = ", ".join(f"{name}={value}" for name, value in settings.items() if name != "attacks")
    sys.stderr.write(f"{recommender}, {words}: {time.perf_counter() - started:.0f} s\n")
    return result


def shared(store: Store, recommender: str, n_shadows: int, **settings: Any) -> AuditResult:
    """All users audited, and known to the attacker."""
    attacks = ["completion", "mlp", "distance"] + ["query-lr"] * (n_shadows >= 2)
    attacks += ["list-lr"] * (n_shadows >= 4)
    return audit(store, recommender, **{"split": "shared", "n_shadows": n_shadows, "attacks": attacks} | settings)


def cells(result: AuditResult, attack: str) -> str:
    """AUC with its interval, and TPR at FPR 1%."""
    found = {row.metric: row for row in result.metrics if row.attack == attack and row.metric in METRICS}
    if not found:
        return "–"
    area, rate = (found[name] for name in METRICS)
    if area.value is None or rate.value is None:
        return "not resolvable"
    return f"{area.value:.3f} [{area.low:.3f}–{area.high:.3f}], {rate.value:.2f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)] + [""]


def recommenders(store: Store) -> None:
    """Every recommender with two shadows and none."""
    heading = ["recommender", "completion, no shadow", "query-lr, 2 shadows", "mlp", "distance", *SHOWN_RULES]
    rows = []
    for name in RECOMMENDERS:
        # These two take minutes for each seed.
        result = shared(store, name, 2, seeds=1 if name in ("bpr", "ncf") else 2)
        rows.append([name, *(cells(result, one) for one in ("completion", "query-lr", *heading[3:]))])
    body = [
        "Lists and answers of 100, 6 queries a user, all 610 users audited, two seeds of 4 targets each (bpr, ncf: one",
        "seed). A cell has the AUC with its 95% interval, and the TPR at FPR 1%.",
        "",
        *table(heading, rows),
    ]
    write_section("Asking: every recommender, two shadows and none", f"{COMMAND} --only recommenders", body)


def shadows(store: Store) -> None:
    """More shadows, and what list-lr finds with as many."""
    rows = []
    for name in ("lfm", "als", "itemknn", "ease"):
        for count in (2, 4, 8, 16):
            result = shared(store, name, count, seeds=_seeds_of_lists(name))
            rows.append([name, str(count), cells(result, "query-lr"), cells(result, "list-lr")])
        flat = shared(store, name, 16, depth=1, seeds=_seeds_of_lists(name))
        rows.append([name, "16, lists of 100", "", cells(flat, "list-lr")])
    body = [
        "As above, by the number of shadow models; of the LFM, on which list-lr varies most, five seeds.",
        "",
        *table(["recommender", "shadows", "query-lr", "list-lr"], rows),
    ]
    write_section("Asking: more shadow models, and looking only", f"{COMMAND} --only shadows", body)


def _seeds_of_lists(recommender: str) -> int:
    """Return more seeds where what list-lr finds differs between seeds by as much as between numbers of shadows."""
    return 5 if recommender == "lfm" else 2


def references(store: Store) -> None:
    """The default split: the attacker trains models of its own on other people's data."""
    rows = []
    sets = {"lfm": "ease", "itemknn": "ease", "als": "itemknn", "ease": "itemknn"}
    for name, other in sets.items():
        row = [name]
        for chosen in (["itemknn", "ease", "lfm"], [other], []):
            result = audit(store, name, attacks=["completion-reference", "completion"], references=chosen)
            row.append(cells(result, "completion-reference"))
        looking = audit(store, name, attacks=["list-lr"], n_shadows=16)
        rows.append([*row, cells(result, "completion"), cells(looking, "list-lr")])
    heading = ["recommender", "3 references", "one of another kind", "none", "completion", "list-lr, 16 shadows"]
    body = [
        "The default split: 305 users audited, about half of them members; references are trained on the 305 others.",
        "Lists of 100, 6 queries a user, no shadow. Another kind: "
        f"{', '.join(f'{other} for {name}' for name, other in sets.items())}.",
        "",
        *table(heading, rows),
    ]
    write_section("Asking: reference models in place of shadows", f"{COMMAND} --only references", body)


def short(store: Store) -> None:
    """Lists of ten."""
    rows = []
    for name in ("ease", "itemknn", "als", "lfm"):
        result = shared(store, name, 2, k=10, queries=2)
        rows.append([name, cells(result, "completion"), cells(result, "query-lr"), cells(result, "mlp")])
    body = [
        "Lists and answers of 10, 2 queries a user, 2 shadows, all 610 users audited.",
        "",
        *table(["recommender", "completion, no shadow", "query-lr", "mlp"], rows),
    ]
    write_section("Asking: lists of ten", f"{COMMAND} --only short", body)


def known(store: Store) -> None:
    """An attacker that knows a part of each history."""
    rows = []
    for name in ("ease", "itemknn", "als", "lfm"):
        found = [audit(store, name, attacks=["completion-reference"], known=share) for share in (1.0, 0.5, 0.2, 0.1)]
        rows.append([name, *(cells(one, "completion-reference") for one in found)])
    body = [
        "The default split, three references, no shadow, by the share of each history that the attacker knows (four",
        "items or more).",
        "",
        *table(["recommender", "all", "0.5", "0.2", "0.1"], rows),
    ]
    write_section("Asking: knowing a part of each history", f"{COMMAND} --only known", body)


def curves(store: Store) -> None:
    """The figure: over the number of queries, of shadows, and over the length of the lists."""
    names = ("ease", "itemknn", "als", "lfm")
    axes: dict[str, Sequence[int]] = {
        "queries": (2, 4, 6, 10, 20),
        "n_shadows": (0, 2, 4, 8, 16),
        "k": (5, 10, 20, 50, 100),
    }
    fixed = {"queries": {"n_shadows": 2}, "n_shadows": {"queries": 6}, "k": {"n_shadows": 2, "queries": 6}}
    panels, out = [], []
    words = {"queries": "queries a user (2 shadows, k = 100)", "n_shadows": "shadows (6 queries, k = 100)",
             "k": "k (2 shadows, 6 queries)"}  # fmt: skip
    for key, values in axes.items():
        rows, lines = [], []
        for name in names:
            line = [name]
            for value in values:
                attack = "completion" if key == "n_shadows" and value == 0 else "query-lr"
                count = value if key == "n_shadows" else fixed[key]["n_shadows"]
                more = {**fixed[key], key: value, "seeds": 1, "attacks": ["completion"] + ["query-lr"] * (count > 0)}
                more.pop("n_shadows", None)
                result = shared(store, name, count, **more)
                (row,) = (one for one in result.metrics if (one.attack, one.metric) == (attack, "auc"))
                rows.append({"attack": name, key: value, "value": row.value, "low": row.low, "high": row.high})
                line.append(cells(result, attack))
            lines.append(line)
        panels.append((words[key], sweep_lines(pl.DataFrame(rows), key, values, series=names, lowest=0.5)))
        out += [f"### By {words[key]}", "", *table(["recommender", *map(str, values)], lines)]
    chosen = styles(names, RULES)
    title = "Members found by asking: AUC of query-lr, and of completion where there is no shadow\n"
    title += f"ml-latest-small, fold-in, all users audited, one seed, mean over {TARGETS} targets, 95% intervals"
    legend = Legend("recommender", [Entry(name, chosen[name], sample="band") for name in names])
    FIGURE.write_bytes(picture([panels], title, legends=[legend]).png())
    write_section("Asking: over queries, shadows and the length of lists", f"{COMMAND} --only curves", out)


def sequences(store: Store) -> None:
    """Recommenders of the next item, looked at and asked, with halves and with prefixes."""
    rows = []
    for name, settings in SEQUENTIAL.items():
        looked = shared(store, name.partition(",")[0], 4, seeds=1, **settings)
        asked = shared(store, name.partition(",")[0], 4, seeds=1, query_kind="prefixes", **settings)
        row = [cells(looked, "list-lr"), cells(looked, "completion"), cells(looked, "query-lr")]
        rows.append([name, *row, cells(asked, "completion"), cells(asked, "query-lr")])
    heading = ["recommender", "list-lr", "halves: completion", "query-lr", "prefixes: completion", "query-lr"]
    body = [
        "Histories in the order of time, lists and answers of 100, all 610 users audited, four shadows, one seed of",
        f"{TARGETS} targets. Six questions a user: with random halves in order, or with the first events, of which the",
        "next item is hidden. Completion needs no shadow. A cell has the AUC with its 95% interval, and the TPR at FPR",
        "1%. The last four rows are controls.",
        "",
        *table(heading, rows),
    ]
    write_section("Asking: recommenders of the next item", f"{COMMAND} --only sequences", body)


SECTIONS: dict[str, Callable[[Store], None]] = {
    one.__name__: one for one in (recommenders, shadows, references, short, known, curves, sequences)
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = ArrayStore(arguments.store or Path(scratch))
        for name in arguments.only.split(","):
            SECTIONS[name](store)


if __name__ == "__main__":
    main()
