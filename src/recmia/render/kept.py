"""The pictures of an audit, taken from the store where the same were drawn before."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from recmia.game.tasks import Store, digest
from recmia.results.audit import AuditResult

# What draws, beside recmia.
_PACKAGES = ("altair", "vl-convert-python")


def kept_pictures(result: AuditResult, store: Store) -> dict[str, bytes]:
    """Return `recmia.render.pictures.pictures` of an audit; what draws is loaded only if they are not in the store.

    An audit that finds its scores in the store would spend most of its time on pictures that were drawn before.

    Parameters
    ----------
    result : AuditResult
    store : mutable mapping
        Gets the pictures by a digest of all that they show, and of the code that draws them.

    Examples
    --------
    >>> import recmia
    >>> result = recmia.audit("synthetic:120x200x6000", regimes=["fold-in"], attacks=["distance"], k=10, seeds=1)
    >>> store = {}
    >>> drawn = kept_pictures(result, store)
    >>> list(drawn), kept_pictures(result, store) == drawn
    (['roc.png', 'roc.svg'], True)
    """
    key = _key(result)
    kept = store.get(key)
    if kept is not None:
        return {name: content.tobytes() for name, content in kept.items()}
    from recmia.render.pictures import pictures

    drawn = pictures(result)
    store[key] = {name: np.frombuffer(content, np.uint8) for name, content in drawn.items()}
    return drawn


def _key(result: AuditResult) -> str:
    """Return a digest of what pictures of an audit depend on: its figures, names, notes and curves, and the code."""
    curves = hashlib.sha256()
    for one in (one for several in result.rocs.values() for one in several):
        curves.update(np.stack([one.fpr, one.tpr]).tobytes())
    return digest(
        {
            "pictures": result.settings.flat(),
            "source": result.provenance["data"]["source"],
            "attacker": result.provenance["attacker"],
            "metrics": [asdict(row) for row in result.metrics],
            "curves": [curves.hexdigest(), *map(len, result.rocs.values())],
            "code": _code(),
            "packages": {name: version(name) for name in _PACKAGES},
        }
    )


def _code() -> str:
    """Return a digest of all code of recmia: what is changed may draw another picture."""
    found = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".css")):
        found.update(path.read_bytes())
    return found.hexdigest()
