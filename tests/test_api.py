"""The public functions: typed keywords, objects in place of names, results that save and show themselves."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import sparse

import recmia
from recmia import (
    AuditResult,
    AuditSettings,
    DefendResult,
    FilesSettings,
    ForgetSettings,
    Interactions,
    SweepResult,
)
from recmia.attacks import Attack, Observation
from recmia.errors import ConfigError, DataError, ProtocolError, RecmiaError, TooFewUsersError
from recmia.metrics import Estimate, MetricSpec, mean_over_runs
from recmia.recommenders.simple import Popularity
from recmia.settings import ComposedSettings, Settings
from recmia.settings.options import AuditOptions, CommonOptions, FilesOptions, ForgetOptions

QUICK: dict[str, Any] = {"regimes": ["fold-in"], "factors": 8, "k": 10, "seeds": 1, "thresholds": False}
AUDITED = "synthetic:120x200x6000"
SIMPLE = QUICK | {"recommender": "popularity", "attacks": ["distance"]}
# Keywords that are parameters of their own, in place of a keyword for the setting of that name.
NAMED = {
    recmia.audit: {"dataset", "shadow", "attacks", "defence", "target"},
    recmia.audit_files: {"interactions", "lists", "members", "shadow", "attacks"},
    recmia.forget: {"interactions", "members", "deleted"},
}


# Settings that the files themselves say; and those of lists and shadow systems, of which forgetting makes no use.
UNUSED = {
    recmia.audit: set[str](),
    recmia.audit_files: {"queries", "query_share", "query_kind"},
    recmia.forget: {"queries", "query_share", "query_kind", "lists", "attacks", "shadow"},
}


# The keywords.
@pytest.mark.parametrize(
    ("function", "model", "options"),
    [
        (recmia.audit, AuditSettings, AuditOptions),
        (recmia.audit_files, FilesSettings, FilesOptions),
        (recmia.forget, ForgetSettings, ForgetOptions),
    ],
)
def test_every_setting_is_a_keyword(function: Any, model: type[ComposedSettings], options: Any) -> None:
    names = set(get_type_hints(options))
    assert names | NAMED[function] == set(model.flat_fields()) - UNUSED[function]
    assert UNUSED[function] <= set(model.flat_fields())
    assert not names & NAMED[function]
    parameters = set(inspect.signature(function).parameters)
    assert NAMED[function] - {"target"} <= parameters
    assert get_type_hints(function)["options"] == options or "Unpack" in str(inspect.signature(function))


@pytest.mark.parametrize(
    ("model", "options"),
    [(AuditSettings, AuditOptions), (FilesSettings, FilesOptions), (ForgetSettings, ForgetOptions)],
)
def test_keywords_have_the_types_of_the_settings(model: type[ComposedSettings], options: Any) -> None:
    for name, hint in get_type_hints(options).items():
        kind: Any = model.flat_fields()[name][1].annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            assert set(get_args(hint)) == {kind, Mapping[str, Any]}, name
        elif get_origin(kind) is tuple:
            assert hint == Sequence[get_args(kind)[0]], name  # type: ignore[misc]
        else:
            assert hint == kind, name
            assert get_origin(hint) is Literal or hint in (int, float, bool, str), name
    assert set(CommonOptions.__annotations__) <= set(options.__annotations__) | set(get_type_hints(options))


@pytest.mark.parametrize("function", [recmia.audit, recmia.audit_files, recmia.sweep, recmia.defend, recmia.report])
def test_parameters_have_types_and_are_documented(function: Any) -> None:
    assert function.__doc__
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        if function in (recmia.audit, recmia.report, recmia.sweep, recmia.defend):
            assert name in function.__doc__, name


def test_progress_has_one_type_everywhere() -> None:
    for function in (recmia.audit, recmia.audit_files, recmia.sweep, recmia.defend):
        hint = inspect.get_annotations(function, eval_str=True)["progress"]
        assert {bool, NoneType} < set(get_args(hint))


def test_unknown_keywords_are_refused_by_the_nearest(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="unknown setting 'sedes'; did you mean 'seeds'"):
        recmia.audit(small, sedes=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="unknown setting 'splitt'"):
        recmia.audit_files("i.csv", "l.csv", "m.csv", splitt=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "data", [pl.DataFrame({"user": [1], "item": [2]}), pd.DataFrame({"user": [1]}), {}, 5], ids=type
)
def test_data_of_another_type_are_refused(data: Any) -> None:
    for run in (recmia.audit, partial(recmia.sweep, {"k": [5]}), partial(recmia.defend, ["shorter-lists=5"])):
        with pytest.raises(
            DataError, match=rf"got {type(data).__name__}: give its columns to recmia.Interactions.from_ar"
        ):
            run(data)


def test_settings_and_single_options_do_not_mix(small: Interactions) -> None:
    chosen = AuditSettings.parse(QUICK)
    calls: list[Any] = [
        lambda: recmia.audit(small, settings=chosen, k=5),
        lambda: recmia.sweep({"k": [5]}, small, settings=chosen, k=5),
        lambda: recmia.defend([], small, settings=chosen, k=5),
        lambda: recmia.audit_files(settings=FilesSettings(), k=5),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="give either settings or single options, not both; got k"):
            call()


def test_what_is_named_beside_settings_counts(small: Interactions) -> None:
    """The data, the recommenders and the attacks can be objects, which settings cannot hold."""
    chosen = AuditSettings.parse(QUICK | {"dataset": "nothing-of-the-kind"})
    result = recmia.audit(small, settings=chosen, recommender="popularity", attacks=["distance"])
    settings = result.settings
    assert (settings.target, settings.shadow, settings.attacker.attacks) == ("popularity", "popularity", ("distance",))
    assert settings.source == "(in memory)"
    again = recmia.audit(small, **SIMPLE)
    assert_frame_equal(again.scores, result.scores, check_exact=True)


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs(small: Interactions, jobs: int) -> None:
    calls: list[Any] = [
        lambda: recmia.audit(small, jobs=jobs),
        lambda: recmia.audit_files("i", "l", "m", jobs=jobs),
        lambda: recmia.sweep({"k": [5]}, small, jobs=jobs),
        lambda: recmia.defend([], small, jobs=jobs),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=f"jobs must be at least 1; got {jobs}"):
            call()


# Objects in place of names.
class ShortHistories(Attack):
    """who has a short history"""

    name = "short-histories"
    needs = "nothing"

    def fit(self, observation: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        return self

    def score(self, observation: Observation) -> Any:
        return -np.diff(observation.histories.indptr).astype(np.float64)


class Mine:
    """A recommender with the interface of implicit: the items with the most interactions first."""

    folds_in = True

    def fit(self, user_items: sparse.csr_matrix) -> None:
        self.order = np.argsort(-np.bincount(user_items.indices, minlength=user_items.shape[1]), kind="stable")

    def recommend(self, userid: Any, user_items: Any, N: int, filter_already_liked_items: bool) -> Any:
        lists = np.full((len(userid), N), -1)
        for number in range(len(userid)):
            history = user_items[[number]].indices
            found = self.order[~np.isin(self.order, history)][:N]
            lists[number, : len(found)] = found
        return lists


def test_an_attack_may_be_an_object(small: Interactions) -> None:
    result = recmia.audit(small, **QUICK | {"recommender": "popularity"}, attacks=["distance", ShortHistories()])
    assert result.settings.attacker.attacks == ("distance", "short-histories")
    by_name = {row.attack: row for row in result.metrics if row.metric == "auc"}
    mine, rule = by_name["short-histories"].value, by_name["history-length"].value
    assert mine is not None
    assert rule is not None
    assert mine == pytest.approx(1 - rule)
    for wrong, words in ((object(), "an attack must be a name, or an object"), (7, "got a int")):
        with pytest.raises(ConfigError, match=words):
            recmia.audit(small, **QUICK, attacks=[wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("mine", [Mine(), Mine, Popularity()], ids=["object", "class", "of recmia's interface"])
def test_a_recommender_may_be_an_object(small: Interactions, mine: Any) -> None:
    result = recmia.audit(small, **QUICK, recommender=mine, attacks=["distance"])
    assert result.settings.target == result.settings.shadow
    assert result.settings.target.endswith("(in memory)")
    beside = recmia.audit(small, **QUICK, recommender="popularity", shadow=mine, attacks=["mlp"], mlp={"epochs": 1})
    assert (beside.settings.target, beside.settings.shadow) == ("popularity", result.settings.shadow)


def test_objects_in_sweeps_and_comparisons(small: Interactions) -> None:
    own: dict[str, Any] = {"recommender": Mine(), "attacks": [ShortHistories()]}
    swept = recmia.sweep({"k": [5, 10]}, small, **QUICK | own)
    assert isinstance(swept, SweepResult)
    assert set(swept.table["attack"]) > {"short-histories"}
    compared = recmia.defend(["shorter-lists=5"], small, **QUICK | own)
    assert isinstance(compared, DefendResult)
    assert compared.table["defence"].unique(maintain_order=True).to_list() == [
        "none", "popularity-only", "shorter-lists=5",
    ]  # fmt: skip


# Progress.
class Terminal(io.StringIO):
    """An error stream that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("progress", "watched", "shown"),
    [(None, True, True), (None, False, False), (False, True, False), (True, False, None)],
)
def test_progress_is_shown_where_somebody_looks(
    small: Interactions, monkeypatch: pytest.MonkeyPatch, progress: bool | None, watched: bool, shown: bool | None
) -> None:
    stream = Terminal() if watched else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    recmia.audit(small, **SIMPLE, progress=progress)
    if shown is not None:
        assert bool(stream.getvalue()) == shown


