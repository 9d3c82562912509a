"""Defences: what a system can do so that its lists reveal less, and what they promise.

>>> [str(defence) for defence in parse_defences("shorter-lists=20+gumbel=30")]
['shorter-lists=20', 'gumbel=30']
"""

from recmia.defences.base import Defence, Promise, System, WrappingDefence
from recmia.defences.catalogue import (
    DEFENCES,
    AnyDefences,
    DPTraining,
    check_defences,
    name_defences,
    parse_defences,
)
from recmia.defences.mechanisms import FoldInOnly, GumbelTopK, RandomisedHistories, Wrapped

__all__ = [
    "DEFENCES",
    "AnyDefences",
    "DPTraining",
    "Defence",
    "FoldInOnly",
    "GumbelTopK",
    "Promise",
    "RandomisedHistories",
    "System",
    "Wrapped",
    "WrappingDefence",
    "check_defences",
    "name_defences",
    "parse_defences",
]
