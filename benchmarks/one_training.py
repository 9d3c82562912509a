"""One training of a system that recmia does not know: audits from answers alone, and deleted users. See docs/files.md.

    python benchmarks/one_training.py [--only SECTION,...] [--draws 20]

Needs implicit, and ml-latest-small. The sections are those of `SECTIONS`. Every audit goes through files, as
`recmia ask`, `recmia audit-files` and `recmia forget` do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from _results import write_section
from files import generate

import recmia
from recmia.data.datasets import load
from recmia.data.interactions import Interactions
from recmia.data.questions import QUESTIONS
from recmia.metrics.intervals import CONFIDENCE
from recmia.recommenders import ALS
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import FilesSettings, ForgetSettings, RecommenderSettings

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


def ours(name: str, deleted: npt.NDArray[np.bool_] | None = None) -> System:
    """Answers of one of recmia's recommenders; with `deleted`, rows of its training data, after it lost these rows."""

    def system(data: Interactions, asked: Any, k: int, seed: int) -> npt.NDArray[np.int32]:
        spec = RECOMMENDERS[name]
        model = spec.make(spec.used(RecommenderSettings()), 2).fit(data, rng=np.random.default_rng([seed, 7]))
        if deleted is not None:
            forget_rows(model, deleted)
        return model.recommend(asked, k)

    return system


