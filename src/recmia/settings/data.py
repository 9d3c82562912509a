"""Settings of the data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError, field_validator

from recmia.errors import ConfigError, nearest
from recmia.settings.base import Settings


def separator_of(text: str) -> str:
    r"""Return the separator that a text means: one ASCII character, ``::``, or ``tab`` (also written ``\\t``).

    Raises
    ------
    ValueError
        For any other text.

    Examples
    --------
    >>> separator_of("tab"), separator_of(";")
    ('\t', ';')
    """
    meant = "\t" if text in ("tab", "\\t") else text
    if (len(meant) > 1 and meant != "::") or not meant.isascii():
        raise ValueError(f"the separator must be one ASCII character, ::, or tab; found {text!r}")
    return meant


class Columns(Settings):
    """Where a table keeps what; an empty name means: look for the usual names.

    Where there is no header, names are numbers of columns, from 1.
    """

    user: str = Field("", description="Column of the user ids (usual: user, user_id, userId, ...).")
    item: str = Field("", description="Column of the item ids (usual: item, item_id, movieId, ...).")
    rating: str = Field("", description="Column of the ratings, if any (usual: rating, score, value, ...).")
    time: str = Field("", description="Column of the time stamps, if any (usual: timestamp, time, ...).")
    position: str = Field("", description="Column of the places of events in the histories (usual: position).")
    text: str = Field("", description="Column of the items' terms, separated by '|', if any (usual: genres, ...).")
    separator: str = Field("", description="Field separator, as ; or tab or :: (usual: told by the lines).")
    header: bool = Field(
        True, description="Whether text has a header; without one, columns are named by number, from 1."
    )

    @field_validator("separator")
    @classmethod
    def _one_byte(cls, text: str) -> str:
        return separator_of(text)

    @classmethod
    def of(cls, names: Mapping[str, Any]) -> Columns:
        """Return columns by these names.

        Raises
        ------
        ConfigError
            For an unknown column, or a separator that cannot be.
        """
        unknown = [name for name in names if name not in cls.model_fields]
        if unknown:
            raise ConfigError(f"unknown setting {f'columns.{unknown[0]}'!r}; {nearest(unknown[0], cls.model_fields)}")
        try:
            return cls.model_validate(dict(names))
        except ValidationError as error:
            first = error.errors()[0]
            words = str(first["msg"]).removeprefix("Value error, ")
            raise ConfigError(f"columns.{'.'.join(map(str, first['loc']))}: {words}; got {first['input']!r}") from None


class DataSettings(Settings):
    """Whose data are audited."""

    dataset: str = Field("ml-latest-small", description="Name, file, folder, or synthetic[:SHAPE].")
    min_interactions: int = Field(20, ge=1, description="Users with fewer interactions are dropped.")
    max_users: int = Field(0, ge=0, description="Audit a random sample of so many users; 0: all.")
    columns: Columns = Columns()


# What every audit of a unit can be grouped by.
GROUPINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"users": ("history_length", "rarity"), "interactions": ("popularity", "history_length", "terms")}
)


class GroupSettings(Settings):
    """By what the figures are grouped, beside those of all."""

    group_by: tuple[str, ...] = Field(
        (), description="history_length, rarity, popularity, terms, or columns of these tables."
    )
    users_table: str = Field("", description="File of users with further columns, to group by.")
    users_columns: str = Field("", description="Its column of ids, as user=NAME.")
    items_table: str = Field("", description="File of items with further columns; a title is shown.")

    def further(self, unit: str) -> tuple[str, ...]:
        """Return the columns of the tables of users and items that figures are grouped by.

        Raises
        ------
        ValueError
            For what belongs to another unit, and for a column without a table.
        """
        own = GROUPINGS[unit]
        others = {name for names in GROUPINGS.values() for name in names if name not in own}
        found = tuple(name for name in self.group_by if name not in own)
        given = self.users_table or (self.items_table and unit == "interactions")
        wrong = [name for name in found if name in others and not given]
        if wrong:
            raise ValueError(f"with unit = {unit}, figures are grouped by {', '.join(own)}; got {', '.join(wrong)}")
        if found and not given:
            tables = "users_table" if unit == "users" else "users_table or items_table"
            raise ValueError(
                f"group_by = {', '.join(found)}: none of {', '.join(own)}, so that it is a column of {tables}, "
                "which is not given"
            )
        return found
