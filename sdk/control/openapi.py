"""The documents of the control API, made from the table and from the types that it names: OpenAPI 3.1, and docs/api.md,
written from that for people to read. `tally api` prints both."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from tallystick import __version__
from tallystick.sdk.control import app_views, network_views, views
from tallystick.sdk.control.faults import STATUSES
from tallystick.sdk.control.kinds import REASONS
from tallystick.sdk.control.operations import GET, NAMES, SUBJECTS, Empty, Needs, Operation, operations
from tallystick.sdk.control.views import Accepted, ErrorAnswer, IncomingInfo

Schema = dict[str, Any]

_UNKNOWN = {"app": "unknown-app", "channel": "unknown-channel", "payment_hash": "unknown-hash"}
"""The code for a name in a path that nothing has."""

JSON, LINES = "application/json", "application/x-ndjson"

ABOUT = """HTTP on loopback, for the node's own user: the address is in `control.url`, the token in `control.token`
of the data directory, both new at each start. Amounts are JSON integers of up to 128 bits, in the smallest unit:
read them with a parser that keeps those beyond 2**53 as they are. Times are Unix seconds. Fields that a request does
not know are refused; an answer may have more fields in a later version. What takes long goes on if the client leaves.
Until the node has reached its chain, only reading is answered, and stopping. Bodies have at most 16,384 bytes."""

DESCRIPTIONS = {
    400: "The request is not what this takes.",
    401: "The token is missing, or another one.",
    404: "There is no such channel, app, invoice or payment.",
    409: "It cannot be done as things are; of payments, the code is the reason.",
    410: "What was asked for is not kept any more.",
    413: "The body is too large.",
    500: "The node met a fault of the program or of its disk.",
    502: "The peer or the chain node did not do its part.",
    503: "The node stops, or its chain node does not answer.",
    504: "Time is over, and it may still happen.",
}


@functools.cache
def document() -> Schema:
    """Return the document."""
    schemas = _schemas()
    paths: dict[str, Schema] = {}
    for one in operations():
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    queries = {one.asked.__name__ for one in operations() if one.method == GET or one.asked is Empty}
    about = " ".join(ABOUT.split())
    told = {
        "openapi": "3.1.0",
        "info": {"title": "Tallystick control API", "version": __version__, "description": about},
        "servers": [{"url": "/", "description": "The address in `control.url`."}],
        "security": [{"token": []}],
        "tags": [{"name": inspect.getdoc(subject)} for subject in SUBJECTS],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in queries},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The content of `control.token`."}
            },
        },
    }
    pure: Schema = json.loads(json.dumps(told))  # lists instead of tuples, as whoever reads it will find it
    return pure


def faults_of(operation: Operation[Any, Any]) -> dict[int, list[str]]:
    """Return the codes with which an operation may fail, by their status."""
    codes = ["unauthorized", "program-fault", "store-error", "stopping", *operation.faults]
    if operation.asked is not Empty or operation.names:
        codes.append("invalid-input")
    if operation.method != GET:
        codes.append("failed")
        codes += ["malformed", "too-large"] if operation.asked is not Empty else []
    if operation.needed is Needs.CHAIN:
        codes.append("chain-unavailable")
    codes += [_UNKNOWN[name] for name in operation.names if name in _UNKNOWN]
    found: dict[int, list[str]] = {}
    for code in codes:
        status = STATUSES[code]
        if code not in found.setdefault(status, []):
            found[status].append(code)
    if set(REASONS) <= set(operation.faults):  # a payment that met a fault of the program is one that failed
        found[409].append("program-fault")
    return dict(sorted(found.items()))


def _operation(operation: Operation[Any, Any], schemas: dict[str, Schema]) -> Schema:
    subject = next(each for each in SUBJECTS if operation in vars(each).values())
    told: Schema = {"operationId": operation.name, "tags": [inspect.getdoc(subject)], "summary": operation.does}
    told["parameters"] = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        for name, (text, schema) in NAMES.items()
        if name in operation.names
    ]
    asked = schemas.get(operation.asked.__name__, {})
    if operation.method == GET:
        told["parameters"] += [_parameter(name, schema) for name, schema in asked["properties"].items()]
    elif operation.asked is not Empty:
        told["requestBody"] = {
            "required": bool(asked["required"]),
            "content": _content({"$ref": _ref(operation.asked)}, schemas),
        }
    answer = msgspec.json.schema_components([operation.answer], ref_template=_REF)[0][0]
    answers: Schema = {str(operation.status): {"description": "Done.", "content": _content(answer, schemas)}}
    if operation.has_lines:
        lines = {"description": f"With `follow`: one `{IncomingInfo.__name__}` a line."}
        answers[str(operation.status)]["content"] |= {LINES: {"schema": lines}}
    if operation.is_late:
        later = _content({"$ref": _ref(Accepted)}, schemas)
        answers["202"] = {"description": "With `wait: false`: it is on its way.", "content": later}
    for status, codes in faults_of(operation).items():
        code = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
        example = {"error": {"code": codes[0], "text": DESCRIPTIONS[status]}}
        refused = {"schema": {"allOf": [{"$ref": _ref(ErrorAnswer)}, code]}, "example": example}
        answers[str(status)] = {"description": DESCRIPTIONS[status], "content": {JSON: refused}}
    return told | {"responses": answers}


def _parameter(name: str, schema: Schema) -> Schema:
    """Return a word of a query. One that may be None is just left out."""
    text = schema.pop("description", "")
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    return {"name": name, "in": "query", "required": False, "schema": schema} | ({"description": text} if text else {})


def _content(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    return {JSON: {"schema": schema, "example": example_of(schema, schemas)}}


_REF = "#/components/schemas/{name}"


def _ref(kind: type) -> str:
    return _REF.format(name=kind.__name__)


def _schemas() -> dict[str, Schema]:
    """Return the schemas of all types, with the text that stands below each field."""
    kinds = [kind for one in operations() for kind in (one.asked, one.answer)]
    _, found = msgspec.json.schema_components([*kinds, Accepted, ErrorAnswer], ref_template=_REF)
    named = vars(views) | vars(network_views) | vars(app_views)
    for name, schema in found.items():
        kind = named.get(name)
        if kind is None or "properties" not in schema:  # an enumeration, or what is asked where there is nothing to say
            continue
        for field, text in _texts(kind).items():
            schema["properties"][field]["description"] = text
        for pair in schema["properties"].values():
            if "prefixItems" in pair:  # of two alike: so older tools understand it, too
                pair["items"] = pair.pop("prefixItems")[0]
        if not kind.__struct_config__.forbid_unknown_fields:  # an answer, in which nothing is left out
            schema["required"] = list(schema["properties"])
    return found


def _texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text below each field of a struct, as it stands in the source."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base.__struct_fields__:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, below in zip(body.body, body.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match below:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            texts[field.target.id] = " ".join(text.split())
    return texts


def example_of(schema: Schema, schemas: dict[str, Schema]) -> Any:
    """Return what a schema could describe."""
    match schema:
        case {"$ref": str(ref)}:
            return example_of(schemas[ref.rpartition("/")[2]], schemas)
        case {"default": default}:
            return default
        case {"examples": [example, *_]} | {"enum": [example, *_]}:
            return example
        case {"anyOf": [inner, *_]} | {"allOf": [inner, *_]}:
            return example_of(inner, schemas)
        case {"type": "array", "items": inner}:
            return [example_of(inner, schemas)] * schema.get("minItems", 1)
        case {"type": "object"}:
            return {name: example_of(inner, schemas) for name, inner in schema.get("properties", {}).items()}
    return {"string": "", "boolean": True}.get(schema.get("type", ""), 0)


PAGE_HEAD = """# The control API