def test_progress_may_be_a_function(small: Interactions, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int]] = []
    recmia.audit(small, **SIMPLE, progress=lambda *now: told.append(now))
    assert [one[1] for one in told] == sorted(one[1] for one in told)
    assert told[-1][1] == told[-1][2]
    assert all(isinstance(one[0], str) for one in told)
    assert capsys.readouterr() == ("", "")


# Results.
@pytest.fixture(scope="module")
def audited(small: Interactions) -> AuditResult:
    return recmia.audit(
        small, attacks=["list-lr"], recommender="popularity", regimes=["fold-in"], factors=8, k=10, seeds=1,
        n_shadows=8, n_targets=2, held_out=0.2,
    )  # fmt: skip


def test_an_audit_comes_back_from_its_folder(audited: AuditResult, tmp_path: Path) -> None:
    assert audited.save(tmp_path / "run") == tmp_path / "run"
    found = recmia.read_run(tmp_path / "run")
    assert isinstance(found, AuditResult)
    assert found.settings == audited.settings
    assert found.metrics == audited.metrics
    assert found.findings == audited.findings
    assert found.verdict == audited.verdict
    # What reporting took is known when all is written.
    later = ("peak_memory_bytes", "peak_memory_bytes_by_stage")
    assert found.provenance == audited.provenance | {key: found.provenance[key] for key in later}
    assert found.promises == audited.promises
    for name in ("scores", "users", "utilities", "per_user_auc"):
        assert_frame_equal(getattr(found, name), getattr(audited, name), check_exact=True)
    assert found.rocs.keys() == audited.rocs.keys()
    for voice in (str, AuditResult._repr_html_):
        assert voice(found) == voice(audited)
    with pytest.raises(ConfigError, match="exists; name a new one or remove it"):
        found.save(tmp_path / "run")


