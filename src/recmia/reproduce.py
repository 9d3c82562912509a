"""The figures of Hu (2023), and panels for what the paper leaves open: each a sweep, as data.

The paper prints one figure, the AUC 0.857 of its MLP (LFM against LFM, ml-latest-small, the ``popular`` regime,
l = 100). Every panel has the LFM fitted to ratings (explicit) and to what was seen (implicit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.audit import Progress, audit
from recmia.config import AuditConfig
from recmia.errors import ConfigError, nearest
from recmia.evaluation import Roc
from recmia.interactions import Interactions
from recmia.sweep import SweepResult, cells, sweep
from recmia.training import Store

FEEDBACK = "lfm.feedback"
# Hu 2023; the regime and the attack that it is about.
PAPER_AUC, PAPER_REGIME, PAPER_ATTACK = 0.857, "popular", "mlp"


@dataclass(frozen=True)
class Panel:
    """One figure: the AUC over one setting, for the explicit and the implicit LFM.

    Parameters
    ----------
    name : str
        Of its files.
    title : str
    x : str
        What the horizontal axis shows: a key of the settings, ``"attack"``, or nothing for the ROC.
    values : sequence
        Of that key.
    settings : mapping
        Beside `BASE`.
    """

    name: str
    title: str
    x: str = ""
    values: Sequence[Any] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> Sequence[Any]:
        """What stands along the horizontal axis."""
        return self.settings["attacks"] if self.x == "attack" else self.values

    @property
    def axes(self) -> dict[str, Sequence[Any]]:
        """The grid that is swept."""
        swept = {self.x: self.values} if self.values else {}
        return {**swept, FEEDBACK: ("explicit", "implicit")}


# Only AUC and ROC are drawn, so no thresholds are chosen.
BASE: Mapping[str, Any] = MappingProxyType({"attacks": [PAPER_ATTACK], "seeds": 10, "thresholds": False})

_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
PAPER_PANELS = (
    Panel("fig1", "Fig. 1: ROC of the MLP"),
    Panel("fig2", "Fig. 2: AUC against the length of the vectors", "l", range(10, 101, 10)),
    Panel("fig3-attack", "Fig. 3: AUC under learning rates of the attack model", "mlp.learning_rate", _RATES),
    Panel(
        "fig3-lfm",
        "Fig. 3: AUC under learning rates of the LFM",
        "lfm.learning_rate",
        (0.001, 0.002, 0.005, 0.01, 0.02),
    ),
)
FURTHER_PANELS = (
    Panel("list-length", "Length of the lists", "k", (5, 10, 20, 50, 100, 200)),
    Panel("rank-weights", "Weights of the ranks in a user's vector", "rank_weights", ("uniform", "linear")),
    Panel("item-vectors", "Data that the item vectors come from", "item_vectors", ("shadow", "public", "all")),
    Panel("users", "Number of users, both sides together", "max_users", (80, 160, 320, 610)),
    Panel("member-share", "Share of members", "member_share", (0.1, 0.25, 0.5, 0.75, 0.9)),
    Panel("epochs", "Passes over the training data", "lfm.epochs", (5, 10, 20, 40, 80)),
    Panel("regularisation", "Regularisation of the LFM", "lfm.regularisation", (0.0, 0.003, 0.01, 0.03, 0.1)),
    Panel(
        "classifier",
        "Attack classifier",
        "attack",
        settings={"attacks": ["mlp", "naive-bayes", "decision-tree"]},
    ),
    Panel("split", "What the sides do not share", "split", ("users", "interactions")),
)  # fmt: skip
PANELS: Mapping[str, Panel] = MappingProxyType({panel.name: panel for panel in (*PAPER_PANELS, *FURTHER_PANELS)})


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What the panels show.

    Parameters
    ----------
    config : AuditConfig
        What all panels share.
    panels : list of Panel
    sweeps : dict of str to SweepResult
        By the name of the panel.
    rocs : dict of (regime, line) to list of Roc
        Of Fig. 1, one curve a seed; a line is a feedback and an attack, as ``"implicit: mlp"``. Empty without Fig. 1.
    """

    config: AuditConfig
    panels: list[Panel]
    sweeps: dict[str, SweepResult]
    rocs: dict[tuple[str, str], list[Roc]]

    @property
    def comparison(self) -> pl.DataFrame:
        """The paper's figure beside ours: feedback, regime, paper (null where it prints none), ours, low, high.

        Empty without Fig. 1.
        """
        if "fig1" not in self.sweeps:
            return pl.DataFrame()
        aucs = self.sweeps["fig1"].table.filter(metric="auc", attack=PAPER_ATTACK)
        paper = pl.when(pl.col("regime") == PAPER_REGIME).then(PAPER_AUC).alias("paper")
        return aucs.select(
            pl.col(FEEDBACK).alias("feedback"), "regime", paper, pl.col("value").alias("ours"), "low", "high"
        )


def chosen_panels(names: Sequence[str]) -> list[Panel]:
    """The panels of these names; ``"paper"`` stands for the paper's figures and ``"all"`` for everything.

    Raises
    ------
    ConfigError
        For a name that does not exist, or none.
    """
    groups = {"paper": PAPER_PANELS, "all": tuple(PANELS.values())}
    chosen: dict[str, Panel] = {}
    for name in names:
        if name not in groups and name not in PANELS:
            raise ConfigError(f"unknown panel {name!r}; {nearest(name, [*groups, *PANELS])}")
        chosen |= {panel.name: panel for panel in groups.get(name) or (PANELS[name],)}
    if not chosen:
        raise ConfigError(f"no panel is named; {nearest('', [*groups, *PANELS])}")
    return list(chosen.values())


def reproduce(
    panels: Sequence[str] = ("paper",),
    settings: Mapping[str, Any] = MappingProxyType({}),
    *,
    dataset: Interactions | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Run the panels; what they share is trained, served and attacked once.

    Parameters
    ----------
    panels : sequence of str
        See `chosen_panels`.
    settings : mapping
        Fields of `AuditConfig` for all panels, over those of `BASE`.
    dataset, jobs, store, progress
        As in `recmia.sweep.sweep`.

    Raises
    ------
    ConfigError
        For an unknown panel or setting, or if every cell of a panel fails.
    """
    store = {} if store is None else store
    chosen = chosen_panels(panels)
    base = AuditConfig.parse({**BASE, **settings})
    sweeps: dict[str, SweepResult] = {}
    rocs: dict[tuple[str, str], list[Roc]] = {}
    for panel in chosen:
        told = None if progress is None else _named(panel, progress)
        config = AuditConfig.parse({**BASE, **settings, **panel.settings})
        sweeps[panel.name] = sweep(config, panel.axes, dataset=dataset, jobs=jobs, store=store, progress=told)
        if panel.name == "fig1":
            failed = [error[FEEDBACK] for error in sweeps[panel.name].errors]
            for values, cell in cells(config, panel.axes):
                if values[FEEDBACK] in failed:
                    continue
                # Played a moment ago, so this reads the store.
                result = audit(dataset, config=cell, store=store)
                rocs |= {
                    (regime, f"{values[FEEDBACK]}: {attack}"): curves
                    for (_, regime, attack), curves in result.rocs.items()
                }
    return Reproduction(base, chosen, sweeps, rocs)


def _named(panel: Panel, progress: Progress) -> Progress:
    return lambda text, done, total: progress(f"{panel.name}: {text}", done, total)
