"""What a client is told when a request is refused: one message, and the fields that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..exceptions import QEngineError
from ..report.escape import shortened, shown

#: How the engine's messages begin (or what they hold) -> the field of the form that they are about.
FIELD_OF = tuple(
    (re.compile(pattern), field)
    for pattern, field in (
        (r"^values: ", "values"),
        (r"^file ", "file"),
        (r"^bits ", "bits"),
        (r"^(unknown )?percentile|^a percentile", "percentile"),
        (r"^seed ", "seed"),
        (r"narrow must be False", "narrow"),
        (r"^group ", "group"),
        (r"^axis |channels along axis|axis must be", "axis"),
        (r"custom range", "granularity"),
        (r"^of the range, lo", "high"),
        (r"^the range |^range", "range"),
        (r"method |'entropy'|^entropy", "range"),
        (r"^convention |zero point outside", "convention"),
        (r"^input_scale", "input_scale"),
        (r"^weight_scale", "weight_scale"),
        (r"^output_scale", "output_scale"),
        (r"^(the )?shift ", "shift"),
        (r"^(the )?(multiplier|value|real)", "multiplier"),
        (r"^zero_point", "zero_point"),
        (r"^acc", "acc"),
        (r"^pairs", "pairs"),
        (r"^x |must hold (at least one|a finite) sample|finite", "values"),
    )
)
#: Kinds of pydantic's errors -> plain words.
WORDS = {
    "less_than_equal": "At most {le} is possible.", "greater_than_equal": "At least {ge} is needed.",
    "int_parsing": "A whole number is needed.", "int_from_float": "A whole number is needed.",
    "int_type": "A whole number is needed.", "int_parsing_size": "This number has too many digits.",
    "float_parsing": "A number is needed.", "float_type": "A number is needed.",
    "finite_number": "A finite number is needed.", "bool_parsing": "Yes or no is needed.",
    "bool_type": "Yes or no is needed.", "string_type": "Text is needed.", "list_type": "A list is needed.",
    "string_too_long": "At most {max_length} characters are taken.",
    "too_long": "At most {max_length} entries are taken.",
    "extra_forbidden": "There is no such field.",
}  # fmt: skip
#: Longest message; a name that a client sent may be part of it.
LONGEST = 600


class RequestRefusedError(Exception):
    """A request that is not answered.

    Attributes
    ----------
    status : int
        HTTP status, always 4xx: the request is at fault.
    message : str
    fields : dict
        Field -> what is wrong with it.
    """

    def __init__(self, message: str, fields: Mapping[str, str] | None = None, status: int = 422) -> None:
        super().__init__(message)
        self.status = status
        self.message = shortened(shown(message), LONGEST)
        self.fields = {name: shortened(shown(text), LONGEST) for name, text in (fields or {}).items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"error": {"message": self.message, "fields": self.fields}}


def refused_field(field: str, message: str, status: int = 422) -> RequestRefusedError:
    """Return the refusal of one field."""
    return RequestRefusedError(message, {field: message}, status)


def of_engine(error: QEngineError, known: Iterable[str]) -> RequestRefusedError:
    """Return the refusal for an error of the engine: its words, at the field of the form that they are about."""
    text, names = str(error), set(known)
    field = next((name for pattern, name in FIELD_OF if name in names and pattern.search(text)), None)
    return RequestRefusedError(text, {} if field is None else {field: text})


def of_validation(errors: Iterable[Mapping[str, Any]]) -> RequestRefusedError:
    """Return the refusal for what pydantic found."""
    fields: dict[str, str] = {}
    rest: list[str] = []
    for error in errors:
        place = [str(part) for part in error["loc"]]
        text = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] in WORDS:
            text = WORDS[error["type"]].format(**error.get("ctx", {}))
        text = text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
        if place:
            fields.setdefault(place[0], text)
        else:
            rest.append(text)
    message = " ".join([*rest, *(f"{name}: {text}" for name, text in fields.items())][:4])
    return RequestRefusedError(message or "The request cannot be read.", fields)