@pytest.mark.end_to_end
def test_sweeps_and_comparisons_come_back(small: Interactions, tmp_path: Path) -> None:
    results = {
        "sweep": recmia.sweep({"k": [5, 10]}, small, **SIMPLE),
        "defend": recmia.defend(["shorter-lists=5"], small, **SIMPLE | {"recommender": "itemknn"}),
    }
    for name, result in results.items():
        result.save(tmp_path / name)
        found = recmia.read_run(tmp_path / name)
        assert isinstance(found, (SweepResult, DefendResult))
        assert type(found) is type(result)
        assert_frame_equal(found.table, result.table, check_exact=True)
        assert str(found) == str(result)
        assert found._repr_html_() == result._repr_html_()
        assert found.findings == result.findings
        assert result.report(tmp_path / f"{name}.html").read_text().startswith("<!doctype html>")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run folder"):
        recmia.read_run(tmp_path / "none")
    with pytest.raises(
        ConfigError, match=r"is no run folder: looked for forget\.json or run\.json or .*there is nothing"
    ):
        recmia.read_run(tmp_path)


def test_a_notebook_shows_a_piece_of_html(audited: AuditResult) -> None:
    shown = audited._repr_html_()
    assert "<html" not in shown
    assert "<script" not in shown
    assert shown.startswith("<pre")
    for words in ("members", "non-members", "ndcg@10", "AUC"):
        assert words in shown
    for line in audited.verdict.splitlines()[:1]:
        assert f"<p>{line}</p>" in shown
    for row in audited.metrics:
        assert row.attack in shown


def test_ids_in_a_notebook_are_text(small: Interactions) -> None:
    named = Interactions.from_arrays([f"<b>{user}</b>" for user in small.user], small.item)
    leaky = SIMPLE | {"attacks": ["list-lr"], "n_shadows": 8, "n_targets": 20, "regimes": ["popular"]}
    result = recmia.audit(named, **leaky)
    assert "The most exposed: <b>" in result.verdict
    assert "<b>" not in result._repr_html_()
    assert "&lt;b&gt;" in result._repr_html_()


