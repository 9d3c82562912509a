"""Whether a system has forgotten users whose data were deleted, from its answers to questions about them.

Three groups are asked about alike: members, users who were never in the training data, and those whose deletion was
asked for. `recmia.metrics.forgetting` compares their scores; members are the positive control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recmia.data.lists import read_users
from recmia.game.plan import Setup, work_units
from recmia.game.run import run_plans
from recmia.game.tasks import Store
from recmia.metrics.forgetting import ERROR, Forgetting, Outcome, forgetting
from recmia.metrics.intervals import Estimate
from recmia.results.audit import AuditResult, Progress, Reporter, join_plays
from recmia.results.files import read_files
from recmia.settings import ForgetSettings
from recmia.settings.attacker import ASKING_ATTACKS

LABELS: Mapping[Outcome, str] = {
    "forgotten": "Forgotten",
    "not forgotten": "Not forgotten",
    "undecided": "Too few users to say",
    "no power": "The test has no power",
}
# As of a gate: 1 for what is found, or for a proof that is missing, and 2 for what could not be tested.
EXIT_CODES: Mapping[Outcome, int] = {"forgotten": 0, "not forgotten": 1, "undecided": 1, "no power": 2}
# Users named in words.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class ForgetResult:
    """What a system's answers say of users whose data were deleted, raw: every figure is computed from the scores.

    Parameters
    ----------
    audit : AuditResult
        Members against users who were never members: the positive control.
    deleted : polars.DataFrame
        The deleted users: columns attack, user_id, score, history_length, rarity.
    """

    audit: AuditResult
    deleted: pl.DataFrame

    @property
    def settings(self) -> ForgetSettings:
        """The settings."""
        assert isinstance(self.audit.settings, ForgetSettings), "of forgetting"
        return self.audit.settings

    @property
    def provenance(self) -> dict[str, Any]:
        """As of `AuditResult`."""
        return self.audit.provenance

    @property
    def attack(self) -> str:
        """The attack that decides: the strongest that there was something for."""
        return max(self.settings.attacker.attacks, key=ASKING_ATTACKS.index)

    @cached_property
    def found(self) -> Forgetting:
        """The test."""
        scores = self.audit.scores.filter(attack=self.attack, side="target")
        members, never = (scores.filter(member=member)["score"].to_numpy() for member in (True, False))
        deleted = self.deleted.filter(attack=self.attack)["score"].to_numpy()
        return forgetting(members, never, deleted, self.settings.forgetting.margin)

    @cached_property
    def users(self) -> pl.DataFrame:
        """The deleted users with their scores by `attack`, p_value and recognised; the most exposed first."""
        found = {"p_value": self.found.user_p, "recognised": self.found.recognised}
        users = self.deleted.filter(attack=self.attack).hstack(pl.DataFrame(found))
        return users.sort("score", "rarity", descending=True, maintain_order=True)

    @property
    def exit_code(self) -> int:
        """0 if the deleted users are shown to be forgotten, 2 if the test has no power, else 1."""
        return EXIT_CODES[self.found.outcome]

    @property
    def label(self) -> str:
        """The outcome in a word or two."""
        return LABELS[self.found.outcome]

    @property
    def claim(self) -> str:
        """The outcome in a sentence."""
        found, n = self.found, len(self.users)
        margin = _percent(found.margin)
        if found.outcome == "forgotten":
            return (
                f"The {n:,} deleted users look like users who were never in the training data: that {margin} of them "
                "or more are still remembered is ruled out."
            )
        if found.outcome == "not forgotten":
            return f"The {n:,} deleted users do not look like users who were never in the training data."
        if found.outcome == "no power":
            return (
                "Not even members are told from users who were never in the training data, so this says nothing about "
                "the deleted."
            )
        return (
            f"The {n:,} deleted users are not shown to be remembered, and not shown to be forgotten: that {margin} of "
            "them are still remembered is not ruled out."
        )

    def details(self, names: pl.Series | None = None) -> tuple[str, ...]:
        """Return what the claim rests on, in sentences.

        Parameters
        ----------
        names : polars.Series, optional
            What to call `users`; by default, their ids.
        """
        found, n = self.found, len(self.users)
        sentences = [
            f"Positive control: `{self.attack}` tells members from never-members with an AUC of "
            f"{_figure(found.control)}. The deleted against never-members: AUC {_figure(found.against_never)}, "
            f"p = {found.p_value:.2g}.",
        ]
        if found.most_remembered < 1:
            sentences.append(
                f"At most {_percent(found.most_remembered)} of the deleted may still be remembered as members are "
                f"(one-sided bound, {1 - ERROR:.0%}); the margin is {_percent(found.margin)}."
            )
        if found.outcome == "undecided":
            least = math.ceil(math.log(ERROR) / math.log1p(-found.margin))
            sentences.append(
                f"It takes {least:,} deleted users to rule out that share with a perfect attack, and more with this "
                "one; wait for more deletions, or name a larger margin."
            )
        if found.outcome == "not forgotten" and (found.against_never.value or 0.0) < 0.5:
            sentences.append(
                "They are completed worse than strangers: the system treats them in a special way, which reveals that "
                "their data were there."
            )
        named = (self.users["user_id"] if names is None else names).filter(self.users["recognised"])
        if len(named):
            most = ", ".join(str(user) for user in named.head(_NAMED))
            more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
            sentences.append(
                f"Individually still recognised: {len(named):,} of {n:,} (false-discovery rate {ERROR / 2:.1%}): "
                f"{most}{more}."
            )
        else:
            sentences.append(f"None of them is individually recognised (false-discovery rate {ERROR / 2:.1%}).")
        if found.outcome == "forgotten":
            sentences.append("A stronger attack may find more; the test is as good as its positive control.")
        return tuple(sentences)

    def summary(self) -> dict[str, Any]:
        """Return the outcome and its figures as plain values."""
        found = self.found
        return {
            "outcome": found.outcome,
            "exit_code": self.exit_code,
            "claim": self.claim,
            "details": list(self.details()),
            "attack": self.attack,
            "margin": found.margin,
            "most_remembered": found.most_remembered,
            "p_value": found.p_value,
            "auc_of_members": _ends(found.control),
            "auc_of_deleted": _ends(found.against_never),
            "deleted": len(self.users),
            "recognised": self.users.filter("recognised")["user_id"].to_list(),
        }


def run_forget(
    setup: Setup, *, jobs: int = 1, store: Store | None = None, progress: Progress | None = None
) -> ForgetResult:
    """Test whether a system has forgotten users.

    Parameters
    ----------
    setup : Setup
        With `ForgetSettings`.
    jobs, store, progress
        As of `recmia.results.files.run_files_audit`.

    Raises
    ------
    DataError
        As `run_files_audit`, and naming the row of a deleted user who is a member, or about whom nothing was asked.
    TooFewUsersError
        For fewer than 10 members, never-members or deleted users.
    """
    settings = setup.settings
    assert isinstance(settings, ForgetSettings), "of forgetting"
    report, chosen = Reporter(progress), settings.forgetting
    files = read_files(setup, report)
    plan, audited = files.plan, files.audited
    member = plan.sections[0].targets[0].side.member
    rows = read_users(
        Path(chosen.deleted),
        audited.users,
        named=chosen.named,
        kind="deleted",
        unknown="names a user about whom nothing was asked, or no question was answered",
        never=(
            member,
            f"names a user who is a member in {settings.files.members}, which says who is in the training data now",
        ),
    )
    deleted = audited.users.ids[rows]
    if files.unanswered is not None:
        # Members were looked at when the files were read; the deleted are no users who were never there.
        gone = np.isin(files.unanswered.users, deleted)
        files.unanswered.check({"deleted users": gone, "never members": ~gone & ~files.unanswered.member})
    report.total = work_units([plan])
    plays = run_plans([plan], store={} if store is None else store, jobs=jobs, report=report)
    whole = join_plays(plan.setup.settings, plays, audited, files.cleaning, jobs, report)
    of_deleted = pl.col("user_id").is_in(deleted)
    # What answers give away is measured for members and all others, and the deleted are neither.
    for one in whole.provenance["attacker"]:
        one.pop("examples", None)
    audit = replace(
        whole,
        scores=whole.scores.filter(~of_deleted),
        users=whole.users.filter(~of_deleted),
        disclosure=pl.DataFrame(),
    )
    of_user = whole.users.select("user_id", "history_length", "rarity")
    rows_of = whole.scores.filter(of_deleted, side="target").select("attack", "user_id", "score")
    found = rows_of.with_row_index("row").join(of_user, on="user_id").sort("row").drop("row")
    result = ForgetResult(audit, found)
    # Refused now, not when somebody reads it.
    _ = result.found
    return result


def _figure(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}–{estimate.high:.3f}]"


def _ends(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _percent(share: float) -> str:
    """Return a share in percent, rounded up, since it is a bound; near the ends with what it differs by."""
    if 0.01 <= share <= 0.99:
        return f"{math.ceil(round(100 * share, 6))}%"
    return f"{100 * share:.4g}%"
