"""A POST request as HTTP/1.1 has it on the wire."""

from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from swarmstream.llm.http.proxy import proxy_authorization


def encode_post(
    target: SplitResult, body: Sequence[bytes], headers: Mapping[str, str], proxy: str | None
) -> Sequence[bytes]:
    """Return the request in pieces. A `proxy` that forwards it gets the whole address (RFC 9112, 3.2.2).

    Raises:
        ValueError: a header or the address holds a line break or NUL.
    """
    host = target.netloc.rpartition("@")[2]
    path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
    lines = [
        f"POST {path if proxy is None else f'{target.scheme}://{host}{path}'} HTTP/1.1",
        f"host: {host}",
        *(f"{name}: {value}" for name, value in headers.items()),
        *(proxy_authorization(urlsplit(proxy)) if proxy else ()),
        f"content-length: {sum(map(len, body))}",
    ]
    if any(char in line for line in lines for char in "\r\n\0"):
        raise ValueError("a header must not hold a line break or NUL")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return [head + body[0]] if len(body) == 1 else [head, *body]