Made from the table in `sdk/control/operations.py`: `tally api > docs/api.md` writes this page anew. `tally api
--openapi` prints the same as an OpenAPI 3.1 document, and a running node answers it at `GET /openapi.json`.
"""

PAGE_ERRORS = """## Errors

The answer to a request that came to nothing is `{"error": {"code": …, "text": …}}`. A code never changes its meaning;
nobody matches on the text. Every request may be answered with 401, 500, and 503 once the node stops; what else may be
is in the document.
"""


def page() -> str:
    """Return the page."""
    told = document()
    parts = [PAGE_HEAD, ABOUT + "\n"]
    for tag in told["tags"]:
        parts.append(f"## {tag['name']}\n")
        parts.append("| request | takes | answers | |\n| --- | --- | --- | --- |")
        for path, methods in told["paths"].items():
            parts += [_row(path, name, one) for name, one in methods.items() if tag["name"] in one["tags"]]
        parts.append("")
        for path, methods in told["paths"].items():
            queries = [one for one in methods.get("get", {}).get("parameters", ()) if one["in"] == "query"]
            if queries and tag["name"] in methods["get"]["tags"]:
                parts += [f"In the query of `GET {path}`:\n", *map(_query, queries), ""]
    parts += [PAGE_ERRORS, "| status | codes | |\n| --- | --- | --- |", *_codes(told), ""]
    parts.append("## Types\n")
    for name, schema in told["components"]["schemas"].items():
        parts += _type(name, schema)
    return "\n".join(parts).rstrip() + "\n"


def _row(path: str, method: str, one: Schema) -> str:
    query = [each for each in one["parameters"] if each["in"] == "query"]
    takes = ", ".join(f"`{each['name']}`" for each in query)
    if "requestBody" in one:
        takes = _kind(one["requestBody"]["content"][JSON]["schema"])
    done = next(answer for status, answer in one["responses"].items() if status.startswith("2"))
    answers = _kind(done["content"][JSON]["schema"])
    late = "; 202 with `wait: false`" if len([each for each in one["responses"] if each.startswith("2")]) > 1 else ""
    return f"| `{method.upper()} {path}` | {takes} | {answers}{late} | {one['summary']} |"


def _query(word: Schema) -> str:
    default = word["schema"].get("default")
    own = f", {_value(default)} by itself" if default is not None else ""
    return f"- `{word['name']}`: {_kind(word['schema'])}{own}. {word.get('description', '')}".rstrip()


def _codes(told: Schema) -> Iterator[str]:
    found: dict[str, dict[str, None]] = {}
    for methods in told["paths"].values():
        for one in methods.values():
            for status, answer in one["responses"].items():
                if not status.startswith("2"):
                    parts = answer["content"][JSON]["schema"]["allOf"]
                    codes = parts[1]["properties"]["error"]["properties"]["code"]["enum"]
                    found.setdefault(status, {}).update(dict.fromkeys(codes))
    for status in sorted(found):
        yield f"| {status} | {', '.join(f'`{code}`' for code in found[status])} | {DESCRIPTIONS[int(status)]} |"


def _type(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}\n"
    yield schema.get("description", "") + "\n"
    if "properties" not in schema:
        yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.\n"
        return
    yield "| field | type | |\n| --- | --- | --- |"
    for field, told in schema["properties"].items():
        needed = "" if field in schema["required"] else f", {_value(told['default'])} by itself"
        yield f"| `{field}` | {_kind(told)}{needed} | {told.get('description', '')} |"
    yield ""


def _kind(schema: Schema) -> str:
    """Return a schema in words."""
    match schema:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": inners}:
            return " or ".join(_kind(inner) for inner in inners)
        case {"items": inner, "maxItems": most}:
            return f"{most} of {_kind(inner)}"
        case {"type": "array", "items": inner}:
            return f"list of {_kind(inner)}"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
    kind: str = {"string": "text", "boolean": "true or false", "object": "object", "null": "null"}.get(
        schema["type"], "number" if schema["type"] == "number" else "whole number"
    )
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    return kind if high is None else f"{kind} from {low} to {_bound(high)}"


def _bound(value: Any) -> str:
    bits = int(value).bit_length()
    return f"2**{bits} - 1" if bits > 20 and value == 2**bits - 1 else str(value)


def _value(value: Any) -> str:
    return "empty" if value == "" else f"`{json.dumps(value)}`"
