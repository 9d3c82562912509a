"""recmia tells whether a recommender system leaks who was in its training data, from the lists alone.

>>> import recmia
>>> result = recmia.audit("ml-latest-small", seeds=5)  # doctest: +SKIP
>>> print(result)  # doctest: +SKIP
"""

from importlib.metadata import version

from recmia.audit import AuditResult, audit
from recmia.config import AuditConfig
from recmia.interactions import Interactions

__all__ = ["AuditConfig", "AuditResult", "Interactions", "audit"]
__version__ = version("recmia")
