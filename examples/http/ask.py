"""Put the questions that `recmia ask` wrote to a recommender behind HTTP. For your own system, change `answer_to`.

    python examples/http/ask.py questions http://127.0.0.1:8000/recommend answers.parquet

Answers are kept in answers.jsonl as they come. After an interruption, the same command continues from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import requests

AGAIN_LATER = (429, 500, 502, 503, 504)


def answer_to(session: requests.Session, url: str, items: list[Any], k: int, tries: int) -> list[Any]:
    """Return the recommended items, best first. A request that fails for now is sent again, after a wait."""
    for attempt in range(tries):
        wait = min(0.5 * 2**attempt, 60)
        try:
            answer = session.post(url, json={"items": items, "k": k}, timeout=30)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            reason = str(error)
        else:
            if answer.ok:
                return answer.json()["items"][:k]
            if answer.status_code not in AGAIN_LATER:
                raise SystemExit(f"{url} answers {answer.status_code}: {answer.text[:300]}")
            reason = f"it answers {answer.status_code}"
            # A date, which is allowed as well, is not read: the wait is then the one above.
            seconds = answer.headers.get("Retry-After", "")
            wait = max(wait, int(seconds)) if seconds.isdecimal() else wait
        if attempt < tries - 1:
            time.sleep(wait)
    raise SystemExit(f"{url} failed {tries} times: {reason}\nThe answers so far are kept; the same command continues.")


def read_kept(path: Path, header: dict[str, Any]) -> dict[int, list[Any]]:
    """Return the answers that an earlier run kept, by query. A last line that is not complete is cut off."""
    text = path.read_bytes() if path.exists() else b""
    text = text[: text.rfind(b"\n") + 1]
    if not text:
        text = json.dumps(header).encode() + b"\n"
        path.write_bytes(text)
    elif path.stat().st_size > len(text):
        with path.open("r+b") as file:
            file.truncate(len(text))
    first, *lines = map(json.loads, text.splitlines())
    if first != header:
        raise SystemExit(f"{path} holds answers to other questions, or another k; delete it, or name another file")
    return {line["query"]: line["items"] for line in lines}


def positive(text: str) -> float:
    if (number := float(text)) <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0; got {text}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the questions that recmia ask wrote to a recommender.")
    parser.add_argument("questions", type=Path, help="folder that recmia ask wrote")
    parser.add_argument("url")
    parser.add_argument("answers", type=Path, help="Parquet file for the answers")
    parser.add_argument("--k", type=int, default=50, help="items in an answer")
    parser.add_argument("--per-second", type=positive, default=50, help="most questions in a second")
    parser.add_argument("--tries", type=int, default=8, help="of a request, before this program gives up")
    args = parser.parse_args()
    if args.tries < 1:
        parser.error(f"--tries must be at least 1; got {args.tries}")

    path = args.questions / "questions.parquet"
    if not path.is_file():
        parser.error(f"{path} is missing; recmia ask --out {args.questions} writes it")
    questions = pl.read_parquet(path).group_by("query", maintain_order=True).agg("item")
    kept_in = args.answers.with_suffix(".jsonl")
    kept = read_kept(kept_in, {"questions": hashlib.sha256(path.read_bytes()).hexdigest(), "k": args.k})
    to_ask = questions.filter(~pl.col("query").is_in(list(kept)))
    print(f"{kept_in}: {len(kept)} of {len(questions)} questions are answered", file=sys.stderr)

    started = due = time.monotonic()
    with requests.Session() as session, kept_in.open("a", encoding="utf-8") as file:
        for done, (query, items) in enumerate(to_ask.iter_rows(), start=1):
            time.sleep(max(0, due - time.monotonic()))
            due = time.monotonic() + 1 / args.per_second
            kept[query] = answer_to(session, args.url, items, args.k, args.tries)
            file.write(json.dumps({"query": query, "items": kept[query]}) + "\n")
            file.flush()
            left = timedelta(seconds=round((time.monotonic() - started) / done * (len(to_ask) - done)))
            line = f"{len(kept)} of {len(questions)} questions, {left} left"
            print(f"\r{line:<60}", end="", file=sys.stderr)
    if len(to_ask):
        print(file=sys.stderr)

    table = pl.DataFrame({"query": list(kept), "item": list(kept.values())}, schema_overrides={"query": pl.Int64})
    table = table.filter(pl.col("item").list.len() > 0).explode("item").sort("query", maintain_order=True)
    table = table.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("query"))
    table.write_parquet(args.answers)
    print(f"written to {args.answers}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command continues")
