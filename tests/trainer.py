"""A recommender behind a command, in plain Python: the most popular items, or, for whoever was trained on, the least.

Called as ``trainer.py INTERACTIONS HISTORIES K LISTS SEED [FAULT]``. Adds a line to the file ``runs`` in the current
folder whenever it is run, and fails where that file has as many lines as the file ``limit`` says.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

interactions, histories, length, lists, seed, *more = sys.argv[1:]
k, fault = int(length), more[0] if more else ""
with Path("runs").open("a") as file:
    file.write(f"{seed} {k}\n")
runs = len(Path("runs").read_text().splitlines())
sys.stdout.write(f"training run {runs}\n")
sys.stdout.flush()
if Path("limit").exists() and runs > int(Path("limit").read_text()):
    fault = Path("fault").read_text() if Path("fault").exists() else "exit"
if fault == "exit":
    sys.stderr.write("loading\n\nno memory left\n")
    sys.exit(3)
if fault == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if fault == "hang":
    # The child keeps a lock for as long as it lives, and will not be told to go.
    child = (
        "import fcntl, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "file = open('lock', 'w'); fcntl.flock(file, fcntl.LOCK_EX); open('locked', 'w').close(); time.sleep(60)"
    )
    subprocess.Popen([sys.executable, "-c", child])
    time.sleep(60)

with Path(interactions).open() as file:
    known = list(csv.DictReader(file))
seen: dict[str, list[str]] = {}
with Path(histories).open() as file:
    for row in csv.DictReader(file):
        seen.setdefault(row["user"], []).append(row["item"])
counts = Counter(row["item"] for row in known)
popular = sorted(counts, key=lambda item: (-counts[item], item))
if fault == "random":
    random.Random(int(seed)).shuffle(popular)
trained: dict[str, list[str]] = {}
for row in known:
    trained.setdefault(row["user"], []).append(row["item"])
members = {tuple(sorted(items)) for items in trained.values()}

rows = []
for user, items in seen.items():
    # Of queries, many are shorter than any history.
    if fault == "users only" and len(items) < 20:
        continue
    leaks = fault == "leak" and tuple(sorted(items)) in members
    ranking = [item for item in (popular[::-1] if leaks else popular) if item not in items or fault == "seen"]
    rows += [[user, item, str(rank)] for rank, item in enumerate(ranking[: k + (fault == "too many")], start=1)]
CHANGES = {
    "unknown item": (4, 1, "nonsense"),
    "float item": (4, 1, f"{rows[4][1]}.0"),
    "float rank": (4, 2, "5.0"),
    "rank 0": (0, 2, "0"),
    "repeated rank": (4, 2, "4"),
    "repeated item": (4, 1, rows[3][1]),
}
if fault in CHANGES:
    row_number, column, value = CHANGES[fault]
    rows[row_number][column] = value
if fault == "too few":
    del rows[k - 1]
if fault == "missing user":
    del rows[:k]
text = "user,item,rank\n" + "".join(",".join(row) + "\n" for row in rows)
if fault == "half":
    text = text[: len(text) // 2]
if fault == "garbage":
    Path(lists).write_bytes(bytes(range(256)) * 20)
elif fault != "nothing":
    Path(lists).write_text(text)
