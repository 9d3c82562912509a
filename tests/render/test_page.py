"""The page: told from run folders alone, safe with any text, and drawn by a real browser that fetches nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import recmia
from recmia import Interactions, audit_files, defend, sweep
from recmia.atomic import write_text
from recmia.attacks import ATTACKS, RULES
from recmia.cli.main import app
from recmia.errors import ConfigError, RecmiaError
from recmia.recommenders import LFM
from recmia.render import charts
from recmia.render.blocks import Figure
from recmia.render.charts import Chart
from recmia.render.page import page
from recmia.render.text import verdict
from recmia.results.audit import AuditResult
from recmia.results.defend import DefendResult
from recmia.results.files import export_files
from recmia.results.findings import most_identified
from recmia.results.folder import read_result, write_result
from recmia.results.setup import resolve
from recmia.results.sweep import SweepResult
from recmia.settings import AuditSettings, FilesSettings
from recmia.settings.recommenders import SGDSettings
from tests.render.helpers import Opened
from tests.render.helpers import defended as frontier_rows

pytestmark = pytest.mark.end_to_end

QUICK: dict[str, Any] = {"factors": 4, "k": 5, "seeds": 1, "n_shadows": 8, "lfm": {"epochs": 2}, "mlp": {"epochs": 3}}
NASTY = "<script>alert(1)</script>"
EVIL = '"><img src=x onerror=alert(2)>'
DAY = "2024-02-29"


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """Users whom the page names have the worst names."""
    users = [f"person-{number:03}" for number in range(60)]
    pairs = [(user, (7 * number + item * item) % 97) for number, user in enumerate(users) for item in range(40)]
    user, item = zip(*pairs, strict=True)
    interactions = Interactions.from_arrays(np.array(user), np.array(item))
    found = recmia.audit(interactions, **QUICK, n_targets=20, attacks=["mlp", "list-lr", "query-lr"], queries=2)
    nasty = [NASTY, EVIL, "</script><script>alert(3)</script>", "`code` & {{ 7 * 7 }}"]
    most = most_identified(found.per_user_auc)["user_id"].head(len(nasty)).to_list()
    named = pl.col("user_id").replace(dict(zip(most, nasty, strict=True)))
    return replace(found, scores=found.scores.with_columns(named), users=found.users.with_columns(named))


@pytest.fixture(scope="module")
def run(result: AuditResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / f"run {NASTY.replace('/', '')}"
    write_result(result, folder)
    return folder


@pytest.fixture(scope="module")
def sweeps(small: Interactions, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    grids: dict[str, dict[str, list[Any]]] = {
        "line": {"k": [2, 5]},
        "names": {"recommender": ["lfm", "popularity"]},
        "map": {"k": [2, 500], "lfm.epochs": [1, 2]},
        "table": {"k": [2], "lfm.epochs": [1], "factors": [2, 4]},
    }
    for name, axes in grids.items():
        folders[name] = tmp_path_factory.mktemp("sweeps") / name
        settings = {**QUICK, "regimes": ["fold-in"], "attacks": ["mlp"]}
        write_result(sweep(axes, small, **settings), folders[name])
    return folders


@pytest.fixture(scope="module")
def defended(small: Interactions) -> DefendResult:
    settings = {**QUICK, "k": 10, "regimes": ["fold-in"], "attacks": ["list-lr"], "held_out": 0.2}
    return defend(["shorter-lists=2", "gumbel=300"], small, **settings)


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return page({run: read_result(run)}, today=DAY)


class Reader(HTMLParser):
    """What a browser would take for elements, and for text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_run_is_read_as_it_was_written(result: AuditResult, run: Path) -> None:
    read = read_result(run)
    assert isinstance(read, AuditResult)
    assert read.settings == result.settings
    assert read.metrics == result.metrics
    assert_frame_equal(read.per_user_auc, result.per_user_auc, check_exact=True)
    assert read.findings == result.findings
    # What reporting took is known when all is written.
    later = ("peak_memory_bytes", "peak_memory_bytes_by_stage")
    assert read.provenance == json.loads(json.dumps(result.provenance)) | {key: read.provenance[key] for key in later}


