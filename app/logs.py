"""How log lines look, and what never stands in one: a key."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

request_id_of_context: ContextVar[str] = ContextVar("request_id", default="")
"""The request that this task, or the one that started it, answers."""

_MIN_SECRET_LENGTH = 6
_MAX_MESSAGE = 4000
_LOOKS_LIKE_A_KEY = re.compile(
    r"(?i)(bearer\s+|\b(?:api[-_]?key|token|authorization)\b[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]{6,}|\b(?:sk|pk|gsk|xai|AIza)[-_A-Za-z0-9]{12,}"
)


_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS")


def secret_values(environ: Mapping[str, str]) -> set[str]:
    """The values of the variables whose names say that they are secret."""
    return {value for name, value in environ.items() if name.upper().endswith(_SECRET_NAMES) and value}


class Redactor:
    """Blanks out known secrets, and what has the look of one, in finished log lines."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted((re.escape(secret) for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH), key=len)
        self._known = re.compile("|".join(reversed(known))) if known else None

    def __call__(self, line: str) -> str:
        if self._known is not None:
            line = self._known.sub("[redacted]", line)
        return _LOOKS_LIKE_A_KEY.sub(lambda match: (match[1] or "") + "[redacted]", line)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, where, what, and the request it belongs to."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        request_id = request_id_of_context.get()
        line = super().format(record)
        return self._redact(f"{line} [{request_id}]" if request_id else line)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        # A message is one line, whatever a client put into it; only tracebacks have more.
        record.message = "".join(char if char.isprintable() else " " for char in record.message[:_MAX_MESSAGE])
        return super().formatMessage(record)


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
            "message": self._redact(record.getMessage()[:_MAX_MESSAGE]),
        }
        if request_id := request_id_of_context.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["traceback"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(line)


def configure_logging(*, level: str, layout: Literal["text", "json"], secrets: Iterable[str]) -> None:
    """Send every logger's lines to stderr in one format, with these secrets blanked out."""
    redact = Redactor(secrets)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(redact) if layout == "json" else TextFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx logs every call to a provider, with its URL.
    logging.getLogger("httpx").setLevel(logging.WARNING)
