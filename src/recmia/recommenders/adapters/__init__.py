"""Adapters: models of other libraries as recommenders, one module per library."""

from recmia.recommenders.adapters.base import Adapter
from recmia.recommenders.adapters.cornac import FromCornac
from recmia.recommenders.adapters.implicit import FromImplicit
from recmia.recommenders.adapters.lenskit import FromLensKit
from recmia.recommenders.adapters.rectools import FromRecTools
from recmia.recommenders.adapters.surprise import FromSurprise

ADAPTERS: tuple[type[Adapter], ...] = (FromCornac, FromLensKit, FromSurprise, FromRecTools, FromImplicit)

__all__ = ["ADAPTERS", "Adapter", "FromCornac", "FromImplicit", "FromLensKit", "FromRecTools", "FromSurprise"]
