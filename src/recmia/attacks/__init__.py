"""Attacks: functions of observations, which hold no model and no labels of the target.

Nothing in here may import the rest of recmia but `errors`, `seeding` and `observation`; the lint step checks it.
"""

from recmia.attacks.base import Attack, PoolAttack, run_attack, run_pool_attack
from recmia.attacks.baselines import BASELINES, Baseline
from recmia.attacks.classifiers import CLASSIFIERS, MLPSettings, VectorClassifier
from recmia.attacks.likelihood import POOL_ATTACKS
from recmia.attacks.shadow_free import SHADOW_FREE, Distance, KMeans

__all__ = [
    "BASELINES",
    "CLASSIFIERS",
    "POOL_ATTACKS",
    "SHADOW_FREE",
    "Attack",
    "Baseline",
    "Distance",
    "KMeans",
    "MLPSettings",
    "PoolAttack",
    "VectorClassifier",
    "run_attack",
    "run_pool_attack",
]
