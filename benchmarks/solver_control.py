"""How well attacks tell the two solvers of the regime `trained` apart, with all users in training.

    RECMIA_DATA=... python benchmarks/solver_control.py

In `trained`, members are served by the user vectors of the SGD, and non-members by the exact fold-in. Here all users of
a side are in training, and a fair coin decides by which of the two each is served. What an attack finds about the coin
is the difference between the solvers, and not of membership. Everything else is as in an audit with default settings.
Without `RECMIA_DATA`, synthetic data of the size of ml-latest-small are used.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from _results import write_section

import recmia
from recmia.attacks import ShadowPool, run_attack, run_pool_attack
from recmia.attacks.classifiers import VectorClassifier
from recmia.attacks.lists import ListLR
from recmia.data.datasets import load
from recmia.data.interactions import Int32, Interactions
from recmia.game import streams
from recmia.game.observe import ItemSource, observe
from recmia.game.split import draw_shadow_members, split_game
from recmia.metrics import METRICS, Runs, SeedRuns
from recmia.recommenders import LFM
from recmia.settings import AuditSettings

SEEDS = 5
ATTACK_NAMES = ("mlp", "list-lr")
SETTINGS = AuditSettings.parse(
    {"dataset": "ml-latest-small" if os.environ.get("RECMIA_DATA") else "synthetic:ml-latest-small"}
)


def serve_by_coin(data: Interactions, coin: npt.NDArray[np.bool_], path: streams.Path) -> Int32:
    """Return lists of a model trained on all users: by the trained vector where the coin is true, else by fold-in."""
    settings, histories, k = SETTINGS.recommenders, data.csr(), SETTINGS.k
    model = LFM(settings.lfm, factors=settings.factors).fit(data, rng=streams.fit(path))
    return np.where(coin[:, None], model.recommend_members(histories, k), model.recommend(histories, k))


def run_seed(data: Interactions, seed: int) -> dict[str, SeedRuns]:
    """Return the coins of the target side and the scores of each attack."""
    split = split_game(data, rng=streams.split(seed))
    # The split draws members by fair coins: here, these are the coins.
    shadow, target = (side.interactions for side in (split.shadow, split.target))
    coin = split.target.member
    items = ItemSource(shadow, shadow).items(seed, "grey-box", SETTINGS.recommenders, 1)

    served = serve_by_coin(target, coin, streams.target_path(seed, 0))
    shadow_served = serve_by_coin(shadow, split.shadow.member, streams.shadow_path(seed, "grey-box"))
    shadow_scores, (scores,) = run_attack(
        lambda: VectorClassifier("mlp", **SETTINGS.attacker.mlp.model_dump()),
        observe(shadow, shadow_served, items),
        split.shadow.member,
        [observe(target, served, items)],
        rng=streams.attack(seed, "trained", "mlp", "grey-box", pool=False),
    )
    found = {"mlp": SeedRuns((split.shadow.member, shadow_scores), [(coin, scores)])}

    numbers = range(SETTINGS.attacker.n_shadows)
    coins = draw_shadow_members(target.n_users, [streams.pool_members(seed, number) for number in numbers])
    lists = [serve_by_coin(target, coins[one], streams.pool_path(seed, "grey-box", one)) for one in numbers]
    pool = ShadowPool(target.csr(), np.stack(lists), coins, items)
    rng = streams.attack(seed, "trained", "list-lr", "grey-box", pool=True)
    pool_scores, (scores,) = run_pool_attack(ListLR, pool, [pool.observe(served)], rng=rng)
    return found | {"list-lr": SeedRuns((coins.ravel(), pool_scores.ravel()), [(coin, scores)])}


def main() -> None:
    """Measure, and write the section of `RESULTS.md`."""
    source = SETTINGS.source
    data = load(source).interactions
    seeds = [run_seed(data, seed) for seed in range(SEEDS)]
    audit = recmia.audit(source, regimes=["trained"], attacks=list(ATTACK_NAMES), seeds=SEEDS, progress=False)
    audited = {row.attack: row for row in audit.metrics if row.metric == "auc"}
    lines = [
        f"{source}, {SEEDS} seeds, default settings. All users are in training, and a coin picks the SGD's vector or "
        "the exact fold-in: AUC with 95% interval of telling the coin. Beside it, an audit of the regime `trained`.",
        "",
        "| attack | AUC of the coin | AUC of membership in `trained` |",
        "| --- | --- | --- |",
    ]
    for name in ATTACK_NAMES:
        coin = METRICS["auc"].estimate(Runs([one[name] for one in seeds], over_seeds=0.25), 0.95)
        figures = [f"{one.value:.3f} [{one.low:.3f}–{one.high:.3f}]" for one in (coin, audited[name])]
        lines.append(f"| `{name}` | {' | '.join(figures)} |")
    print("\n".join(lines))
    write_section("The two solvers of the regime trained", "python benchmarks/solver_control.py", lines)


if __name__ == "__main__":
    main()
