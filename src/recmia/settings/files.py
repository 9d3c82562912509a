"""Settings of audits of files: which files there are, and what their columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recmia.errors import nearest
from recmia.settings.base import Settings, option_of
from recmia.settings.data import Columns, separator_of

# The columns of each kind of file, of which each can be named.
FILE_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lists": ("user", "item", "rank"),
        "members": ("user", "item", "member"),
        "items": ("item",),
        "answers": ("query", "item", "rank"),
        "deleted": ("user",),
        "users": ("user",),
    }
)


def named_columns(text: str, kind: str) -> dict[str, str]:
    """Return the names of columns that a text such as ``"user=uid,rank=pos"`` gives, by role.

    Parameters
    ----------
    text : str
        With ``separator=;`` or ``separator=tab`` among the columns, also the separator; with ``header=no``, there is no
        header, and names are numbers of columns, from 1.
    kind : str
        Of `FILE_COLUMNS`.

    Raises
    ------
    ValueError
        For an unknown role, one that is named twice, or a part that is not written ROLE=NAME.

    Examples
    --------
    >>> named_columns("user=uid, rank=pos", "lists")
    {'user': 'uid', 'rank': 'pos'}
    """
    allowed = (*FILE_COLUMNS[kind], "separator", "header")
    found: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        role, equals, name = part.partition("=")
        # A tab is no space around a name.
        role, name = role.strip(), name.strip(" ") if role.strip() == "separator" else name.strip()
        if not equals or not name:
            raise ValueError(f"columns are named as ROLE=NAME,..., with {', '.join(allowed)}; found {part.strip()!r}")
        if role not in allowed:
            raise ValueError(f"a file of {kind} has no column {role!r}; {nearest(role, allowed)}")
        if role in found:
            raise ValueError(f"the column {role} is named twice")
        if role == "header" and name not in ("yes", "no"):
            raise ValueError(f"header is yes or no; found {name!r}")
        found[role] = separator_of(name) if role == "separator" else name
    return found


def _columns_of(kind: str) -> str:
    return f"Its columns, as {','.join(f'{role}=NAME' for role in FILE_COLUMNS[kind])}."


class FileNames(Settings):
    """The files of an audit of files; see `recmia.results.files`."""

    interactions: str = Field("", description="Histories of the audited users, members and others: file or data set.")
    members: str = Field("", description="Who of them is in the training data: user ids, or columns user, member.")
    members_columns: str = Field("", description=_columns_of("members"))
    lists: str = Field("", description="What each of them is shown: columns user, item, rank.")
    lists_columns: str = Field("", description=_columns_of("lists"))
    questions: str = Field("", description="Folder that recmia ask wrote: questions and their key.")
    answers: str = Field("", description="What the system answers: columns query, item, rank.")
    answers_columns: str = Field("", description=_columns_of("answers"))
    max_unanswered: float = Field(0.05, ge=0, le=1, description="Share of questions left without answer.")
    reference_interactions: str = Field("", description="Users to train references on (else those not asked about).")
    reference_users: int = Field(20_000, ge=10, description="Most users to train references on; drawn of more.")
    reference_answers: str = Field(
        "", description="What the system answers when trained without the audited users, in place of references."
    )
    items: str = Field("", description="Ids of further items that lists or answers may hold.")
    items_columns: str = Field("", description=_columns_of("items"))
    shadow_interactions: str = Field(
        "", description="Histories for the attacker's own system (else those of the audited users)."
    )
    shadow_members: str = Field("", description="Who of those its training data hold (else drawn at random).")
    shadow_lists: str = Field("", description="What it shows them (else it is trained and served here).")
    pool_lists: str = Field(
        "", description="Pattern of files, one a shadow system, of lists for the audited users (else served here)."
    )
    pool_members: str = Field("", description="Pattern of files, sorted likewise, of who each was trained on.")
    columns: Columns = Columns()

    @field_validator("members_columns", "lists_columns", "answers_columns", "items_columns")
    @classmethod
    def _known_columns(cls, text: str, info: ValidationInfo) -> str:
        assert info.field_name is not None
        named_columns(text, info.field_name.removesuffix("_columns"))
        return text

    def named(self, kind: str) -> dict[str, str]:
        """The columns of a kind of file that were named, by role."""
        return named_columns(getattr(self, f"{kind}_columns"), kind)

    @model_validator(mode="after")
    def _go_together(self) -> FileNames:
        needed = {
            "interactions": "the histories of the audited users",
            "members": "who of the audited users is in the training data: without it no attack can be graded",
        }
        for name, words in needed.items():
            if not getattr(self, name):
                raise ValueError(f"{name} ({option_of(name)}) is needed: {words}")
        if not (self.lists or self.answers):
            raise ValueError(
                "answers or lists are needed: answers to the questions that recmia ask wrote (--answers, --questions), "
                "or what the audited users are shown (--lists)"
            )
        for one, others in {
            "questions": ["answers"],
            "answers": ["questions"],
            "reference_interactions": ["answers"],
            "reference_answers": ["answers"],
            "shadow_members": ["shadow_interactions"],
            "shadow_lists": ["shadow_interactions", "shadow_members"],
            "pool_lists": ["pool_members"],
            "pool_members": ["pool_lists"],
        }.items():
            missing = [other for other in others if getattr(self, one) and not getattr(self, other)]
            if missing:
                options = " ".join(map(option_of, missing))
                raise ValueError(f"{one} needs {' and '.join(missing)} beside it: {options}")
        if self.reference_interactions and self.reference_answers:
            raise ValueError("give reference_interactions, to train references on, or reference_answers, not both")
        return self

    @model_validator(mode="after")
    def _each_once(self) -> FileNames:
        # Histories of one file can be those of the audited users and of the shadow system.
        given: dict[str, str] = {}
        for name in ("interactions", "members", "lists", "answers", "reference_interactions", "reference_answers",
                     "items", "shadow_members", "shadow_lists"):  # fmt: skip
            file = getattr(self, name)
            if file and file in given:
                raise ValueError(f"{name} and {given[file]} are the same file, {file}; each is a file of its own")
            given[file] = name
        return self


class ForgettingSettings(Settings):
    """Whose data were deleted, and what counts as forgotten."""

    deleted: str = Field("", description="Whose data were deleted from the system: user ids.")
    deleted_columns: str = Field("", description=_columns_of("deleted"))
    margin: float = Field(
        0.3, gt=0, lt=1, description="Share of the deleted users, still remembered, that is to be ruled out."
    )

    @field_validator("deleted_columns")
    @classmethod
    def _known_columns(cls, text: str) -> str:
        named_columns(text, "deleted")
        return text

    @property
    def named(self) -> dict[str, str]:
        """The columns that were named, by role."""
        return named_columns(self.deleted_columns, "deleted")

    @model_validator(mode="after")
    def _needed(self) -> ForgettingSettings:
        if not self.deleted:
            raise ValueError("deleted (--deleted) is needed: a file of the users whose data were deleted")
        return self
