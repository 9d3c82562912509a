"""A recommender behind HTTP: item neighbours by cosine, trained when the server starts. It stands for your system.

    python examples/http/server.py LOG --members questions/members.csv --port 8000

POST /recommend with {"items": [1, 2], "k": 50} returns {"items": [...]}, best first, for a stranger with these items.
GET /status returns how many requests were answered, and how many were refused because they came too fast.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from flask import Flask, jsonify, request
from scipy import sparse
from werkzeug.serving import WSGIRequestHandler, make_server

MOST_ITEMS = 1000  # in an answer


def read_table(path: Path, **options: Any) -> pl.DataFrame:
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file")
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    # All rows are looked at, since the first text among the ids may come late.
    return pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema_length=None, **options)


def training_data(log: Path, members: Path | None, user: str, item: str) -> pl.DataFrame:
    """The log, with columns user and item, without the users who have member 0."""
    table = read_table(log)
    if missing := {user, item} - set(table.columns):
        raise SystemExit(f"{log}: no column {', '.join(sorted(missing))} among {', '.join(table.columns)}")
    table = table.select(pl.col(user).alias("user"), pl.col(item).alias("item"))
    if members is None:
        return table
    # Ids are read as they are in the log: otherwise 007 would become 7, and this user would stay in the training.
    labels = read_table(members, schema_overrides={"user": table["user"].dtype})
    if missing := {"user", "member"} - set(labels.columns):
        raise SystemExit(f"{members}: no column {', '.join(sorted(missing))} among {', '.join(labels.columns)}")
    left_out = labels.filter(pl.col("member") == 0)["user"]
    if unknown := set(left_out) - set(table["user"]):
        raise SystemExit(f"{members}: {len(unknown)} users with member 0 are not in {log}, such as {unknown.pop()!r}")
    print(f"{len(left_out)} of {table['user'].n_unique()} users are left out of the training", flush=True)
    return table.filter(~pl.col("user").is_in(left_out.implode()))


class Recommender:
    """Each item has its most similar items; a candidate's score is the sum of its similarity to the given items."""

    def __init__(self, table: pl.DataFrame, neighbours: int = 20) -> None:
        users, user = np.unique(table["user"].to_numpy(), return_inverse=True)
        items, item = np.unique(table["item"].to_numpy(), return_inverse=True)
        seen = sparse.csr_array((np.ones(len(user)), (user, item)), shape=(len(users), len(items)))
        seen.data[:] = 1  # what a user consumed twice counts once
        self.items: list[int | str] = items.tolist()
        self.number = {item: number for number, item in enumerate(self.items)}
        self.popularity = seen.sum(axis=0)
        unit = seen @ sparse.diags_array(1 / np.sqrt(self.popularity))
        self.similar = sparse.csr_array(unit.T @ unit)
        for row in range(len(items)):
            of_row = self.similar.data[self.similar.indptr[row] : self.similar.indptr[row + 1]]
            # One more than the neighbours: an item is most similar to itself.
            if len(of_row) > neighbours + 1:
                of_row[of_row < np.partition(of_row, -neighbours - 1)[-neighbours - 1]] = 0
        self.similar.eliminate_zeros()

    def recommend(self, given: list[int | str], k: int) -> list[int | str]:
        """The k best items for a stranger who has the given ones. What is equally similar comes by popularity."""
        numbers = np.array(sorted({self.number[item] for item in given if item in self.number}), np.int64)
        score = self.similar[numbers].sum(axis=0)
        order = np.lexsort((-self.popularity, -score))
        best = order[~np.isin(order, numbers)][:k]
        return [self.items[number] for number in best]


class RateLimit:
    """At most so many answers in any second."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.answered = self.refused = 0
        self._last_second: deque[float] = deque()
        self._lock = threading.Lock()

    def allows(self) -> bool:
        with self._lock:
            now = time.monotonic()
            while self._last_second and self._last_second[0] <= now - 1:
                self._last_second.popleft()
            allowed = len(self._last_second) < self.per_second
            if allowed:
                self._last_second.append(now)
                self.answered += 1
            else:
                self.refused += 1
            return allowed


def what_is_wrong(body: Any) -> str:
    if not isinstance(body, dict):
        return 'the body must be JSON such as {"items": [1, 2], "k": 50}'
    items, k = body.get("items"), body.get("k")
    # type, not isinstance: true is an int, too.
    if not isinstance(items, list) or not all(type(item) in (int, str) for item in items):
        return "items must be a list of ids, each a whole number or text"
    if type(k) is not int or not 1 <= k <= MOST_ITEMS:
        return f"k must be a whole number from 1 to {MOST_ITEMS}"
    return ""


def create_app(recommender: Recommender, per_second: int) -> Flask:
    app, limit = Flask(__name__), RateLimit(per_second)

    @app.post("/recommend")
    def recommend() -> Any:
        body = request.get_json(silent=True)
        if reason := what_is_wrong(body):
            return jsonify(error=reason), 400
        if not limit.allows():
            # HTTP knows whole seconds only.
            return jsonify(error=f"more than {per_second} requests in a second"), 429, {"Retry-After": "1"}
        return jsonify(items=recommender.recommend(body["items"], body["k"]))

    @app.get("/status")
    def status() -> Any:
        return jsonify(answered=limit.answered, refused=limit.refused)

    return app


class Quiet(WSGIRequestHandler):
    """Does not print a line for each request."""

    def log_request(self, *args: Any) -> None:
        pass


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="A recommender behind HTTP.")
    parser.add_argument("log", type=Path, help="histories: .csv, .tsv or .parquet")
    parser.add_argument("--members", type=Path, help="file with columns user, member; 0 is left out of the training")
    parser.add_argument("--user", default="user", metavar="COLUMN", help="column of the user ids in the log")
    parser.add_argument("--item", default="item", metavar="COLUMN", help="column of the item ids in the log")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    parser.add_argument("--rate", type=positive, default=100, help="requests that are answered in a second")
    args = parser.parse_args()
    app = create_app(Recommender(training_data(args.log, args.members, args.user, args.item)), args.rate)
    # Reachable from this machine only.
    server = make_server("127.0.0.1", args.port, app, threaded=True, request_handler=Quiet)
    print(f"ready: http://127.0.0.1:{server.server_port}/recommend", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