def test_a_sweep_is_read_as_it_was_written(small: Interactions, tmp_path: Path) -> None:
    made = sweep({"k": [2, 3]}, small, **{**QUICK, "attacks": ["mlp"]})
    write_result(made, tmp_path / "sweep")
    read = read_result(tmp_path / "sweep")
    assert isinstance(read, SweepResult)
    assert (read.settings, read.axes, read.errors) == (made.settings, made.axes, made.errors)
    assert_frame_equal(read.table, made.table, check_exact=True)


def test_text_of_the_data_is_only_ever_text(text: str, run: Path) -> None:
    reader = Reader(text)
    assert [attributes.get("type") for tag, attributes in reader.tags if tag == "script"] == [
        "application/json", None, None,
    ]  # fmt: skip
    assert not [tag for tag, _ in reader.tags if tag in ("img", "iframe", "object", "embed", "base")]
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert NASTY not in text
    assert NASTY in unescape(text)
    assert run.name in unescape(text)
    assert "{{ 7 * 7 }}" in unescape(text), "no text is taken for a template"
    (figures,) = re.findall(r'id="figures">(.*?)</script>', text)
    assert not set("<>&") & set(figures)
    assert NASTY in {user["user"] for user in figure_of(figures, "who-is-exposed-0")["list-lr, fold-in"]["users"]}


