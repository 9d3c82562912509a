"""Attacks: from what an attacker observes to a score of membership for each user.

An observation holds no model and no membership of the audited users. Modules of this package may import `blas`,
`errors`, `seeding` and `observation` of recmia and nothing else, which the lint step checks.

>>> import numpy as np
>>> from recmia.testing import planted_leak
>>> rng = np.random.default_rng(0)
>>> (shadow, member), (target, _) = planted_leak("twin", rng), planted_leak("twin", rng)
>>> shadow_scores, (scores,) = run_attack(lambda: ATTACKS["naive-bayes"].make({}), shadow, member, [target], rng=rng)
>>> scores.shape
(300,)
"""

from recmia.attacks.base import Attack, PoolAttack, cross_scores, run_attack, run_pool_attack
from recmia.attacks.interactions import InteractionAttack
from recmia.attacks.spec import ATTACKS, RULES, AttackSpec, attack_spec, resolve_attack
from recmia.observation import InteractionPool, Items, Observation, ShadowPool

__all__ = [
    "ATTACKS",
    "RULES",
    "Attack",
    "AttackSpec",
    "InteractionAttack",
    "InteractionPool",
    "Items",
    "Observation",
    "PoolAttack",
    "ShadowPool",
    "attack_spec",
    "cross_scores",
    "resolve_attack",
    "run_attack",
    "run_pool_attack",
]
