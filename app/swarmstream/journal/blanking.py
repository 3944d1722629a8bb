"""What a payload keeps once its run has ended: neither secrets nor images.

They are there for the run alone, and for whoever takes it up after a crash.
"""

from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

BLANK = "[blanked]"

_MCP_FIELDS = frozenset({"mcp_url", "mcp_config", "mcp_configs"})
_HARMLESS_IN_MCP = frozenset({"type", "transport", "timeout"})
_IMAGE_FIELDS = frozenset({"img", "imgs", "image_url", "input_audio"})
_MARKS = (b"mcp_", b"authorization_token", b'"img', b'"image_url"', b'"input_audio"', b"\\u")
"""One of them is in every payload that holds any of these fields: the last, where its name is written in escapes."""
_WEB = ("http://", "https://")


def blank(body: bytes) -> bytes:
    """A payload's JSON without credentials of MCP servers, and with size and digest in the place of images and sounds.

    Of a server's address its host is left, since paths carry keys as well. A payload in which nothing is to be blanked
    comes back as it is.
    """
    if not any(mark in body for mark in _MARKS):
        return body
    try:
        payload = orjson.loads(body)
        _blank(payload)
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return b"{}"  # nested deeper than can be written again: it is kept for nobody


def _blank(value: Any) -> None:
    """Blank what is in lists and objects, in place."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += cast(list[Any], item)
        elif isinstance(item, dict):
            fields = cast(dict[str, Any], item)
            for name, its in fields.items():
                if name in _MCP_FIELDS or name == "authorization_token":
                    fields[name] = _without_secrets(its, is_harmless=False)
                elif name in _IMAGE_FIELDS:
                    fields[name] = _without_bytes(its)
                else:
                    waiting.append(its)


def _without_secrets(value: Any, *, is_harmless: bool) -> Any:
    """Of what describes an MCP server: addresses as far as their host, what is known to be harmless, and no text."""
    match value:
        case str():
            return value if is_harmless else _host_of(value)
        case list():
            return [_without_secrets(item, is_harmless=is_harmless) for item in cast(list[Any], value)]
        case dict():
            fields = cast(dict[str, Any], value)
            return {name: _without_secrets(its, is_harmless=name in _HARMLESS_IN_MCP) for name, its in fields.items()}
        case _:
            return value


def _host_of(text: str) -> str:
    """An address without user, path and query; nothing of another text."""
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
    """Web addresses stay; all other text is taken for an image."""
    match value:
        case str():
            return value if value.startswith(_WEB) or not value else _mark_of(value)
        case list():
            return [_without_bytes(item) for item in cast(list[Any], value)]
        case dict():
            fields = cast(dict[str, Any], value)
            return {name: _without_bytes(its) if name in ("url", "data") else its for name, its in fields.items()}
        case _:
            return value


def _mark_of(text: str) -> str:
    content = text.encode()
    return f"[{len(content)} bytes, sha256 {sha256(content).hexdigest()[:16]}]"
