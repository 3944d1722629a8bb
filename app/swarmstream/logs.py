"""The format of log lines, and the redaction of secrets in them."""

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
"""The id of the request that this task, or the one that started it, answers."""

_VERBOSE_LOGGERS = ("httpx", "httpcore", "openai", "asyncio")
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
"""Only secrets of this length are looked for in base64 or masked: of a shorter one too little remains."""
_MASKS = ("**", "..", "…", "•")
_MASKED = re.compile(r"(?<![\w-])([\w-]{4,})(?:(?:\*{2,}|•+)([\w-]*)|(?:\.{2,}|…)([\w-]{2,}))")
"""A possible secret with its middle masked: `sk-abcd****wxyz`, `sk-abcd...wxyz`. After dots, which other texts contain
too, its end is required."""


def secret_values(environ: Mapping[str, str], *, also: Collection[str] = ()) -> set[str]:
    """Return the values of the variables whose names mark them as secret, and of those named in `also`."""
    return {
        value for name, value in environ.items() if (name.upper().endswith(_SECRET_NAMES) or name in also) and value
    }


class Redactor:
    """Replaces known secrets, also in base64 or with their middle masked, and text that looks like a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one secret may begin with another.
        secrets = set(secrets)
        known = sorted((re.escape(secret) for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len)
        self._known = re.compile("|".join(reversed(known))) if known else None
        self._long = [secret for secret in secrets if len(secret) >= _MIN_ENCODED_LENGTH]
        self._encoded = sorted({part for secret in self._long for part in _base64_forms(secret)}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text with `[redacted]` for each secret."""
        if self._known is not None:
            text = self._known.sub(_REDACTED, text)
        for part in self._encoded:
            if part in text:
                text = text.replace(part, _REDACTED)
        if any(mask in text for mask in _MASKS):
            text = _MASKED.sub(self._redact_if_known, text)
        # Looking for their beginnings first takes a hundredth of the time that the expressions take.
        lowered = text.lower()
        if any(word in lowered for word in _SECRET_WORDS):
            text = _NAMED_SECRET.sub(lambda match: match[1] + _REDACTED, text)
        if any(start in text for start in _KEY_STARTS):
            text = _KEY_SHAPED.sub(_REDACTED, text)
        return text

    def _redact_if_known(self, match: re.Match[str]) -> str:
        start, end = match[1], match[2] or match[3] or ""
        is_known = any(secret.startswith(start) and secret.endswith(end) for secret in self._long)
        return _REDACTED if is_known else match[0]


def _base64_forms(secret: str) -> set[str]:
    """Return the forms that a secret takes within base64 text, in either alphabet.

    There are three, by the place of its first byte in a group of three. The characters at both ends that also depend on
    the bytes around it are left off.
    """
    parts: set[str] = set()
    for before in range(3):
        padded = bytes(before) + secret.encode()
        first, end = -(-before * 8 // 6), len(padded) * 8 // 6
        parts |= {encode(padded).decode()[first:end] for encode in (b64encode, urlsafe_b64encode)}
    return parts


class TextFormatter(logging.Formatter):
    """Formats a line for people: time, level, logger, message, and the id of the request."""

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
    """Formats a line for collectors: one JSON object."""

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
    """Send every logger's lines to stderr in one format, with these secrets redacted."""
    # Do not collect what our lines do not contain (logging's own HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # pyright: ignore[reportPrivateUsage]
    redact = Redactor(secrets)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(redact) if layout == "json" else TextFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
