"""What all settings share: they are frozen, checked values, and their errors say how to mend them.

Settings are made of groups (the data, the game, the attacker, ...). Users name a field without its group: ``k``, not
``game.k``. A group may hold tables (``lfm``, ``mlp``), whose fields are named with the table: ``lfm.epochs``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from recmia.errors import ConfigError, nearest

# In place of a name, where the user passed an object.
IN_MEMORY = "(in memory)"


class Settings(BaseModel):
    """A group or a table of settings: frozen, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ComposedSettings(Settings):
    """Settings that are made of groups.

    `renamed` holds the names of fields by names that they once had, to be told to whoever uses those.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def flat_fields(cls) -> dict[str, tuple[str, FieldInfo]]:
        """The fields of all groups: for each name its group and the field."""
        return {
            name: (group, inner)
            for group, field in cls.model_fields.items()
            for name, inner in _settings_class(field).model_fields.items()
        }

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Check settings from a file, the command line or a caller.

        Parameters
        ----------
        given : mapping
            Values by the flat name of the field; a table is a mapping or the table itself.

        Raises
        ------
        ConfigError
            Naming each bad key, what was found and what is allowed.
        """
        places, groups = cls.flat_fields(), {}
        given = cls._completed(dict(given))
        unknown = [name for name in given if name not in places]
        if unknown:
            hints = {name: f"it is called {new!r}" for name, new in cls.renamed.items()}
            raise ConfigError(
                "; ".join(f"unknown setting {name!r}; {hints.get(name) or nearest(name, places)}" for name in unknown)
            )
        for group, field in cls.model_fields.items():
            # A group's defaults can differ between kinds of audits, so they are taken from here, not from its class.
            kept = {name: getattr(field.default, name) for name in _settings_class(field).model_fields}
            groups[group] = kept | {name: value for name, value in given.items() if places[name][0] == group}
        try:
            return cls.model_validate(groups)
        except ValidationError as error:
            raise ConfigError("; ".join(_complaint(problem, cls) for problem in error.errors())) from None

    @classmethod
    def _completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in what follows from other settings, before anything is checked."""
        return given

    def flat(self) -> dict[str, Any]:
        """All settings as plain values, by flat name: what `parse` takes and a TOML file holds."""
        return {name: value for group in self.model_dump(mode="json").values() for name, value in group.items()}

    def changed(self, **fields: Any) -> Self:
        """The same settings with other values for these fields, checked anew."""
        return self.parse(self.flat() | fields)

    def value(self, key: str) -> Any:
        """The value of a field by its name, such as ``"k"`` or ``"lfm.epochs"``."""
        table, _, name = key.rpartition(".")
        places = self.flat_fields()
        found: Any = getattr(self, places[table or name][0])
        for part in key.split("."):
            found = getattr(found, part)
        return found


def option_of(path: str) -> str:
    """Return the option of the command line that sets a setting.

    Examples
    --------
    >>> option_of("train.command"), option_of("max_unanswered")
    ('--train-command', '--max-unanswered')
    """
    return f"--{path.replace('.', '-').replace('_', '-')}"


def refuse_unknown(what: str, names: Iterable[object], allowed: Iterable[str]) -> None:
    """Raise ValueError for the first name that is not allowed, and name the nearest that is."""
    allowed = tuple(allowed)
    for name in names:
        if name not in allowed:
            raise ValueError(f"unknown {what} {name!r}; {nearest(str(name), allowed)}")


def refuse_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raise ValueError for names that occur more than once."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"named more than once: {', '.join(repeated)}")
    return names


def is_table(field: FieldInfo) -> bool:
    """Tell whether a field is a table of settings."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, Settings)


def _settings_class(field: FieldInfo) -> type[Settings]:
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, Settings)
    return field.annotation


def _complaint(problem: Any, model: type[ComposedSettings]) -> str:
    """One sentence about one problem that pydantic found."""
    group, *path = [str(part) for part in problem["loc"]] or [""]
    name = ".".join(path)
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        inner = _settings_class(model.model_fields[group])
        for part in path[:-1]:
            inner = _settings_class(inner.model_fields[part])
        return f"unknown setting {name!r}; {nearest(path[-1], inner.model_fields)}"
    return f"{name}: {message}; got {problem['input']!r}" if name else message
