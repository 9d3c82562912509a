"""The paper's figures, on data that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from recmia import Interactions, audit
from recmia.cache import ArrayStore
from recmia.errors import ConfigError
from recmia.game.plan import plan_from_data
from recmia.metrics import Roc
from recmia.reproduce import FEEDBACK, PANELS, PAPER_AUC, Reproduction, chosen_panels, reproduce, write_reproduction
from recmia.results.setup import resolve
from recmia.results.sweep import cells
from recmia.settings import AuditSettings

QUICK = {"factors": 8, "k": 10, "seeds": 2, "lfm": {"epochs": 2}, "mlp": {"epochs": 2}}


@pytest.fixture(scope="module")
def paper(small: Interactions, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, ArrayStore]:
    store = ArrayStore(tmp_path_factory.mktemp("store"))
    return reproduce(["fig1", "rank-weights", "classifier"], QUICK, dataset=small, store=store), store


def test_every_panel_is_a_grid_of_settings_that_exist() -> None:
    for panel in PANELS.values():
        assert panel.title
        assert cells(AuditSettings.parse(dict(panel.settings)), panel.axes)
    assert len(cells(AuditSettings(), PANELS["fig2"].axes)) == 20


def test_fig3_and_fig2_hold_the_default_so_that_fig1_is_shared() -> None:
    default = AuditSettings()
    assert default.recommenders.factors in PANELS["fig2"].values
    assert default.attacker.mlp.learning_rate in PANELS["fig3-attack"].values
    assert default.recommenders.lfm.learning_rate in PANELS["fig3-lfm"].values


@pytest.mark.parametrize(
    ("names", "words"), [(["fig4"], "did you mean 'fig2'|'fig1'|'fig3"), ([], "no panel is named")]
)
def test_unknown_panels_are_told(names: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen_panels(names)


def test_groups_of_panels() -> None:
    assert [panel.name for panel in chosen_panels(["paper"])] == ["fig1", "fig2", "fig3-attack", "fig3-lfm"]
    assert [panel.name for panel in chosen_panels(["all"])] == list(PANELS)
    assert [panel.name for panel in chosen_panels(["split", "fig1", "split"])] == ["split", "fig1"]


@pytest.mark.end_to_end
def test_the_paper_stands_beside_ours(paper: tuple[Reproduction, ArrayStore], small: Interactions) -> None:
    table = paper[0].comparison
    assert table.select("feedback", "regime", "paper").rows() == [
        ("explicit", "popular", PAPER_AUC),
        ("explicit", "fold-in", None),
        ("implicit", "popular", PAPER_AUC),
        ("implicit", "fold-in", None),
    ]
    single = audit(small, settings=AuditSettings.parse({**QUICK, "attacks": ["mlp"]}))
    ours = {(row.regime, row.attack, row.metric): row.value for row in single.metrics}
    for regime in ("popular", "fold-in"):
        assert table.filter(feedback="implicit", regime=regime)["ours"].item() == ours[regime, "mlp", "auc"]


@pytest.mark.end_to_end
def test_curves_are_those_of_the_audits(paper: tuple[Reproduction, ArrayStore]) -> None:
    curves = paper[0].rocs
    assert {line for _, line in curves} >= {"explicit: mlp", "implicit: mlp", "explicit: shared-list"}
    for found in curves.values():
        assert len(found) == QUICK["seeds"]
        assert all(isinstance(curve, Roc) for curve in found)


@pytest.mark.end_to_end
def test_the_folder_holds_figures_and_data(paper: tuple[Reproduction, ArrayStore], tmp_path: Path) -> None:
    result, _ = paper
    write_reproduction(result, tmp_path / "out")
    names = {f"{panel}.{kind}" for panel in ("fig1", "rank-weights", "classifier") for kind in ("png", "svg", "csv")}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == names | {"fig1-roc.csv", "paper.csv", "config.toml", "reproduce.json"}
    curves = pl.read_csv(tmp_path / "out" / "fig1-roc.csv")
    assert (curves["low"] <= curves["tpr"]).all()
    assert (curves["tpr"] <= curves["high"]).all()
    attacks = pl.read_csv(tmp_path / "out" / "classifier.csv").filter(metric="auc")["attack"].unique()
    assert {"mlp", "naive-bayes", "decision-tree"} <= set(attacks)
    about = json.loads((tmp_path / "out" / "reproduce.json").read_text())
    assert about["rank-weights"]["axes"] == {"rank_weights": ["uniform", "linear"], FEEDBACK: ["explicit", "implicit"]}


@pytest.mark.end_to_end
def test_what_was_done_is_not_done_again(paper: tuple[Reproduction, ArrayStore], small: Interactions) -> None:
    result, store = paper
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.npz")}
    again = reproduce(["fig1", "rank-weights", "classifier"], QUICK, dataset=small, store=store)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.npz")} == before
    assert again.comparison.equals(result.comparison)


@pytest.mark.end_to_end
def test_progress_is_of_all_panels(small: Interactions) -> None:
    told: list[tuple[str, int, int]] = []
    settings = {**QUICK, "seeds": 1}
    reproduce(["rank-weights", "list-length"], settings, dataset=small, progress=lambda *now: told.append(now))
    done, totals = [one[1] for one in told[1:]], {one[2] for one in told[1:]}
    assert done == sorted(done)
    assert totals == {done[-1]}
    assert {one[0].partition(":")[0] for one in told[1:]} == {"rank-weights", "list-length"}


def test_auc_needs_no_thresholds(small: Interactions) -> None:
    settings = {**QUICK, "attacks": ["mlp", "list-lr"], "n_shadows": 8}
    with_them, without = (
        audit(small, settings=AuditSettings.parse({**settings, "thresholds": wanted})) for wanted in (True, False)
    )
    figures = {(row.regime, row.attack, row.metric): row.value for row in with_them.metrics}
    fewer = {(row.regime, row.attack, row.metric): row.value for row in without.metrics}
    # Without shadow users, the numbers of guesses of a bound are paid for.
    same = {key for key in fewer if key[2] != "epsilon"}
    assert {key: figures[key] for key in same} == {key: fewer[key] for key in same}
    assert {metric for _, _, metric in figures.keys() - fewer.keys()} == {"balanced_accuracy"}
    assert without.per_user_auc.equals(with_them.per_user_auc)
    assert "mlp" in str(without)


def test_a_sample_of_the_users_plays(small: Interactions) -> None:
    def sides(max_users: int, seed: int = 0) -> list[list[int]]:
        plan = plan_from_data(resolve(AuditSettings.parse({**QUICK, "max_users": max_users})), small, seed)
        section = plan.sections[0]
        assert section.shadow is not None
        return [one.side.interactions.users.ids.tolist() for one in (section.shadow, section.targets[0])]

    assert [len(side) for side in sides(50)] == [25, 25]
    assert sides(50) == sides(50) != sides(50, seed=1)
    assert sides(0) == sides(120) == sides(10**6)
    assert [len(side) for side in sides(0)] == [60, 60]
