"""The blanking of payloads: without secrets and images, which only a run in progress needs."""

from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

BLANK = "[blanked]"

_MCP_FIELDS = frozenset({"mcp_url", "mcp_config", "mcp_configs"})
_HARMLESS_IN_MCP = frozenset({"type", "transport", "timeout"})
_IMAGE_FIELDS = frozenset({"img", "imgs", "image_url", "input_audio"})
_MARKS = (b"mcp_", b"authorization_token", b'"img', b'"image_url"', b'"input_audio"', b"\\u")
"""At least one of these is in every payload that holds such a field: the last, where its name is written in escapes."""
_WEB = ("http://", "https://")


def blank(body: bytes) -> bytes:
    """Return a payload's JSON without credentials of MCP servers, with size and digest in place of images and sounds.

    Only the host of a server's address is left, since paths carry keys as well. A payload without such fields is
    returned as it is.
    """
    if not any(mark in body for mark in _MARKS):
        return body
    try:
        payload = orjson.loads(body)
        _blank(payload)
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return b"{}"  # nested too deep to be written again


def _blank(value: Any) -> None:
    """Blank the fields of lists and objects, in place."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += cast(list[Any], item)
        elif isinstance(item, dict):
            fields = cast(dict[str, Any], item)
            for name, content in fields.items():
                if name in _MCP_FIELDS or name == "authorization_token":
                    fields[name] = _without_secrets(content, is_harmless=False)
                elif name in _IMAGE_FIELDS:
                    fields[name] = _without_bytes(content)
                else:
                    waiting.append(content)


def _without_secrets(value: Any, *, is_harmless: bool) -> Any:
    """Return an MCP server's description with the hosts of its addresses, harmless fields, and blanks for all else."""
    match value:
        case str():
            return value if is_harmless else _keep_host(value)
        case list():
            return [_without_secrets(item, is_harmless=is_harmless) for item in cast(list[Any], value)]
        case dict():
            fields = cast(dict[str, Any], value)
            return {
                name: _without_secrets(content, is_harmless=name in _HARMLESS_IN_MCP)
                for name, content in fields.items()
            }
        case _:
            return value


def _keep_host(text: str) -> str:
    """Return an address without user, path and query; a blank for any other text."""
    if not text.startswith(_WEB):
        return BLANK
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return BLANK
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}/{BLANK}"


def _without_bytes(value: Any) -> Any:
    """Return web addresses as they are, and all other text, taken for an image, as its size and digest."""
    match value:
        case str():
            return value if value.startswith(_WEB) or not value else _fingerprint(value)
        case list():
            return [_without_bytes(item) for item in cast(list[Any], value)]
        case dict():
            fields = cast(dict[str, Any], value)
            return {
                name: _without_bytes(content) if name in ("url", "data") else content
                for name, content in fields.items()
            }
        case _:
            return value


def _fingerprint(text: str) -> str:
    content = text.encode()
    return f"[{len(content)} bytes, sha256 {sha256(content).hexdigest()[:16]}]"