def forget_rows(model: Any, deleted: npt.NDArray[np.bool_]) -> None:
    """Delete what a fitted model holds of some users beside its items' side.

    That is a vector for each user in ALS. ItemKNN and EASE answer from weights of items alone, in whichever form they
    keep these, and hold nothing else of a user.
    """
    if isinstance(model, ALS):
        model._model.user_factors[deleted] = 0


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
        """Write who is a member now."""
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

    def files(self, answers: Path) -> dict[str, Any]:
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
                chosen = {"attacks": attacks or ["completion-reference"], "seed": seed, **more}
                settings = FilesSettings.parse(game.files(once) | chosen)
                result = recmia.audit_files(settings=settings, jobs=2)
                attack = result.settings.attacker.attacks[0]
                found.setdefault(words, []).append(value(result, attack).value)
                rates.setdefault(words, []).append(value(result, attack, "tpr@fpr=0.01").value)
                counted.setdefault(words, []).append(int(result.identified["identified"].sum()))
                if "reference_answers" in more:
                    epsilons.append(value(result, attack, "epsilon").value)
            sys.stderr.write(f"BM25, draw {seed}: {', '.join(f'{one[-1]:.3f}' for one in found.values())}\n")
    lines = [
        "305 users of ml-latest-small audited by lot, a coin leaves half of them out; implicit's BM25, trained once",
        f"on all others of the 610. Lists of {K}, six questions a user, {draws} draws of users and members. AUC: mean",
        "with 95% interval over draws, and the lowest and highest draw.",
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
        outcomes: dict[str, Counter[str]] = {how: Counter() for how in ("trained anew", "nothing done", "own rows")}
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
                gone = np.isin(np.flatnonzero(before), deleted)
                cases = {"trained anew": (ours(name), game.member), "nothing done": (ours(name), before)}
                if name != "lfm":
                    cases["own rows"] = ours(name, gone), before
                for how, (system, trained_on) in cases.items():
                    answers = game.answer(system, trained_on, how.replace(" ", "-"), 100)
                    named = game.files(answers) | {"deleted": str(game.folder / "deleted.csv"), "seed": seed}
                    result = recmia.forget(settings=ForgetSettings.parse(named), jobs=2)
                    outcomes[how][result.found.outcome] += 1
                    if how == "trained anew":
                        bounds.append(result.found.most_remembered)
                        areas.append(result.found.control.value or 0.0)
        sys.stderr.write(f"{name}: {outcomes}\n")
        told = [", ".join(f"{outcome} {n}" for outcome, n in of.most_common()) or "–" for of in outcomes.values()]
        rows.append(f"| {name} | {np.mean(areas):.3f} | {told[0]} | {np.mean(bounds):.2f} | {told[1]} | {told[2]} |")
    lines = [
        "305 users of ml-latest-small audited by lot, half of them members by a coin, of whom 30 are deleted;",
        "references itemknn, ease and lfm, trained on the 305 others; lists of 100, six questions a user,",
        f"{draws} draws. 'Own rows' deletes what the model holds of these users and leaves the items' side as it was.",
        "",
        "| system | AUC of members | trained anew | share not ruled out | nothing done | own rows only |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    write_section("One training: are deleted users forgotten?", f"{COMMAND} --only forgotten --draws {draws}", lines)
    print("\n".join(lines))


# Runs a program, and prints its seconds, and the peak of its memory in KiB.
WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""
PROGRAM = [sys.executable, "-c", "from recmia.cli.main import main; main()"]


def large(draws: int, n_users: int = 1_000_000, n_asked: int = 10_000, k: int = 100) -> None:
    """A million users in the log, ten thousand of them asked about."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n = generate(folder, n_users)
        log = folder / "interactions.parquet"
        users = np.random.default_rng(1).choice(pl.read_parquet(log, columns=["user"])["user"].unique().to_numpy(),
                                                n_asked, replace=False)  # fmt: skip
        pl.DataFrame({"user": np.sort(users)}).write_csv(folder / "users.csv")
        rows = []

        def timed(words: str, *arguments: str) -> None:
            command = [sys.executable, "-c", WATCH, *PROGRAM, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, peak = map(float, done.stderr.split()[-2:])
            rows.append(f"| {words} | {seconds:.0f} | {peak / 2**20:.2f} |")
            sys.stderr.write(f"{rows[-1]}\n")

        timed("`recmia ask --users --draw-members`", "ask", "--interactions", str(log), "--users",
              str(folder / "users.csv"), "--draw-members", "--out", str(folder / "questions"))  # fmt: skip
        # Answers of no system in particular: what is measured is time.
        n_questions = 1 + int(
            pl.read_parquet(folder / "questions" / QUESTIONS, columns=["query"])["query"].to_numpy().max()
        )
        answer_anything(folder, n_questions, k)
        timed("`recmia audit-files --references itemknn,lfm`", "audit-files", "--interactions", str(log), "--members",
              str(folder / "questions" / "members.csv"), "--questions", str(folder / "questions"), "--answers",
              str(folder / "answers.parquet"), "--references", "itemknn,lfm", "--store",
              str(folder / "store"), "--out", str(folder / "run"))  # fmt: skip
    lines = [
        f"A log of {n_users:,} users with {n:,} interactions, as Parquet; {n_asked:,} of them audited with six",
        f"questions each, answers of {k}; two references, trained on 20,000 of the others (the default). Two cores.",
        "",
        "| command | seconds | peak memory, GiB |",
        "|---|---|---|",
        *rows,
    ]
    write_section("One training: a million users", f"{COMMAND} --only large", lines)
    print("\n".join(lines))


def answer_anything(folder: Path, n_questions: int, k: int) -> None:
    """Write answers of different items each."""
    rng = np.random.default_rng(2)
    items = pl.read_parquet(folder / "interactions.parquet", columns=["item"])["item"].unique().sort().to_numpy()
    start = rng.integers(len(items), size=(n_questions, 1))
    shown = items[(start + 37 * np.arange(k)) % len(items)]
    table = {"query": np.repeat(np.arange(n_questions), k), "item": shown.ravel(),
             "rank": np.tile(np.arange(1, k + 1), n_questions)}  # fmt: skip
    asked = pl.read_parquet(folder / "questions" / QUESTIONS, columns=["query", "item"])
    answers = pl.DataFrame(table).join(asked, on=["query", "item"], how="anti", maintain_order="left")
    answers.with_columns(rank=pl.int_range(pl.len()).over("query") + 1).write_parquet(folder / "answers.parquet")


SECTIONS: dict[str, Callable[[int], None]] = {"foreign": foreign, "forgotten": forgotten, "large": large}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--draws", type=int, default=20)
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        SECTIONS[name](arguments.draws)


if __name__ == "__main__":
    main()