@pytest.mark.end_to_end
def test_a_report_of_a_result_and_of_folders(audited: AuditResult, tmp_path: Path) -> None:
    audited.save(tmp_path / "run")
    of_result = audited.report(tmp_path / "one.html").read_text()
    of_folders = recmia.report([tmp_path / "run", str(tmp_path / "run")], tmp_path / "two.html").read_text()
    assert audited.findings.claim in of_result
    assert audited.findings.claim in of_folders
    with pytest.raises(ConfigError, match="unknown redaction 'hide'"):
        audited.report(tmp_path / "three.html", redact="hide")
    with pytest.raises(ConfigError, match="exists"):
        audited.report(tmp_path / "one.html")
    assert not (tmp_path / "three.html").exists()


def test_a_gate_of_a_result(audited: AuditResult) -> None:
    assert audited.gate("auc=1", "epsilon=20").passed
    assert audited.gate(require_below=["auc=1"]).passed
    assert audited.gate(require_below=["auc=0.5"]).exit_code == 1
    with pytest.raises(ConfigError, match=r"a gate needs a limit, such as auc=0\.6"):
        audited.gate()
    with pytest.raises(ConfigError, match="unknown metric 'auk'"):
        audited.gate("auk=0.5")
    assert audited.findings.grade in audited.gate("auc=1").as_json()


def test_a_metric_of_the_users_own(audited: AuditResult) -> None:
    def gap(member: Any, score: Any, confidence: float) -> Estimate:
        return Estimate(float(score[member].mean() > score[~member].mean()), 0.0, 1.0)

    rows = audited.measure(MetricSpec("gap", "Gap", 1, partial(mean_over_runs, estimate=gap)))
    assert {row.metric for row in rows} == {"gap"}
    assert [row.attack for row in rows] == list(dict.fromkeys(row.attack for row in audited.metrics))
    assert all(row.value in (0.0, 0.5, 1.0) for row in rows)
    without = recmia.audit(AUDITED, **SIMPLE)
    with pytest.raises(ConfigError, match="the metric gap needs thresholds; audit with thresholds = true"):
        without.measure(MetricSpec("gap", "Gap", 1, partial(mean_over_runs, estimate=gap), needs_thresholds=True))


# Errors.
@pytest.mark.parametrize("kind", [ConfigError, DataError, ProtocolError, TooFewUsersError])
def test_errors_about_bad_values_are_value_errors(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)
    assert issubclass(kind, RecmiaError)


def test_they_are_caught_as_such(small: Interactions) -> None:
    with pytest.raises(ValueError, match="factors: Input should be greater than or equal to 1; got 0"):
        recmia.audit(small, factors=0)
    with pytest.raises(ValueError, match="no such file or folder"):
        recmia.audit("./missing.csv")


# What is imported when.
HEAVY = ("numba", "sklearn", "polars", "altair", "scipy", "torch", "matplotlib", "rich.progress")


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "code",
    [
        "import recmia; dir(recmia); recmia.__version__",
        "import recmia; recmia.AuditSettings, recmia.FilesSettings",
        "from recmia.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from recmia.cli import main\ntry: main(['audit', '--help'])\nexcept SystemExit: pass",
    ],
    ids=["recmia", "settings", "--help", "audit --help"],
)
def test_what_is_light_stays_light(code: str) -> None:
    # Help is drawn by rich.
    heavy = HEAVY[:-1] if "cli" in code else HEAVY
    script = f"{code}\nimport sys\nprint('LOADED', [one for one in {heavy} if one in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "LOADED []"


def test_public_names() -> None:
    assert set(recmia.__all__) <= set(dir(recmia))
    for name in recmia.__all__:
        assert getattr(recmia, name) is not None
    assert callable(recmia.audit), "no module takes the place of the function"
    assert callable(recmia.report)
    assert recmia.audit(AUDITED, **SIMPLE).metrics
    with pytest.raises(AttributeError, match="module 'recmia' has no attribute 'nothing'"):
        recmia.nothing  # noqa: B018


def test_the_frame_of_a_sweep_is_polars(small: Interactions) -> None:
    table = recmia.sweep({"target": ["popularity", "random"]}, small, **QUICK, attacks=["distance"]).table
    assert isinstance(table, pl.DataFrame)
    assert table["target"].unique(maintain_order=True).to_list() == ["popularity", "random"]
