"""docs/api.md: the control API for people to read, written from its OpenAPI document. `tally api` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tallystick.sdk.control.openapi import ABOUT, DESCRIPTIONS, JSON, Schema, document

HEAD = """# The control API

Made from the table in `sdk/control/operations.py`: `tally api > docs/api.md` writes this page anew. `tally api
--openapi` prints the same as an OpenAPI 3.1 document, and a running node answers it at `GET /openapi.json`.
"""

ERRORS = """## Errors

The answer to a request that came to nothing is `{"error": {"code": …, "text": …}}`. A code never changes its meaning;
nobody matches on the text. Every request may be answered with 401, 500, and 503 once the node stops; what else may be
is in the document.
"""


def page() -> str:
    """Return the page."""
    told = document()
    parts = [HEAD, ABOUT + "\n"]
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
    parts += [ERRORS, "| status | codes | |\n| --- | --- | --- |", *_codes(told), ""]
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
