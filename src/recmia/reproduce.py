"""The figures of Hu (2023), and panels for what the paper leaves open: each a sweep, as data.

The paper prints one figure, the AUC 0.857 of its MLP (LFM against LFM, ml-latest-small, the ``popular`` regime,
100 factors). Every panel has the LFM fitted to ratings (explicit) and to what was seen (implicit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recmia.atomic import new_folder
from recmia.attacks import RULES
from recmia.data.interactions import Interactions
from recmia.errors import ConfigError, nearest
from recmia.game.plan import work_units
from recmia.game.tasks import Store
from recmia.metrics import Roc
from recmia.results.audit import Progress, Reporter, run_audit
from recmia.results.findings import REGIME_WORDS
from recmia.results.folder import settings_toml, write_json
from recmia.results.sweep import PlannedSweep, SweepResult, plan_sweep, run_planned
from recmia.settings import AuditSettings

if TYPE_CHECKING:
    from recmia.render.layout import Static

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
BASE: Mapping[str, Any] = MappingProxyType(
    # The paper's case comes first.
    {"attacks": [PAPER_ATTACK], "seeds": 10, "thresholds": False, "regimes": ["popular", "fold-in"]}
)

_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
PAPER_PANELS = (
    Panel("fig1", "Fig. 1: ROC of the MLP"),
    Panel("fig2", "Fig. 2: AUC against the length of the vectors", "factors", range(10, 101, 10)),
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
    settings : AuditSettings
        What all panels share.
    panels : list of Panel
    sweeps : dict of str to SweepResult
        By the name of the panel.
    rocs : dict of (regime, line) to list of Roc
        Of Fig. 1, one curve a seed; a line is a feedback and an attack, as ``"implicit: mlp"``. Empty without Fig. 1.
    """

    settings: AuditSettings
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
        Fields of `AuditSettings` for all panels, over those of `BASE`.
    dataset, jobs, store, progress
        As in `recmia.results.sweep.run_sweep`.

    Raises
    ------
    ConfigError
        For an unknown panel or setting, or if every cell of a panel fails.
    """
    store, report = {} if store is None else store, Reporter(progress)
    report("loading the data", 0)
    planned = plan_panels(panels, settings, dataset=dataset)
    # Of all panels, so that the time left is that of the whole.
    report.total = max(1, work_units([plan for one in planned.values() for plan in one.ready]))
    sweeps: dict[str, SweepResult] = {}
    rocs: dict[tuple[str, str], list[Roc]] = {}
    for name, plan in planned.items():
        report.heading = name
        sweeps[name] = run_planned(plan, jobs=jobs, store=store, report=report)
        if name == "fig1":
            failed = [error[FEEDBACK] for error in sweeps[name].errors]
            for values, setup in plan.grid:
                if values[FEEDBACK] in failed:
                    continue
                # Played a moment ago, so this reads the store.
                result = run_audit(setup, dataset, store=store)
                rocs |= {
                    (regime, f"{values[FEEDBACK]}: {attack}"): curves
                    for (_, regime, attack), curves in result.rocs.items()
                }
    base = AuditSettings.parse({**BASE, **settings})
    return Reproduction(base, [PANELS[name] for name in planned], sweeps, rocs)


def plan_panels(
    panels: Sequence[str], settings: Mapping[str, Any] = MappingProxyType({}), *, dataset: Interactions | None = None
) -> dict[str, PlannedSweep]:
    """Return the plans of panels by name; data are loaded, and splits drawn, once for all.

    Parameters
    ----------
    panels, settings, dataset
        As of `reproduce`.

    Raises
    ------
    ConfigError
        For an unknown panel or setting.
    """
    draws: dict[Any, Any] = {}
    return {
        panel.name: plan_sweep(
            AuditSettings.parse({**BASE, **settings, **panel.settings}), panel.axes, dataset=dataset, draws=draws
        )
        for panel in chosen_panels(panels)
    }


def write_reproduction(result: Reproduction, folder: Path) -> None:
    """Write the folder of a reproduction: all of it, or nothing.

    Parameters
    ----------
    result : Reproduction
    folder : Path
        Must not exist. Gets for each panel ``NAME.png``, ``NAME.svg`` and ``NAME.csv``, every figure that it shows; the
        curves of the ROC as ``fig1-roc.csv`` and the paper's figure beside ours as ``paper.csv``; ``config.toml`` (what
        the panels share) and ``reproduce.json`` (grids, errors, provenance).

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    from recmia.render.pictures import files_of

    with new_folder(folder) as scratch:
        (scratch / "config.toml").write_text(settings_toml(result.settings), encoding="utf-8")
        about = {
            panel.name: {"axes": sweep.axes, "errors": sweep.errors, "provenance": sweep.provenance}
            for panel, sweep in ((panel, result.sweeps[panel.name]) for panel in result.panels)
        }
        write_json(scratch / "reproduce.json", about)
        if result.rocs:
            result.comparison.write_csv(scratch / "paper.csv")
            _roc_table(result.rocs).write_csv(scratch / "fig1-roc.csv")
        for panel in result.panels:
            result.sweeps[panel.name].table.write_csv(scratch / f"{panel.name}.csv")
            for name, content in files_of(panel.name, _drawn(result, panel)).items():
                (scratch / name).write_bytes(content)


# The ROC shows the paper's attack, and two rules that need no model.
_DRAWN = (": mlp", ": shared-list", ": popular-overlap")


def _drawn(result: Reproduction, panel: Panel) -> Static:
    from recmia.render.pictures import panel_picture, roc_picture

    sweep = result.sweeps[panel.name]
    title = f"{panel.title}\n{sweep.provenance['data']['source']}; seeds: {result.settings.run.seeds}"
    if panel.x:
        reference = (PAPER_REGIME, PAPER_AUC, f"the paper: {PAPER_AUC} (100 factors)")
        title += "; band: 95% interval"
        return panel_picture(
            sweep.table, panel.x, panel.shown, FEEDBACK, title, reference, rules=RULES, words=REGIME_WORDS
        )
    aucs = {
        (row["regime"], f"{row[FEEDBACK]}: {row['attack']}"): row["value"]
        for row in sweep.table.filter(metric="auc").iter_rows(named=True)
    }
    shown = {key: curves for key, curves in result.rocs.items() if key[1].endswith(_DRAWN)}
    n_nonmembers = sweep.table["n_nonmembers"][0]
    return roc_picture(shown, {key: aucs[key] for key in shown}, n_nonmembers, title, rules=RULES, words=REGIME_WORDS)


def _roc_table(rocs: Mapping[tuple[str, str], Sequence[Roc]]) -> pl.DataFrame:
    from recmia.render.charts import roc_band

    fpr = np.linspace(0, 1, 201)
    frames = []
    for (regime, line), curves in rocs.items():
        feedback, _, attack = line.partition(": ")
        tpr, low, high = roc_band(curves, fpr)
        frame = pl.DataFrame({"fpr": fpr, "tpr": tpr, "low": low, "high": high})
        names = {"feedback": feedback, "regime": regime, "attack": attack}
        frames.append(frame.select(*(pl.lit(value).alias(key) for key, value in names.items()), pl.all()))
    return pl.concat(frames)
