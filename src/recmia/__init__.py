"""recmia tells whether a recommender system leaks who was in its training data, from the lists alone.

>>> import recmia
>>> result = recmia.audit("synthetic:120x200x6000", regimes=["fold-in"], attacks=["distance"], factors=8, k=10, seeds=1)
>>> [row.metric for row in result.metrics][:2]
['auc', 'tpr@fpr=0.1']

Names are imported when they are first used, so that ``import recmia`` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recmia.api import (
        AuditResult,
        DefendResult,
        ForgetResult,
        SweepResult,
        ask,
        audit,
        audit_files,
        defend,
        forget,
        read_run,
        report,
        sweep,
    )
    from recmia.data.interactions import Interactions
    from recmia.settings import AuditSettings, FilesSettings, ForgetSettings

    __version__: str

_PLACES = {
    **dict.fromkeys(
        (
            "AuditResult", "DefendResult", "ForgetResult", "SweepResult", "ask", "audit", "audit_files", "defend",
            "forget", "read_run", "report", "sweep",
        ),
        "recmia.api",
    ),
    "Interactions": "recmia.data.interactions",
    "AuditSettings": "recmia.settings",
    "FilesSettings": "recmia.settings",
    "ForgetSettings": "recmia.settings",
}  # fmt: skip
__all__ = [
    "AuditResult",
    "AuditSettings",
    "DefendResult",
    "FilesSettings",
    "ForgetResult",
    "ForgetSettings",
    "Interactions",
    "SweepResult",
    "ask",
    "audit",
    "audit_files",
    "defend",
    "forget",
    "read_run",
    "report",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562); look up the version when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("recmia")
    elif name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'recmia' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*globals(), *__all__, "__version__"})
