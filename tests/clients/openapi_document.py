"""The OpenAPI document, and checks of answers against it."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).parents[2] / "openapi" / "openapi.json"


@cache
def document() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation with its method and its path."""
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return the component that this refers to; the part itself if it is not a reference."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return document()["components"][kind][name]


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation that a request is for; None if the document has none."""
    for template, pattern in _patterns():
        if pattern.fullmatch(path):
            return document()["paths"][template].get(method.lower())
    return None


def check_declared(response: httpx.Response) -> str | None:
    """Check an answer's status, kind of body and headers against its operation; return the operation's id.

    What belongs to no operation is not looked at.
    """
    operation = operation_of(response.request.method, response.request.url.path)
    if operation is None:
        return None
    name, status = operation["operationId"], str(response.status_code)
    assert status in operation["responses"], f"{name} answers {status}, which the document does not declare"
    declared = resolved(operation["responses"][status])
    kind = response.headers.get("content-type", "").partition(";")[0]
    assert kind in declared.get("content", {"": None}), f"{name} answers {status} with {kind or 'no body'}"
    for header in document()["components"]["headers"]:
        if header in response.headers:
            assert header in declared["headers"], f"{name} answers {status} with {header}"
    return name


def check_answer(response: httpx.Response) -> tuple[str, int]:
    """Check a whole answer, its body and its code too; return the operation's id and the status."""
    name = check_declared(response)
    operation = operation_of(response.request.method, response.request.url.path)
    assert name is not None
    assert operation is not None
    declared = resolved(operation["responses"][str(response.status_code)])
    content = declared.get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind.endswith("json"):
        lines = response.text.splitlines() if kind == "application/x-ndjson" else [response.text]
        for line in lines:
            _validator(json.dumps(content[kind]["schema"])).validate(json.loads(line))
    if kind == "application/problem+json":
        assert f"`{response.json()['code']}`" in declared["description"]
    return name, response.status_code


def check(component: str, value: Any) -> None:
    """Check a value against one of the document's schemas, which must name all of its fields."""
    _validator(json.dumps({"$ref": f"#/components/schemas/{component}"})).validate(value)


@cache
def _validator(schema: str) -> Any:
    strict = cast(dict[str, Any], json.loads(DOCUMENT.read_text()))
    for component in strict["components"]["schemas"].values():
        for part in (component, *component.get("oneOf", ())):
            if part.get("type") == "object":
                part.setdefault("additionalProperties", False)
    resource: Resource[Any] = Resource.from_contents(strict, DRAFT202012)
    registry: Registry[Any] = Registry([("urn:doc", resource)])  # pyright: ignore[reportCallIssue]
    return Draft202012Validator(json.loads(schema.replace('"#/', '"urn:doc#/')), registry=registry)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return the paths as regular expressions, those without parameters first. A model's name may have slashes."""
    templates = sorted(document()["paths"], key=lambda path: "{" in path)
    return [(path, re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{name}", ".+")))) for path in templates]
