"""How log lines look, and what never stands in one: a key."""

import json
import logging
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that this task, or the one that started it, answers."""

_TALKATIVE = ("httpx", "httpcore", "openai", "asyncio")
"""Libraries that log calls to providers, at DEBUG with the prompts in them."""

_MIN_SECRET_LENGTH = 6
_MAX_MESSAGE = 4000
_REDACTED = "[redacted]"

_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS")

_NAMED_SECRET = re.compile(
    r"""(?ai)((?:api[-_]?key|token|secret|password|authorization)["']?\s*[:=]\s*["']?(?:(?:bearer|basic)\s+)?
        |\b(?:bearer|basic)\s+)
        [^\s"',;&{}]{6,}""",
    re.VERBOSE,
)
_SECRET_WORDS = ("key", "token", "secret", "password", "authorization", "bearer", "basic")

_KEY_STARTS = ("sk-", "pk-", "rk-", "gsk_", "hf_", "xai-", "AIza")
_KEY_SHAPED = re.compile(rf"\b(?:{'|'.join(_KEY_STARTS)})[A-Za-z0-9_-]{{12,}}")

_MIN_ENCODED_LENGTH = 12
"""Of a secret that is looked for in base64 or masked: of a shorter one, too little would be left to tell it by."""
_MASKS = ("**", "..", "…", "•")
_MASKED = re.compile(r"(?<![\w-])([\w-]{4,})(?:(?:\*{2,}|•+)([\w-]*)|(?:\.{2,}|…)([\w-]{2,}))")
"""What may be a secret with its middle blanked out: `sk-abcd****wxyz`, `sk-abcd...wxyz`. After dots, which stand in
other texts too, its end has to be there."""


def secret_values(environ: Mapping[str, str], *, also: Collection[str] = ()) -> set[str]:
    """The values of the variables whose names say that they are secret, and of those named in `also`."""
    return {
        value for name, value in environ.items() if (name.upper().endswith(_SECRET_NAMES) or name in also) and value
    }


class Redactor:
    """Blanks out known secrets, also in base64 or with their middle masked, and what has the look of one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one secret may begin with another.
        secrets = set(secrets)
        known = sorted((re.escape(secret) for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len)
        self._known = re.compile("|".join(reversed(known))) if known else None
        self._long = [secret for secret in secrets if len(secret) >= _MIN_ENCODED_LENGTH]
        self._encoded = sorted({part for secret in self._long for part in _in_base64(secret)}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(_REDACTED, text)
        for part in self._encoded:
            if part in text:
                text = text.replace(part, _REDACTED)
        if any(mask in text for mask in _MASKS):
            text = _MASKED.sub(self._unless_unknown, text)
        # Looking for their beginnings first takes a hundredth of the time that the expressions take.
        lowered = text.lower()
        if any(word in lowered for word in _SECRET_WORDS):
            text = _NAMED_SECRET.sub(lambda match: match[1] + _REDACTED, text)
        if any(start in text for start in _KEY_STARTS):
            text = _KEY_SHAPED.sub(_REDACTED, text)
        return text

    def _unless_unknown(self, match: re.Match[str]) -> str:
        start, end = match[1], match[2] or match[3] or ""
        is_known = any(secret.startswith(start) and secret.endswith(end) for secret in self._long)
        return _REDACTED if is_known else match[0]


def _in_base64(secret: str) -> set[str]:
    """How a secret looks within what is base64 in either alphabet, wherever in it: three ways, by the place of its
    first byte among the three that four characters stand for. The characters at both ends that also depend on what
    stands around it are left off."""
    parts: set[str] = set()
    for before in range(3):
        padded = bytes(before) + secret.encode()
        first, end = -(-before * 8 // 6), len(padded) * 8 // 6
        parts |= {encode(padded).decode()[first:end] for encode in (b64encode, urlsafe_b64encode)}
    return parts


class TextFormatter(logging.Formatter):
    """One line for people: time, level, where, what, and the request it belongs to."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact
        self._second = 0
        self._stamp = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        if self._second != (second := int(record.created)):
            self._second, self._stamp = second, time.strftime(datefmt or "%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._stamp},{int(record.msecs):03}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        # Redacted before it is cut, which could leave half a key. A message is one line, whatever a client put into
        # it, and lines that follow it are indented: neither can be taken for a record of its own.
        message = self._redact(record.message)[:_MAX_MESSAGE]
        if not message.isprintable():
            message = "".join(char if char.isprintable() else " " for char in message)
        record.message = message
        request_id = self._redact(current_request_id.get())
        return super().formatMessage(record) + (f" [{request_id}]" if request_id else "")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(self._redact(super().formatException(ei)))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(self._redact(stack_info))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for collectors."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": self._redact(record.getMessage())[:_MAX_MESSAGE],
        }
        if request_id := current_request_id.get():
            line["request_id"] = self._redact(request_id)
        if record.exc_info:
            line["traceback"] = self._redact(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = self._redact(record.stack_info)
        return json.dumps(line)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def configure_logging(*, level: str, layout: Literal["text", "json"], secrets: Iterable[str]) -> None:
    """Send every logger's lines to stderr in one format, with these secrets blanked out."""
    # What our lines do not hold is not collected (logging's own HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # pyright: ignore[reportPrivateUsage]
    redact = Redactor(secrets)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(redact) if layout == "json" else TextFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
