"""One training of a system that recmia does not know: audits from answers alone, and deleted users. See docs/files.md.

    python benchmarks/one_training.py [--only SECTION,...] [--draws 20]

Needs implicit, and ml-latest-small. The sections are those of `SECTIONS`. Every audit goes through files, as
`recmia ask`, `recmia audit-files` and `recmia forget` do.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from _results import write_section

import recmia
from recmia.data.datasets import load
from recmia.data.interactions import Interactions
from recmia.data.questions import QUESTIONS
from recmia.metrics.intervals import CONFIDENCE
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import RecommenderSettings

COMMAND = "python benchmarks/one_training.py"
REFERENCES = ("itemknn", "ease", "lfm")
K = 50

# From training data and questions (a row each, over the same items) to answers, int32[q, k].
System = Callable[[Interactions, Any, int, int], npt.NDArray[np.int32]]


def bm25(data: Interactions, asked: Any, k: int, seed: int) -> npt.NDArray[np.int32]:
    """Answers of the library implicit's BM25 item neighbours, trained on these data."""
    from implicit.nearest_neighbours import BM25Recommender
    from scipy.sparse import csr_matrix

    model = BM25Recommender(K=20, num_threads=1)
    model.fit(csr_matrix(data.csr()), show_progress=False)
    answers, scores = model.recommend(np.arange(asked.shape[0]), csr_matrix(asked), N=k)
    # Where too few items have a score, implicit fills up with others, those of the question included.
    return np.where(scores > 0, answers, -1).astype(np.int32)


def ours(name: str) -> System:
    """Answers of one of recmia's recommenders."""

    def system(data: Interactions, asked: Any, k: int, seed: int) -> npt.NDArray[np.int32]:
        spec = RECOMMENDERS[name]
        model = spec.make(spec.used(RecommenderSettings()), 2)
        return model.fit(data, rng=np.random.default_rng([seed, 7])).recommend(asked, k)

    return system


class Game:
    """Users of a log who are audited, half of them by a coin, and the questions about them, as files."""

    def __init__(self, folder: Path, seed: int, users: int = 305) -> None:
        self.folder, self.seed = folder, seed
        self.log = load("ml-latest-small").interactions
        rng = np.random.default_rng([seed, 1])
        self.audited = np.sort(rng.choice(self.log.n_users, users, replace=False))
        self.member = np.zeros(self.log.n_users, np.bool_)
        self.member[self.audited] = rng.random(users) < 0.5
        ids = self.log.users.ids
        self.log.frame().write_parquet(folder / "interactions.parquet")
        pl.DataFrame({"user": ids[self.audited]}).write_csv(folder / "users.csv")
        self.write_members()
        recmia.ask(folder / "interactions.parquet", folder / "questions", users=folder / "users.csv", seed=seed)

    def write_members(self) -> None:
        member = self.member[self.audited].astype(int)
        frame = pl.DataFrame({"user": self.log.users.ids[self.audited], "member": member})
        frame.write_csv(self.folder / "members.csv")

    @property
    def others(self) -> npt.NDArray[np.bool_]:
        """Users who are not audited."""
        others = np.ones(self.log.n_users, np.bool_)
        others[self.audited] = False
        return others

    def answer(self, system: System, trained_on: npt.NDArray[np.bool_], name: str, k: int = K) -> Path:
        """Train the system on some users, put the questions to it, and write its answers."""
        rows = pl.read_parquet(self.folder / "questions" / QUESTIONS)
        n = int(rows["query"].to_numpy().max()) + 1
        from scipy import sparse

        item = np.searchsorted(self.log.items.ids, rows["item"].to_numpy())
        value = rows["rating"].to_numpy() if "rating" in rows.columns else np.ones(len(rows))
        asked = sparse.csr_array((value.astype(np.float32), (rows["query"].to_numpy(), item)), (n, self.log.n_items))
        asked.sort_indices()
        answers = system(self.log.restrict(np.flatnonzero(trained_on)), asked, k, self.seed)
        path = self.folder / f"{name}.parquet"
        shown = answers >= 0
        query, place = np.nonzero(shown)
        table = {"query": query, "item": self.log.items.ids[answers[shown]], "rank": place + 1}
        pl.DataFrame(table).write_parquet(path)
        return path

    def files(self, answers: Path) -> dict[str, str]:
        """The files of an audit of these answers."""
        return {
            "interactions": str(self.folder / "interactions.parquet"), "members": str(self.folder / "members.csv"),
            "questions": str(self.folder / "questions"), "answers": str(answers),
        }  # fmt: skip


def value(result: Any, attack: str, metric: str = "auc") -> Any:
    """One figure of an audit."""
    return next(row for row in result.metrics if (row.attack, row.metric) == (attack, metric))