def figure_of(figures: str, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(figures)[f"run-1-{name}"]["data"]
    return data


def test_the_page_reaches_for_nothing(text: str) -> None:
    reader = Reader(text)
    (policy,) = [attributes["content"] for tag, attributes in reader.tags if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    for _, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_says_it_all_in_order(text: str, result: AuditResult) -> None:
    headings = [unescape(title) for title in re.findall(r"<h[23][^>]*>(.*?)</h[23]>", text.partition("<script")[0])]
    questions = [unescape(title) for title in re.findall(r"<h4>([^<]*)</h4>", text)]
    assert questions == [
        "What was tested", "What the attacker knows and asks", "Which attacks were run", "How certain the results are",
        "What answers give away", "Who is exposed most", "What the grades mean",
    ]  # fmt: skip
    assert headings == [
        result.findings.claim, "How bad is it?", "What to do now", "When it matters", "What an attacker learns",
        "Every attack in every regime",
        "What an attacker asks, and what comes back", "How many members are found, and with how many errors",
        "Scores of members and non-members", "Who is exposed", "Who is hit harder: figures by group",
        "Comparison with rules that need no model", "For a data-protection impact assessment", "What the names mean",
        "Provenance",
    ]  # fmt: skip
    said = Reader(text).words
    for row in result.metrics:
        if row.metric == "auc":
            assert f"{row.value:.3f} [{row.low:.3f}–{row.high:.3f}]" in said
    assert result.provenance["data"]["fingerprint"] in said
    assert "[lfm]" in said, "the settings are there"
    assert DAY in said
    for line in verdict(result.findings).splitlines():
        assert line in said
    assert "Attacks that ask put parts of what they know of a person's history to the system" in said
    assert "60 queries to each system, 2 a person" in said
    assert result.findings.disclosure in said


def rows_of(text: str, caption: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    (table,) = re.findall(rf'<table aria-label="{re.escape(caption)}.*?</table>', text, re.DOTALL)
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in rows]


def test_a_table_marks_who_asks(text: str) -> None:
    head, *rows = rows_of(text, "At least")
    assert head[:2] == ["Served and attacked", "Attacker"]
    marks = {(row[0], row[1]) for row in rows if len(row) > 1 and row[1]}
    assert {("mlp", "looks"), ("list-lr", "looks"), ("query-lr", "asks")} <= marks
    assert {name for name, mark in marks if mark == "rule"} == {
        name for name in RULES if not ATTACKS[name].regimes and ATTACKS[name].unit == "user"
    }
    # What asks is run only where the system answers strangers.
    assert [row[0] for row in rows].count("query-lr") == 1
    assert [row[0] for row in rows].count("list-lr") == 2


def test_what_comes_back_is_drawn_and_told(text: str, result: AuditResult) -> None:
    head, *rows = rows_of(text, "What answers to queries give away of a history")
    assert head == ["Measure", "members", "non-members"]
    assert rows[0][0] == "the part that was not asked with"
    assert [row[0] for row in rows[1:]] == ["recall@5", "precision@5"]
    cells = {cell for row in rows for cell in row}
    for row in result.disclosures.iter_rows(named=True):
        assert f"{row['value']:.3f} [{row['low']:.3f}–{row['high']:.3f}]" in cells
    reader = Reader(text)
    labels = [attributes["aria-label"] or "" for _, attributes in reader.tags if attributes.get("class") == "chart"]
    for one in result.query_examples:
        (label,) = [label for label in labels if label.startswith(f"One query about {one['users']}: ")]
        assert f"asked with {one['asked']} items of a history, the system names {len(one['hits'])} of the" in label
        assert f"{one['hidden']} hidden ones in an answer of {one['k']} items" in label


def test_a_run_that_only_looks_tells_of_no_answers(small: Interactions) -> None:
    only = recmia.audit(small, **QUICK, regimes=["fold-in"], queries=0)
    said = Reader(page({Path("run"): only})).words
    assert "The attacker only looked at lists, and did not ask the system." in said
    for words in ("What answers give away", "What an attacker asks, and what comes back", "was not asked with"):
        assert words not in said


def test_headings_are_in_order(text: str) -> None:
    levels = [int(tag[1]) for tag, _ in Reader(text).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_chart_has_words_and_a_table(text: str) -> None:
    reader = Reader(text)
    charts = [attributes for tag, attributes in reader.tags if attributes.get("class") == "chart"]
    assert len(charts) == 2 + 2 + 2 + 2 + 2
    assert all(len(chart["aria-label"] or "") > 50 and chart["role"] == "img" for chart in charts)
    assert ("html", {"lang": "en"}) in reader.tags


@pytest.mark.parametrize("redact", ["hash", "omit"])
def test_redacted_ids_are_nowhere(run: Path, redact: str) -> None:
    result = read_result(run)
    assert isinstance(result, AuditResult)
    plain = unescape(page({run: replace(result)}, redact=redact, today=DAY).replace("\\u003c", "<"))
    plain = plain.replace(run.name, "")
    for user in result.users["user_id"]:
        assert user not in plain
    (figures,) = re.findall(r'id="figures">(.*?)</script>', plain)
    shown = {user["user"] for user in figure_of(figures, "who-is-exposed-0")["list-lr, popular"]["users"]}
    if redact == "omit":
        assert shown == {"a user"}
    else:
        assert len(shown) == result.per_user_auc["user_id"].n_unique()
        again = page({run: result}, redact=redact, today=DAY)
        assert not [name for name in shown if name in again], "the secret is drawn anew for each page"


def test_the_same_page_twice(text: str, run: Path) -> None:
    assert page({run: read_result(run)}, today=DAY) == text


@pytest.mark.parametrize(
    ("name", "said", "charts"),
    [
        ("line", "Each line is one attack", 1),
        ("names", "Each line is one attack", 1),
        ("map", "Settings that failed", 1),
        ("table", "With three settings or more there is no figure; see the table.", 0),
    ],
)
def test_sweeps(sweeps: dict[str, Path], name: str, said: str, charts: int) -> None:
    reader = Reader(page({sweeps[name]: read_result(sweeps[name])}))
    assert said in reader.words
    assert "AUC in every setting" in reader.words
    assert len([1 for _, attributes in reader.tags if attributes.get("class") == "chart"]) == charts


def test_defences(defended: DefendResult, tmp_path: Path) -> None:
    write_result(defended, tmp_path / "run")
    read = read_result(tmp_path / "run")
    assert isinstance(read, DefendResult)
    assert read.level == defended.level
    assert_frame_equal(read.table, defended.table, check_exact=True)
    assert_frame_equal(read.sweep.table, defended.sweep.table, check_exact=True)
    assert read.advice == defended.advice
    shown = Reader(page({tmp_path / "run": read}))
    for words_ in ("popularity-only", "shorter-lists=2", "gumbel=300 promises epsilon 300", "NDCG@10", defended.advice):
        assert words_ in shown.words
    assert "Broken promise" not in shown.words
    assert "not resolvable" in shown.words
    assert "Members found" not in shown.words, "with so few users there is nothing to draw"


def test_files_tell_of_members_that_nobody_drew(tmp_path: Path) -> None:
    """Members are those with the longest histories: what tells them apart is not the system's."""
    settings = {**QUICK, "dataset": "synthetic:120x200x6000", "regimes": ["fold-in"], "attacks": ["mlp"]}
    (tmp_path / "files").mkdir()
    export_files(resolve(AuditSettings.parse(settings)), tmp_path / "files")
    names = {"interactions": "interactions.parquet", "lists": "lists.parquet", "members": "longest.csv"}
    histories = pl.read_parquet(tmp_path / "files" / names["interactions"])
    counts = histories.group_by("user").len().sort("len", "user")
    counts.tail(len(counts) // 2).select("user").write_csv(tmp_path / "files" / names["members"])
    files = {key: str(tmp_path / "files" / name) for key, name in names.items()}
    own = FilesSettings.parse({**files, "attacks": ["distance"], "factors": 4, "name": "a <b>shop</b>"})
    result = audit_files(settings=own)
    write_result(result, tmp_path / "run")
    read = read_result(tmp_path / "run")
    assert isinstance(read, AuditResult)
    assert isinstance(read.settings, FilesSettings)
    assert read.settings == result.settings
    shown = Reader(page({tmp_path / "run": read}))
    assert "Members and non-members differ in their histories alone" in shown.words
    assert "Draw members at random" in shown.words
    assert "a <b>shop</b>" in shown.words
    assert "is stated in a file" in shown.words
    assert "--n-targets 20" not in shown.words, "files hold one system"


def test_a_recommender_that_was_in_memory(small: Interactions, tmp_path: Path) -> None:
    result = recmia.audit(
        small,
        recommender=LFM(SGDSettings(epochs=1), factors=4),
        **QUICK,
        attacks=["mlp"],
        regimes=["fold-in"],
        held_out=0.2,
    )
    write_result(result, tmp_path / "run")
    read = read_result(tmp_path / "run")
    assert isinstance(read, AuditResult)
    assert read.settings == result.settings
    assert result.settings.target.endswith("(in memory)")
    said = Reader(page({tmp_path / "run": read})).words
    assert "recmia defend" not in said, "no command finds it again"
    for row in result.utilities.iter_rows(named=True):
        assert f"{row['value']:.3f} [{row['low']:.3f}–{row['high']:.3f}]" in said


def test_several_runs_share_a_page(run: Path, sweeps: dict[str, Path]) -> None:
    reader = Reader(page({folder: read_result(folder) for folder in (run, sweeps["line"])}))
    assert "2 runs" in reader.words
    names = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(names) == len(set(names))
    links = {(attributes.get("href") or "")[1:] for tag, attributes in reader.tags if tag == "a"}
    assert links <= set(names)


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        (("mlp", "list-lr"), "Run again with --n-targets 20."),
        (("mlp",), "No attack was run that can identify single people"),
    ],
)
def test_one_target_says_why_nobody_is_named(result: AuditResult, attacks: tuple[str, ...], said: str) -> None:
    settings = result.settings.changed(n_targets=1, attacks=attacks)
    scores = result.scores.filter((pl.col("side") == "shadow") | (pl.col("run") == 0))
    looked = replace(result, settings=settings, scores=scores, disclosure=pl.DataFrame())
    shown = Reader(page({Path("run"): looked}))
    assert said in shown.words
    assert len([1 for _, attributes in shown.tags if attributes.get("class") == "chart"]) == 6


# --- What is drawn, and how much of it -------------------------------------------------------------------------------


def test_a_million_scores_make_a_small_page(result: AuditResult) -> None:
    """No score is in the page; a run with a thousand times as many users makes it no larger."""
    rng = np.random.default_rng(1)
    n = 20_000
    settings = AuditSettings.parse({**QUICK, "attacks": [], "regimes": ["fold-in"], "thresholds": False})
    frames = [
        pl.DataFrame({"user_id": np.arange(n), "member": rng.random(n) < 0.5, "score": rng.normal(size=n)}).select(
            pl.lit(0).alias("seed"), pl.lit("grey-box").alias("knowledge"), pl.lit("target").alias("side"),
            pl.lit(0).alias("run"), pl.lit("fold-in").alias("regime"), pl.lit(attack).alias("attack"), pl.all(),
        )
        for attack in RULES
    ]  # fmt: skip
    users = pl.DataFrame({"seed": [0], "user_id": [0], "history_length": [1], "rarity": [1.0]})
    made = AuditResult(settings, pl.concat(frames), users, result.provenance)
    assert len(page({Path("run"): made})) < 1_400_000


MEASURES: tuple[Literal["auc", "tpr"], ...] = ("auc", "tpr")


def test_views_of_a_figure_have_all_their_data() -> None:
    """A data set of one view alone, such as the labels of a frontier, must not be lost."""
    views: dict[str, Chart] = {name: charts.frontier(frontier_rows(["fold-in"]), name, 0.6) for name in MEASURES}
    made = Figure.of("a title", "an alternative text", views=views)
    assert set(made.data[""]) == {"values", "labels-auc", "labels-tpr"}
    for name, chart in views.items():
        assert made.specs[name] == chart.spec
        assert {key: made.data[""][key] for key in chart.data} == chart.data
    other = Chart(views["tpr"].spec, {**views["tpr"].data, "values": []})
    with pytest.raises(AssertionError, match="views of 'a title' differ in the data set 'values'"):
        Figure.of("a title", "an alternative text", views={**views, "tpr": other})


def test_picks_of_a_figure_share_its_specification() -> None:
    member, score = np.arange(9) < 3, np.arange(9.0)
    picks = {name: charts.distribution(member, sign * score) for name, sign in (("one", 1), ("other", -1))}
    made = Figure.of("a title", "an alternative text", picks=picks)
    assert set(made.specs) == {""}
    assert made.data == {name: chart.data for name, chart in picks.items()}


# --- Bad input -------------------------------------------------------------------------------------------------------


def damaged(run: Path, folder: Path, name: str) -> Path:
    shutil.copytree(run, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    return folder


@pytest.mark.parametrize("name", ["scores.parquet", "users.parquet", "run.json", "config.toml"])
def test_damaged_and_missing_files(run: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(run, tmp_path / "run", name)
    with pytest.raises(ConfigError, match=re.escape(str(folder))) as caught:
        read_result(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    if name != "run.json":
        with pytest.raises(ConfigError, match=name):
            read_result(folder)


def test_scores_that_do_not_fit_the_settings(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    scores = pl.read_parquet(folder / "scores.parquet")
    scores.filter(pl.col("attack") != "mlp").write_parquet(folder / "scores.parquet")
    with pytest.raises(
        ConfigError, match=r"lacks the scores of grey-box, fold-in, mlp, 0, target, 0, which config.toml"
    ):
        read_result(folder)
    scores.drop("member").write_parquet(folder / "scores.parquet")
    with pytest.raises(ConfigError, match="lacks the columns member; it has seed"):
        read_result(folder)
    scores.with_columns(pl.lit(float("nan")).alias("score")).write_parquet(folder / "scores.parquet")
    with pytest.raises(RecmiaError, match="scores are not finite"):
        read_result(folder)


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run folder"):
        read_result(tmp_path / "missing")
    with pytest.raises(
        ConfigError, match=r"looked for forget.json or run.json or sweep.json or defend.json.*there is nothing"
    ):
        read_result(tmp_path)
    for name in "abcdefg":
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="there is a, b, c, d, e and 2 more"):
        read_result(tmp_path)


def test_the_command(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "run")
    done = CliRunner().invoke(app, ["report", "run", "-o", "out/page.html", "--redact", "omit"])
    assert done.exit_code == 0, done.output
    assert "written to out/page.html" in done.output
    assert [path.name for path in Path("out").iterdir()] == ["page.html"]
    assert "person-010" not in Path("out/page.html").read_text()
    for arguments, said in (
        (["run", "-o", "out/page.html"], "the output file out/page.html exists; name a new one or remove it"),
        (["run", "--redact", "hashed"], "did you mean 'hash'"),
        (
            ["run", "--format", "mdd", "-o", "x"],
            "unknown format 'mdd' of a report; did you mean 'md'? allowed: html, md",
        ),
        (["nowhere"], "no such run folder: nowhere"),
        (["nowhere", "-o", "out/page.html"], "no such run folder: nowhere"),
        (["runs"], "no such run folder: runs; did you mean 'run'?"),
        (["run", "--format", "mdd", "-o", "out/page.html"], "unknown format 'mdd' of a report; did you mean 'md'?"),
        (["run", "-o", "run/run.json/page.html"], "cannot make the output file run/run.json/page.html"),
    ):
        failed = CliRunner().invoke(app, ["report", *arguments])
        assert isinstance(failed.exception, ConfigError)
        assert said in str(failed.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    labels = ["--title", "The shop", "--owner", "Data team", "--period", "2026"]
    printed = CliRunner().invoke(app, ["report", "run", "--format", "md", *labels])
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith("## Membership audit: The shop\n\n**")
    assert "Data team; 2026" in printed.stdout
    for arguments in (["-o", "one.md"], ["--format", "md", "-o", "two.txt"]):
        assert CliRunner().invoke(app, ["report", "run", *labels, *arguments]).exit_code == 0
        assert Path(arguments[-1]).read_text() == printed.stdout
    for runs, file in ((["run"], "run.html"), (["out/../run/"], "out/../run.html"), (["run", "run/."], "report.html")):
        Path(file).unlink(missing_ok=True)
        assert CliRunner().invoke(app, ["report", *runs]).exit_code == 0
        assert Path(file).is_file(), "its name tells which run it is about"
    monkeypatch.chdir("run")
    assert CliRunner().invoke(app, ["report", "."]).exit_code == 0
    assert Path("report.html").is_file()
    monkeypatch.chdir("..")
    named = CliRunner().invoke(app, ["report", "run", *labels, "-o", "named.html"])
    assert named.exit_code == 0, named.output
    assert "<title>Membership audit: The shop</title>" in Path("named.html").read_text()


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "chmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "page.html", "page", new=True)
    assert list(tmp_path.iterdir()) == []


# --- In a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_text(path, text, new=True)
    return path


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path) -> Opened:
    return Opened(browser, file)


ROC = "#run-1-how-many-members-are-found-and-with-how-many-errors-0"


def test_charts_are_drawn_and_nothing_is_fetched(opened: Opened, file: Path) -> None:
    charts = opened.page.locator(".chart")
    assert charts.count() == 10
    for number in range(charts.count()):
        assert charts.nth(number).locator("svg path[d]").count() > 5
    # Three attacks, six rules and a coin; bands for the attacks.
    assert opened.page.locator(f"{ROC} .mark-line path[d]").count() == 10
    assert opened.page.locator(f"{ROC} .mark-area path[d]").count() == 3
    assert opened.asked == [file.as_uri()]
    assert opened.said == []


def test_the_log_switch_works_by_keyboard(opened: Opened) -> None:
    page = opened.page

    def ticks() -> list[str]:
        labels: list[str] = page.locator(f"{ROC} .role-axis-label text").all_text_contents()
        return labels

    assert page.get_attribute(ROC, "data-drawn") == "linear/"
    assert "40%" in ticks()
    linear = page.locator(f"{ROC} .mark-line path").nth(1).get_attribute("d")
    page.get_by_label("Linear").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{ROC}[data-drawn='log/']")
    assert page.get_by_label("Logarithmic").is_checked()
    assert "40%" not in ticks()
    assert "10%" in ticks()
    drawn = page.locator(f"{ROC} .mark-line path").nth(1).get_attribute("d")
    assert drawn != linear
    assert float(drawn[1:].partition(",")[0]) < 1, "from the finest rate that there is"
    page.get_by_label("Linear").click()
    page.wait_for_selector(f"{ROC}[data-drawn='linear/']")
    assert "40%" in ticks()
    assert opened.said == []


def test_curves_can_be_hidden(opened: Opened) -> None:
    page = opened.page
    hidden = f"{ROC} .mark-line path[opacity='0']"
    assert page.locator(hidden).count() == 0
    page.get_by_label("recency", exact=True).first.uncheck()
    page.wait_for_function(f"document.querySelectorAll({hidden!r}).length === 1")
    page.get_by_label("recency", exact=True).first.check()
    page.wait_for_function(f"document.querySelectorAll({hidden!r}).length === 0")


def test_another_attack_is_picked(opened: Opened) -> None:
    chart = "#run-1-scores-of-members-and-non-members-0"
    drawn = opened.page.get_attribute(chart, "data-drawn")
    other = "mlp" if str(drawn).strip("/") != "mlp" else "list-lr"
    form = opened.page.locator("form[data-part=run-1-scores-of-members-and-non-members] select")
    form.select_option(other)
    opened.page.wait_for_selector(f"{chart}[data-drawn='/{other}']")
    assert opened.said == []


def test_what_was_not_run_in_a_regime_is_said_in_its_figure(browser: Any, file: Path) -> None:
    """In popular nobody can ask; a figure that has nothing to draw says so, and draws again what it has."""
    opened = Opened(browser, file)
    page, fold_in, popular = opened.page, *(f"#run-1-scores-of-members-and-non-members-{place}" for place in (0, 1))
    form = page.locator("form[data-part=run-1-scores-of-members-and-non-members] select")
    for turn in range(2):
        form.select_option("query-lr")
        page.wait_for_selector(f"{popular}[data-drawn='/query-lr']")
        page.wait_for_selector(f"{fold_in}[data-drawn='/query-lr']")
        assert page.locator(popular).text_content() == "query-lr was not run here.", turn
        assert page.locator(f"{popular} svg").count() == 0
        assert page.locator(f"{fold_in} svg path[d]").count() > 5
        form.select_option("mlp")
        page.wait_for_selector(f"{popular}[data-drawn='/mlp']")
        page.wait_for_selector(f"{fold_in}[data-drawn='/mlp']")
        assert "was not run" not in (page.locator(popular).text_content() or "")
        assert page.locator(f"{popular} svg path[d]").count() > 5
    # Back and forth at once: what was asked last is shown.
    form.select_option("query-lr")
    form.select_option("mlp")
    page.wait_for_selector(f"{popular}[data-drawn='/mlp']")
    form.select_option("mlp")
    form.select_option("query-lr")
    page.wait_for_selector(f"{popular}[data-drawn='/query-lr']")
    page.wait_for_timeout(300)
    assert page.locator(popular).text_content() == "query-lr was not run here."
    assert opened.said == []


def test_the_attack_that_a_page_opens_with_was_run_somewhere(opened: Opened) -> None:
    """Nothing is drawn of what asks in popular, whatever is picked first."""
    drawn = opened.page.get_attribute("#run-1-scores-of-members-and-non-members-0", "data-drawn")
    assert str(drawn).strip("/") in ("mlp", "list-lr", "query-lr")


def test_a_query_is_drawn_square_by_square(opened: Opened, result: AuditResult) -> None:
    for place, one in enumerate(result.query_examples):
        chart = opened.page.locator(f"#run-1-what-an-attacker-asks-and-what-comes-back-{place}")
        squares = one["asked"] + one["k"] + one["hidden"]
        assert chart.locator("svg .mark-symbol.role-mark path").count() == squares
        texts = chart.locator("svg .mark-text.role-mark text").all_text_contents()
        assert texts == [
            f"asked with {one['asked']} items of the history",
            f"the answer, best first: {one['k']} items",
            f"the hidden part of the history: {len(one['hits'])} of its {one['hidden']} items came back",
        ]


def test_a_script_for_a_name_is_shown_as_text(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.evaluate("document.images.length") == 0
    said = page.evaluate("document.querySelector('main').textContent")
    assert NASTY in said
    points = page.locator("#run-1-who-is-exposed-0 .mark-symbol path")
    (names,) = re.findall(r'id="figures">(.*?)</script>', page.content())
    users = figure_of(names, "who-is-exposed-0")["list-lr, fold-in"]["users"]
    tip = page.locator("#vg-tooltip-element.visible")
    for name in (NASTY, EVIL):
        place = [user["user"] for user in users].index(name)
        points.nth(place).dispatch_event("pointermove")
        assert name in (tip.text_content() or "")
        assert tip.locator("img, script").count() == 0
    assert opened.said == []


@pytest.mark.parametrize("place", [0, 1])
def test_hovering_the_roc_names_every_attack(opened: Opened, place: int) -> None:
    chart, tip = opened.page.locator(f"{ROC[:-1]}{place}"), "#vg-tooltip-element.visible"
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_function(f"document.querySelector({tip!r})?.textContent.includes('recency')")
    said = opened.page.locator(tip).text_content() or ""
    assert "list-lr" in said
    assert ("query-lr" in said) == (place == 0), "nobody is asked about in popular"
    assert "NaN" not in said
    opened.page.mouse.move(0, 0)


def test_light_dark_and_the_button(browser: Any, file: Path, opened: Opened) -> None:
    dark = Opened(browser, file, color_scheme="dark")
    light_page, dark_page = opened.colour("body", "background-color"), dark.colour("body", "background-color")
    assert light_page != dark_page
    lines = f"{ROC} .mark-line path:last-child"
    assert opened.colour(lines, "stroke") != dark.colour(lines, "stroke"), "the charts follow"
    button = dark.page.get_by_role("button", name="Light colours")
    button.focus()
    dark.page.keyboard.press("Enter")
    assert dark.colour("body", "background-color") == light_page
    assert dark.page.get_by_role("button", name="Dark colours").is_visible()
    assert dark.said == []


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, relative luminance."""

    def luminance(colour: str) -> float:
        channels = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Any, file: Path, scheme: str) -> None:
    page = Opened(browser, file, color_scheme=scheme).page

    def rgb(variable: str) -> str:
        return str(page.evaluate(
            "name => { const one = document.body.appendChild(document.createElement('p'));"
            " one.style.color = `var(--${name})`; const shown = getComputedStyle(one).color;"
            " one.remove(); return shown }",
            variable,
        ))  # fmt: skip

    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    for ink, ground in [
        *((ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "well")),
        *((grade, f"{grade}-well") for grade in ("strong", "marked", "slight", "calm")),
    ]:
        assert contrast(rgb(ink), rgb(ground)) >= 4.5, (ink, ground)
    for mark in ("rule", *(f"hue-{number}" for number in range(1, 7))):
        assert contrast(rgb(mark), rgb("card")) >= 3, mark
    # A tile at its strongest, half hue and half card, with its figure.
    halves = [[int(part) for part in re.findall(r"\d+", rgb(name))] for name in ("hue-2", "card")]
    tile = "rgb({}, {}, {})".format(*(round((a + b) / 2) for a, b in zip(*halves, strict=True)))
    assert contrast(tile, rgb("ink")) >= 4.5


def test_a_phone(browser: Any, file: Path) -> None:
    page = Opened(browser, file, viewport={"width": 375, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('.chart svg')].map(one => one.clientWidth))")
    assert 250 < widest < 375
    # Rows of tables are stacked, each figure beside the head of its column.
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(one => one.scrollWidth <= one.clientWidth)")
    heads = page.evaluate(
        "[...document.querySelector('tbody tr:not(.group)').querySelectorAll('td')]"
        ".map(one => getComputedStyle(one, '::before').content)"
    )
    assert heads == [f'"{head}"' for head in rows_of(page.content(), "At least")[0][1:]]


def test_print(browser: Any, file: Path) -> None:
    opened = Opened(browser, file, color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.colour("body") == "rgb(27, 36, 48)", "dark ink, whatever the screen"
    assert not opened.page.get_by_role("button", name="Light colours").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    assert opened.said == []


def test_sweeps_and_defences_in_the_browser(
    browser: Any, sweeps: dict[str, Path], defended: DefendResult, tmp_path: Path
) -> None:
    runs: dict[Path, Any] = {folder: read_result(folder) for folder in sweeps.values()}
    ends = {f"tpr{end}": f"auc{end}" for end in ("", "_low", "_high")}
    defended = replace(defended, table=defended.table.with_columns(**{to: pl.col(of) for to, of in ends.items()}))
    write_text(tmp_path / "sweeps.html", page({**runs, Path("defended"): defended}), new=True)
    opened = Opened(browser, tmp_path / "sweeps.html")
    assert opened.page.locator(".chart").count() == 4
    frontier = "#run-5-leakage-and-recommendation-quality-0"
    assert opened.page.locator(f"{frontier} .mark-symbol path").count() == len(defended.table)
    labels = f"{frontier} .mark-text.role-mark text"
    assert opened.page.locator(labels).all_text_contents() == ["2", "300"]
    opened.page.get_by_label("Members found", exact=True).check()
    opened.page.wait_for_selector(f"{frontier}[data-drawn='tpr/']")
    assert opened.page.locator(labels).all_text_contents() == ["2", "300"], "each view has its labels"
    texts = opened.page.locator("#run-3-what-leaks-by-setting-0 .mark-text.role-mark text").all_text_contents()
    assert sorted(texts)[-2:] == ["failed", "failed"]
    assert len(texts) == 4
    assert opened.said == []


def test_without_scripts_the_figures_are_still_there(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.get_by_text("This chart needs JavaScript; the table holds the same figures.").first.is_visible()
    assert page.get_by_role("heading", level=2).is_visible()
    context.close()
