"""Forms as data: a pydantic model whose fields say how they look, so that page, API and checks are one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo
from starlette.datastructures import FormData, UploadFile

from ..exceptions import UnknownNameError
from .errors import RequestRefusedError, of_validation

#: Where a field's looks are kept in its JSON schema.
LOOKS = "x-form"
#: Longest text of a field that holds no samples; most entries of a list.
TEXT, ENTRIES = 200, 64
#: Commas beside those of samples, opening brackets (of pasted lists, too), braces and colons of a JSON text at most.
COMMAS, LISTS, NAMES = 1000, 1 << 18, 4096
#: Fields of a browser's form at most.
FIELDS = 600

Options = Sequence[tuple[str, str]]
F = TypeVar("F", bound="Form")


class Looks(NamedTuple):
    """How a field looks.

    Attributes
    ----------
    kind : str
        ``text``, ``number``, ``area``, ``select``, ``check``, ``checks`` (several of a list) or ``file``.
    group : str
        The part of the form that it stands in.
    options : sequence of (value, label)
    unit : str
    when : mapping
        Fields and the values of theirs with which this one means something.
    link : str
        Place on the page that explains the formula.
    wide : bool
        Whether it takes a whole line.
    """

    kind: str
    group: str
    options: Options = ()
    unit: str = ""
    when: Mapping[str, Sequence[str]] = {}
    link: str = ""
    wide: bool = False


def looks(
    default: Any, title: str, help_text: str, group: str, kind: str = "number", *, options: Options = (),
    unit: str = "", when: Mapping[str, Sequence[str]] | None = None, link: str = "", wide: bool = False,
    **constraints: Any,
) -> Any:  # fmt: skip
    """Return the declaration of a field: its default, how it looks, and what it admits."""
    if kind in ("text", "select"):
        constraints.setdefault("max_length", TEXT)
    if kind == "checks":
        constraints.setdefault("max_length", ENTRIES)
    look = Looks(kind, group, options, unit, when or {}, link, wide)
    extra: dict[str, Any] = {LOOKS: look}
    if options and kind == "select":
        extra["enum"] = [value for value, _ in options]
    return Field(default, title=title, description=help_text, json_schema_extra=extra, **constraints)


def same(names: Iterable[str]) -> Options:
    """Return options whose labels are their values."""
    return tuple((name, name) for name in names)


class Form(BaseModel):
    """Base of all forms: what is empty counts as not given, and options are checked by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)
    #: The parts of the form that come first, in this order.
    order: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        """Drop what was left empty: a browser sends every field."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None and value != ""}

    @field_validator("*", mode="after")
    @classmethod
    def _known(cls, value: Any, info: ValidationInfo) -> Any:
        look = cls.look(info.field_name or "")
        if look is None or not look.options:
            return value
        known = [name for name, _ in look.options]
        for name in value if isinstance(value, list) else [value]:
            if name not in known:
                title = cls.model_fields[info.field_name or ""].title or ""
                raise ValueError(str(UnknownNameError.of(title.lower(), str(name)[:TEXT], known)))
        return value

    @classmethod
    def look(cls, name: str) -> Looks | None:
        """Return how a field looks; None for what is no field of the page."""
        extra = cls.model_fields[name].json_schema_extra
        found = extra.get(LOOKS) if isinstance(extra, dict) else None
        return found if isinstance(found, Looks) else None

    @classmethod
    def schema_of_api(cls) -> dict[str, Any]:
        """Return the JSON schema without looks."""
        schema = cls.model_json_schema()
        for field in schema["properties"].values():
            field.pop(LOOKS, None)
        return schema

    @classmethod
    def groups(cls) -> dict[str, dict[str, Any]]:
        """Return the fields of each part of the form, in order: name -> what the template shows."""
        found: dict[str, dict[str, Any]] = {group: {} for group in cls.order}
        for name, info in cls.model_fields.items():
            look = cls.look(name)
            if look is not None:
                shown = {"look": look, "title": info.title, "help": info.description}
                found.setdefault(look.group, {})[name] = shown
        return found

    @classmethod
    def lists(cls) -> frozenset[str]:
        """Return the fields that hold several values."""
        return frozenset(name for name, info in cls.model_fields.items() if get_origin(info.annotation) is list)

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, Any]]) -> Self:
        """Return the form that a browser sent: names may repeat where a field holds a list.

        Raises
        ------
        RequestRefusedError
            For what it does not admit.
        """
        lists = cls.lists()
        data: dict[str, Any] = {}
        for name, value in pairs:
            if name in lists:
                data.setdefault(name, []).append(value)
            else:
                data[name] = value
        # A browser does not send boxes that are not ticked: an empty list is what was meant.
        return cls.checked(lambda: cls.model_validate({**{name: [] for name in lists}, **data}))

    @classmethod
    def of_json(cls, body: bytes, entries: int = 1 << 22) -> Self:
        """Return the form that a JSON text holds.

        Parameters
        ----------
        body : bytes
        entries : int
            Most entries of lists, about.

        Raises
        ------
        RequestRefusedError
            For what is no JSON object, and what the form does not admit.
        """
        # An empty list or object takes a hundred times the memory of its text, and the reader holds the interpreter
        # until it is through: what is beyond all measure is counted, which is cheap, and never read.
        if body.count(b",") > entries + COMMAS:
            raise RequestRefusedError(f"At most {entries:,} numbers are taken here; these are more.", status=413)
        if body.count(b"[") > LISTS or body.count(b"{") + body.count(b":") > NAMES:
            raise RequestRefusedError("The request cannot be read: too many lists, or too many names.", status=400)
        return cls.checked(lambda: cls.model_validate_json(body))

    @staticmethod
    def checked(make: Callable[[], F]) -> F:
        """Return what `make` makes, or raise the refusal that a client is told."""
        try:
            return make()
        except ValidationError as error:
            raise of_validation(error.errors(include_url=False, include_input=False)) from None
        except (ValueError, RecursionError) as error:  # no JSON at all, or digits beyond all measure
            raise RequestRefusedError(f"The request cannot be read: {error}", status=400) from None


def parts_of(data: FormData) -> tuple[list[tuple[str, str]], UploadFile | None]:
    """Return the fields of a browser's form, and its file if one was chosen."""
    pairs: list[tuple[str, str]] = []
    file: UploadFile | None = None
    for name, value in data.multi_items():
        if isinstance(value, str):
            pairs.append((name, value))
        elif name != "file":
            raise RequestRefusedError(f"The field {name[:80]!r} takes no file; 'file' does.", status=400)
        elif value.filename:
            file = value
    return pairs, file
