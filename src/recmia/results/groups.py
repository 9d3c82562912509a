"""Figures by group: an average hides those who are hit.

Users are grouped by the length of their history, by the rarity of their taste, and by the columns of a table of users;
interactions by the popularity of the item and by its terms, too. Numbers are cut into thirds. The intervals of one
grouping hold together for its groups (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.attacks import RULES, attack_spec
from recmia.errors import ConfigError, nearest
from recmia.metrics import CONFIDENCE, METRICS, Metric, Runs, SeedRuns, simultaneous
from recmia.metrics.clusters import Clustered
from recmia.results.audit import AuditResult, Key
from recmia.settings import AS_SERVED, SERVED_ALIKE

Bool = npt.NDArray[np.bool_]
FIGURES = ("auc", "tpr@fpr=0.01")
# Numbers are cut into thirds, which are called so.
_THIRDS: Mapping[str, tuple[str, str, str]] = {
    "history_length": ("short history", "middle", "long history"),
    "rarity": ("popular taste", "middle", "rare taste"),
    "popularity": ("rare item", "middle", "popular item"),
}
TERMS, MISSING = "terms", "(missing)"
# The most frequent terms are groups, so many.
_MOST_TERMS = 20
# With fewer users, or interactions, of either kind no figure is given of a group.
_FEWEST = 10


def groupings(result: AuditResult) -> tuple[str, ...]:
    """Return what an audit can be grouped by."""
    own = [name for name in result.users.columns if name not in ("seed", "user_id", *_THIRDS)]
    if result.settings.unit == "users":
        return ("history_length", "rarity", *own)
    own += [name for name in result.items.columns if name not in ("item_id", "title", TERMS, *_THIRDS)]
    terms = (TERMS,) if not result.items.is_empty() and result.items["terms"].str.len_chars().sum() else ()
    return ("popularity", "history_length", *terms, *own)


def by_group(
    result: AuditResult,
    by: Sequence[str] = (),
    metrics: Sequence[str] = FIGURES,
    attacks: Sequence[str] | None = None,
    *,
    figures: int = 1,
) -> list[tuple[str, str, Metric]]:
    """Return figures by group.

    Parameters
    ----------
    result : AuditResult
    by : sequence of str
        Of `groupings`; all by default.
    metrics : sequence of str
        Of `recmia.metrics.METRICS`, those that need no thresholds.
    attacks : sequence of str, optional
        By default the attack with the largest AUC of each section.
    figures : int
        How many further figures the intervals hold together with, for a gate.

    Returns
    -------
    list of (grouping, group, Metric)
        A group that is too small has a metric without a value, which says so.

    Raises
    ------
    ConfigError
        For an unknown grouping.

    Examples
    --------
    >>> import recmia
    >>> quick = {"attacks": ["distance"], "regimes": ["fold-in"], "factors": 8, "k": 10, "seeds": 1}
    >>> result = recmia.audit("synthetic:240x200x9000", **quick)
    >>> [group for _, group, row in by_group(result, ["rarity"]) if row.metric == "auc"]
    ['popular taste', 'middle', 'rare taste']
    """
    allowed = groupings(result)
    for name in by:
        if name not in allowed:
            raise ConfigError(f"unknown grouping {name!r}; {nearest(name, allowed)}")
    found = []
    for key, rows in _sections(result, attacks).items():
        for grouping in by or allowed:
            masks = _masks(result, key, grouping)
            confidence = simultaneous(max(1, len(masks) * figures), CONFIDENCE)
            for group, of in masks.items():
                for name in metrics:
                    row = next(one for one in rows if one.metric == name)
                    found.append((grouping, group, _measured(result.runs[key], of, row, confidence)))
    return found


def _sections(result: AuditResult, attacks: Sequence[str] | None) -> dict[Key, list[Metric]]:
    """The rows of each attack, or of the strongest attack of each section."""
    rows: dict[Key, list[Metric]] = {}
    for row in result.metrics:
        rows.setdefault((row.knowledge, row.regime, row.attack), []).append(row)
    if attacks is not None:
        return {key: of for key, of in rows.items() if key[2] in attacks}
    best: dict[tuple[str, str], Key] = {}
    for key, of in rows.items():
        if attack_spec(key[2]).rule and any(not attack_spec(other[2]).rule for other in rows if other[:2] == key[:2]):
            continue
        area = next(abs((one.value or 0.5) - 0.5) for one in of if one.metric == "auc")
        held = best.get(key[:2])
        if held is None or area > next(abs((one.value or 0.5) - 0.5) for one in rows[held] if one.metric == "auc"):
            best[key[:2]] = key
    return {key: rows[key] for key in best.values()}


def _masks(result: AuditResult, key: Key, grouping: str) -> dict[str, list[list[Bool]]]:
    """For each group, which rows of each target of each seed are in it."""
    level, regime, attack = key
    scores = result.scores.filter(knowledge=level, regime=regime, attack=attack, side="target")
    columns: list[list[pl.Series]] = []
    for seed in result.settings.seeds:
        of_seed = []
        for run in range(result.settings.n_targets):
            rows = scores.filter(seed=seed, run=run)
            if grouping in result.items.columns:
                joined = rows.select("item_id").join(result.items, on="item_id", how="left", maintain_order="left")
            else:
                users = result.users.filter(seed=seed)
                joined = rows.select("user_id").join(users, on="user_id", how="left", maintain_order="left")
            of_seed.append(joined[grouping])
        columns.append(of_seed)
    if grouping == TERMS:
        counted = pl.concat([one for of in columns for one in of]).str.split("|").explode().value_counts(sort=True)
        # Tags are many, and most of them rare.
        names = sorted(counted.filter(pl.col(TERMS) != "")[TERMS].head(_MOST_TERMS).to_list())
        return _of(names, columns, lambda column, name: column.str.split("|").list.contains(name))
    if grouping in _THIRDS:
        pooled = pl.concat([one.cast(pl.Float64) for of in columns for one in of])
        cuts = [float(pooled.quantile(share, "linear") or 0.0) for share in (1 / 3, 2 / 3)]
        names = list(_THIRDS[grouping])

        def in_third(column: pl.Series, name: str) -> pl.Series:
            return pl.Series(np.searchsorted(cuts, column.cast(pl.Float64).to_numpy(), "left") == names.index(name))

        return _of(names, columns, in_third)
    columns = [[one.cast(pl.String).fill_null(MISSING) for one in of] for of in columns]
    names = sorted({str(value) for of in columns for one in of for value in one.unique()})
    return _of(names, columns, lambda column, name: column == name)


def _of(
    names: Sequence[str], columns: list[list[pl.Series]], holds: Callable[[pl.Series, str], pl.Series]
) -> dict[str, list[list[Bool]]]:
    return {
        name or MISSING: [[holds(one, name).fill_null(False).to_numpy() for one in of] for of in columns]
        for name in names
    }


def _measured(runs: Runs, masks: list[list[Bool]], row: Metric, confidence: float) -> Metric:
    """One figure of a group, in place of that of all."""
    seeds, smallest = [], (10**9, 10**9)
    for seed, of in zip(runs.seeds, masks, strict=True):
        targets = [(member[mask], score[mask]) for (member, score), mask in zip(seed.targets, of, strict=True)]
        clustered: list[Clustered] = []
        for member, _ in targets:
            smallest = tuple(map(min, smallest, (int(member.sum()), int((~member).sum()))))  # type: ignore[assignment]
        if min(smallest) >= _FEWEST:
            clustered = [one.take(mask) for one, mask in zip(seed.clustered, of, strict=False)]
        seeds.append(SeedRuns(seed.shadow, targets, clustered))
    members, others = smallest
    if min(smallest) < _FEWEST:
        note = f"not resolvable: the group has {members} against {others}, and {_FEWEST} of each are needed"
        return replace(row, value=None, low=None, high=None, n_members=members, n_nonmembers=others, note=note)
    estimate = METRICS[row.metric].estimate(replace(runs, seeds=seeds), confidence)
    return replace(
        row, value=estimate.value, low=estimate.low, high=estimate.high, n_members=members, n_nonmembers=others,
        note=estimate.note,
    )  # fmt: skip


def exposed_interactions(result: AuditResult, most: int = 10) -> list[dict[str, Any]]:
    """Return the interactions that the strongest attack is surest of, of those in training: one for each user.

    Parameters
    ----------
    result : AuditResult
        Of interactions.
    most : int

    Returns
    -------
    list of dict
        With attack, user_id, item_id, title (else the id), terms, score, share (of interactions that were not in
        training, the share that scores as high), popularity, history_length, reason.
    """
    shared = {key: of for key, of in _sections(result, None).items() if key[1] in (*SERVED_ALIKE, AS_SERVED)}
    if result.settings.unit != "interactions" or not shared:
        return []
    (level, regime, attack), *_ = shared
    first = result.scores["seed"][0]
    rows = result.scores.filter(knowledge=level, regime=regime, attack=attack, side="target", run=0, seed=first)
    others = np.sort(rows.filter(~pl.col("member"))["score"].to_numpy())
    chosen = (
        rows.filter("member")
        .sort("score", descending=True, maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
    )
    chosen = (
        chosen.head(most)
        .join(result.items, on="item_id", how="left", maintain_order="left")
        .join(result.users.filter(seed=first), on=["seed", "user_id"], how="left", maintain_order="left")
    )
    found = []
    for row in chosen.iter_rows(named=True):
        share = 1 - np.searchsorted(others, row["score"], "left") / len(others)
        popularity = row["popularity"]
        reason = f"{popularity:,} people have it" if popularity > 1 else "nobody else has it"
        kept = ("user_id", "item_id", "title", "terms", "score", "popularity", "history_length")
        row["title"] = row.get("title") or str(row["item_id"])
        found.append({"attack": attack, **{name: row[name] for name in kept}, "share": float(share), "reason": reason})
    return found


def attacks_tested(result: AuditResult) -> list[str]:
    """Return the attacks of an audit whose figures a gate tests by group."""
    return [name for name in dict.fromkeys(row.attack for row in result.metrics) if name not in RULES]
