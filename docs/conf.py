"""How Sphinx makes the pages: the task pages beside this file, and an API reference from the docstrings."""

from __future__ import annotations

import inspect
import re
from importlib import metadata
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

project = "recmia"
author = "the authors of recmia"
release = metadata.version("recmia")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"recmia {release}"
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 3
# Names in single backticks are links where they lead somewhere.
default_role = "py:obj"
add_module_names = False
python_maximum_signature_line_length = 100

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False

_REPOSITORY = "https://github.com/recmia/recmia/blob/main/"


def _settings_fields(kind: type[BaseModel]) -> list[str]:
    """Return a list of the fields of settings, which have descriptions in place of docstrings."""
    lines = ["", "**Fields**", ""]
    for name, field in kind.model_fields.items():
        default = "" if field.default is PydanticUndefined else f" (default {field.default!r})"
        plain = not isinstance(field.default, BaseModel)
        told = f": {field.description}" if field.description else ""
        of = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
        lines.append(f"- ``{name}``, {re.sub(r'typing.|recmia[.a-z]+', '', of)}{default if plain else ''}{told}")
    return [*lines, ""]


def _complete(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "class" and inspect.isclass(obj) and issubclass(obj, BaseModel) and obj.model_fields:
        lines += _settings_fields(obj)


def _without_fields(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Settings show their fields in a list, not in a signature that fills a page."""
    settings = what == "class" and inspect.isclass(obj) and issubclass(obj, BaseModel)
    return ("(**fields)" if obj.model_fields else "", None) if settings else (signature, returns)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if name == "model_config" else None


def _link_to_repository(app: Any, name: str, content: list[str]) -> None:
    """Files that are no pages, such as those in benchmarks/, are linked where the repository is."""
    content[0] = re.sub(r"\]\(\.\./(?!docs/)", f"]({_REPOSITORY}", content[0])


def setup(app: Any) -> None:
    """Connect what is done to docstrings and pages."""
    app.connect("autodoc-process-docstring", _complete)
    app.connect("autodoc-process-signature", _without_fields)
    app.connect("autodoc-skip-member", _skip)
    app.connect("source-read", _link_to_repository)
