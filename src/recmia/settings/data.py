"""Settings of the data."""

from __future__ import annotations

from pydantic import Field

from recmia.settings.base import Settings


class Columns(Settings):
    """Where a table keeps what; an empty name means: look for the usual names."""

    user: str = Field("", description="Column of the user ids (usual: user, user_id, userId, ...).")
    item: str = Field("", description="Column of the item ids (usual: item, item_id, movieId, ...).")
    rating: str = Field("", description="Column of the ratings, if any (usual: rating, score, value, ...).")
    time: str = Field("", description="Column of the time stamps, if any (usual: timestamp, time, ...).")
    text: str = Field("", description="Column of the items' terms, separated by '|', if any (usual: genres, ...).")
    separator: str = Field("", max_length=1, description="Field separator (usual: tab in .tsv, else comma).")


class DataSettings(Settings):
    """Whose data are audited."""

    dataset: str = Field("ml-latest-small", description="Name, file, folder, or synthetic[:SHAPE].")
    min_interactions: int = Field(20, ge=1, description="Users with fewer interactions are dropped.")
    max_users: int = Field(0, ge=0, description="Audit a random sample of so many users; 0 means all.")
    columns: Columns = Columns()


class GroupSettings(Settings):
    """By what the figures are grouped, beside those of all."""

    group_by: tuple[str, ...] = Field(
        (), description="history_length, rarity, popularity, terms, or columns of users_table."
    )
    users_table: str = Field("", description="File of users with further columns, to group by.")
    users_columns: str = Field("", description="Its column of ids, as user=NAME.")
