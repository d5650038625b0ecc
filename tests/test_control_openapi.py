"""The control API's documents: made from the table, whole, valid, and the same as on the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import openapi_spec_validator
import pytest
import trio
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from starlette.routing import Route
from starlette.types import Message, Send
from test_control_faults import TOKEN, asking
from typer.testing import CliRunner

from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.cli.app import app
from tallystick.sdk.control.openapi import DESCRIPTIONS, document, faults_of, page
from tallystick.sdk.control.operations import GET, Empty, operations

ROOT = Path(__file__).resolve().parent.parent
TOLD = document()


def test_the_document_is_an_openapi_document() -> None:
    assert TOLD["openapi"] == "3.1.0"
    openapi_spec_validator.validate(TOLD)
    assert [{name: []} for name in TOLD["components"]["securitySchemes"]] == TOLD[
        "security"
    ]  # which it does not look at


def test_the_validator_would_notice_a_fault() -> None:
    broken = json.loads(json.dumps(TOLD))
    del broken["paths"]["/info"]["get"]["responses"]["200"]["description"]
    with pytest.raises(OpenAPIValidationError):
        openapi_spec_validator.validate(broken)


def test_each_operation_is_in_the_document_with_all_that_it_is_asked() -> None:
    told = {(method.upper(), path): one for path, methods in TOLD["paths"].items() for method, one in methods.items()}
    assert told.keys() == {(one.method, one.path) for one in operations()}
    for one in operations():
        found = told[one.method, one.path]
        assert found["operationId"] == one.name and found["summary"] == one.does
        named = {each["name"]: each["in"] for each in found["parameters"]}
        fields = one.asked.__struct_fields__ if one.method == GET else ()
        assert named == dict.fromkeys(one.names, "path") | dict.fromkeys(fields, "query")
        assert ("requestBody" in found) == (one.method != GET and one.asked is not Empty)
        failing = {str(status) for status in faults_of(one)}
        assert found["responses"].keys() == {str(one.status), *failing} | ({"202"} if one.is_late else set())
        assert {"401", "500"} <= failing <= {str(status) for status in DESCRIPTIONS}


def test_every_answer_has_every_field_of_its_schema() -> None:
    for one in operations():
        if one.asked is not Empty and one.method != GET:
            schema = TOLD["components"]["schemas"][one.asked.__name__]
            assert schema["properties"].keys() == set(one.asked.__struct_fields__)
            assert schema["additionalProperties"] is False
        kind = getattr(one.answer, "__args__", (one.answer,))[0]
        if one.answer is not dict and issubclass(kind, msgspec.Struct):
            schema = TOLD["components"]["schemas"][kind.__name__]
            assert schema["required"] == list(kind.__struct_fields__)


def contents() -> list[tuple[str, dict[str, Any]]]:
    """Return (where, content) of each body and answer."""
    found = []
    for path, methods in TOLD["paths"].items():
        for method, one in methods.items():
            bodies = {"request": one["requestBody"]} if "requestBody" in one else {}
            for where, body in (bodies | one["responses"]).items():
                found.append((f"{method} {path} {where}", body["content"]["application/json"]))
    return found


@pytest.mark.parametrize(("where", "content"), contents(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_example_is_as_its_schema_says(where: str, content: dict[str, Any]) -> None:
    schema = json.loads(json.dumps(content["schema"]).replace('"#/', '"here:#/'))
    resource = Resource(contents=TOLD, specification=DRAFT202012)
    OAS31Validator(schema, registry=Registry().with_resource("here:", resource)).validate(content["example"])


def test_fields_have_the_texts_that_stand_below_them() -> None:
    schemas = TOLD["components"]["schemas"]
    assert schemas["ChannelInfo"]["properties"]["receivable"]["description"].startswith("What the peer could pay now")
    probes = next(each for each in TOLD["paths"]["/payments"]["get"]["parameters"] if each["name"] == "before")
    assert probes["description"] == "Goes on from a position."


def test_the_page_is_the_one_that_tally_api_prints() -> None:
    written = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert written == page(), "write it anew: tally api > docs/api.md"
    assert CliRunner().invoke(app, ["api"]).stdout == written


def test_tally_prints_the_document_without_a_node() -> None:
    done = CliRunner().invoke(app, ["api", "--openapi"])
    assert done.exit_code == 0 and json.loads(done.stdout) == TOLD


AUTHORIZED = (b"authorization", b"Bearer " + TOKEN.encode())


def collect(told: list[Message]) -> Send:
    """Return what an application sends to."""

    async def send(message: Message) -> None:
        told.append(message)

    return send


def test_a_node_answers_with_its_document_and_every_path_names_all_methods_that_it_takes() -> None:
    async def main() -> None:
        async with asking() as asked:
            status, answer = await asked.ask("GET", "/openapi.json")
            assert (status, json.loads(answer)) == (200, TOLD)
            routes = {route.path: route for route in asked.control.app().routes if isinstance(route, Route)}
            assert routes.keys() == TOLD["paths"].keys()
            for path, methods in TOLD["paths"].items():
                assert routes[path].methods is not None
                scope = {"type": "http", "method": "PUT", "path": path, "headers": [AUTHORIZED], "query_string": b""}
                told: list[Message] = []
                await asked.app(scope, trio.sleep_forever, collect(told))
                allowed = dict(told[0]["headers"])[b"allow"].decode().split(", ")
                assert told[0]["status"] == 405 and {*allowed} - {"HEAD"} == {method.upper() for method in methods}
                assert routes[path].methods - {"HEAD"} == {method.upper() for method in methods}

    simulate(main, 1)