def mean(values: Sequence[float]) -> str:
    """The mean over draws with its interval, Student's t."""
    from scipy import stats

    x = np.asarray(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return f"{x.mean():.3f} [{x.mean() - half:.3f}–{x.mean() + half:.3f}], {x.min():.3f} to {x.max():.3f}"


def foreign(draws: int) -> None:
    """The BM25 system of implicit, trained once."""
    found: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    counted: dict[str, list[int]] = {}
    epsilons: list[float] = []
    for seed in range(draws):
        with tempfile.TemporaryDirectory() as scratch:
            game = Game(Path(scratch), seed)
            once = game.answer(bm25, game.others | game.member, "answers")
            without = game.answer(bm25, game.others, "without")
            for words, more, attacks in (
                ("completion, no reference", {}, ["completion"]),
                (f"completion-reference, {', '.join(REFERENCES)}", {"references": REFERENCES}, None),
                ("completion-reference, one of another kind (lfm)", {"references": ["lfm"]}, None),
                ("completion-reference, itself trained without the audited", {"reference_answers": str(without)}, None),
            ):
                result = recmia.audit_files(
                    **game.files(once), attacks=attacks or ["completion-reference"], seed=seed, jobs=2, **more
                )
                attack = result.settings.attacker.attacks[0]
                found.setdefault(words, []).append(value(result, attack).value)
                rates.setdefault(words, []).append(value(result, attack, "tpr@fpr=0.01").value)
                counted.setdefault(words, []).append(int(result.identified["identified"].sum()))
                if "reference_answers" in more:
                    epsilons.append(value(result, attack, "epsilon").value)
            sys.stderr.write(f"BM25, draw {seed}: {', '.join(f'{one[-1]:.3f}' for one in found.values())}\n")
    lines = [
        "305 users of ml-latest-small audited by lot, a coin leaves half of them out; implicit's BM25, trained once on",
        f"all others of the 610. Lists of {K}, six questions a user, {draws} draws of users and members. AUC: mean with",
        "95% interval over draws, and the lowest and highest draw.",
        "",
        "| attack | AUC | TPR at FPR 1% | members individually identified |",
        "|---|---|---|---|",
        *(
            f"| {words} | {mean(areas)} | {np.mean(rates[words]):.2f} | {np.mean(counted[words]):.0f} |"
            for words, areas in found.items()
        ),
        "",
        f"The bound on epsilon of the last row, for one training: {mean(epsilons)}.",
    ]
    write_section("One training: implicit's BM25", f"{COMMAND} --only foreign --draws {draws}", lines)
    print("\n".join(lines))


def forgotten(draws: int) -> None:
    """Deleted users: trained anew without them, not deleted at all, and only their own rows."""
    rows = []
    for name in ("lfm", "itemknn", "als", "ease"):
        outcomes: dict[str, Counter[str]] = {"trained anew": Counter(), "nothing done": Counter()}
        bounds: list[float] = []
        areas: list[float] = []
        for seed in range(draws):
            with tempfile.TemporaryDirectory() as scratch:
                game = Game(Path(scratch), seed)
                # Of the members, thirty ask to be deleted.
                rng = np.random.default_rng([seed, 2])
                deleted = rng.choice(np.flatnonzero(game.member), 30, replace=False)
                before = game.member.copy()
                game.member[deleted] = False
                game.write_members()
                pl.DataFrame({"user": game.log.users.ids[deleted]}).write_csv(game.folder / "deleted.csv")
                for how, trained_on in (("trained anew", game.member), ("nothing done", before)):
                    answers = game.answer(ours(name), trained_on, how.replace(" ", "-"), 100)
                    result = recmia.forget(
                        **game.files(answers), deleted=str(game.folder / "deleted.csv"), seed=seed, jobs=2
                    )
                    outcomes[how][result.found.outcome] += 1
                    if how == "trained anew":
                        bounds.append(result.found.most_remembered)
                        areas.append(result.found.control.value or 0.0)
        sys.stderr.write(f"{name}: {outcomes}\n")
        told = [", ".join(f"{outcome} {n}" for outcome, n in of.most_common()) for of in outcomes.values()]
        rows.append(f"| {name} | {np.mean(areas):.3f} | {told[0]} | {np.mean(bounds):.2f} | {told[1]} |")
    lines = [
        "305 users of ml-latest-small audited by lot, half of them members by a coin, of whom 30 are deleted; references",
        f"itemknn, ease and lfm trained on the 305 others; lists of 100, six questions a user, {draws} draws. 'Nothing",
        "done' is also what it means to delete the rows or vectors of users and leave the item side of ItemKNN, EASE",
        "and ALS as it was: a stranger's history is answered from the item side alone, by the same arithmetic.",
        "",
        "| system | AUC of members against never-members | trained anew without them | share not ruled out | nothing done |",
        "|---|---|---|---|---|",
        *rows,
    ]
    write_section("One training: are deleted users forgotten?", f"{COMMAND} --only forgotten --draws {draws}", lines)
    print("\n".join(lines))


SECTIONS: dict[str, Callable[[int], None]] = {"foreign": foreign, "forgotten": forgotten}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--draws", type=int, default=20)
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        SECTIONS[name](arguments.draws)


if __name__ == "__main__":
    main()
