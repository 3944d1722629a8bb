"""Log lines: one for each message, without secrets."""

import io
import json
import logging
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from swarmstream.logs import (
    JsonFormatter,
    Redactor,
    TextFormatter,
    configure_logging,
    current_request_id,
    secret_values,
)

SECRET = "correct-horse-battery"
Formatter = type[TextFormatter] | type[JsonFormatter]

pytestmark = pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])


def written(formatter: Formatter, write: Callable[[logging.Logger], object], secrets: Iterable[str] = (SECRET,)) -> str:
    """Return what a logger without a parent writes."""
    logger = logging.Logger("throwaway")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(Redactor(secrets)))
    logger.addHandler(handler)
    write(logger)
    return stream.getvalue()


def message_of(formatter: Formatter, line: str) -> str:
    """Return the message alone, as a reader of the line sees it."""
    if formatter is JsonFormatter:
        return json.loads(line)["message"]
    return line.partition("throwaway: ")[2].removesuffix("\n")


def test_a_line_has_time_level_logger_and_message(formatter: Formatter) -> None:
    line = written(formatter, lambda log: log.warning("%s is %d", "answer", 42))
    assert message_of(formatter, line) == "answer is 42"
    if formatter is JsonFormatter:
        assert json.loads(line).keys() == {"time", "level", "logger", "message"}
        assert json.loads(line)["logger"] == "throwaway"
    assert "WARNING" in line
    assert line.endswith("\n")


def test_a_line_names_the_request_that_it_belongs_to(formatter: Formatter) -> None:
    token = current_request_id.set("req-7")
    try:
        line = written(formatter, lambda log: log.info("hi"))
    finally:
        current_request_id.reset(token)
    if formatter is JsonFormatter:
        assert json.loads(line)["request_id"] == "req-7"
    else:
        assert line.endswith("hi [req-7]\n")
    assert "req-7" not in written(formatter, lambda log: log.info("hi"))


# --- Secrets --------------------------------------------------------------------------------------------------------


def look_up(secret: str) -> None:
    raise KeyError(f"first {secret}")


def parse(secret: str) -> None:
    try:
        look_up(secret)
    except KeyError as error:
        raise ValueError(f"then {secret}") from error


def log_a_failure(log: logging.Logger, secret: str) -> None:
    try:
        parse(secret)
    except ValueError:
        log.exception("it failed with %s", secret)


WRITERS: list[Callable[[logging.Logger], object]] = [
    lambda log: log.info(f"the key is {SECRET}."),
    lambda log: log.info("the key is %s", SECRET),
    lambda log: log.info("%(key)s", {"key": SECRET}),
    lambda log: log.info("%r", {"key": [SECRET]}),
    lambda log: log.info("%s%s", SECRET, SECRET),
    lambda log: log.error("%s", ValueError(SECRET)),
    lambda log: log_a_failure(log, SECRET),
]


@pytest.mark.parametrize("write", WRITERS)
def test_a_known_secret_is_redacted(formatter: Formatter, write: Callable[[logging.Logger], object]) -> None:
    text = written(formatter, write)
    assert SECRET not in text
    assert "[redacted]" in text


def test_a_traceback_is_written_without_the_secrets_in_it(formatter: Formatter) -> None:
    text = written(formatter, lambda log: log_a_failure(log, SECRET))
    assert text.count("[redacted]") == 3
    for expected in ("Traceback", "KeyError", "ValueError: then [redacted]", "test_logs.py"):
        assert expected in text


def test_key_like_text_in_a_traceback_is_redacted(formatter: Formatter) -> None:
    text = written(formatter, lambda log: log_a_failure(log, "sk-abcdefghijklmnop"))
    assert "sk-abcdefghijklmnop" not in text
    assert text.count("[redacted]") == 3


def test_of_two_secrets_the_longer_one_is_redacted_whole(formatter: Formatter) -> None:
    line = written(
        formatter, lambda log: log.info("%s", "shared-prefix-and-tail"), ["shared-prefix", "shared-prefix-and-tail"]
    )
    assert message_of(formatter, line) == "[redacted]"


def test_a_secret_is_not_read_as_a_pattern(formatter: Formatter) -> None:
    line = written(formatter, lambda log: log.info("a+b(c).*d and aab(c)xxd"), ["a+b(c).*d"])
    assert message_of(formatter, line) == "[redacted] and aab(c)xxd"


def test_a_short_secret_does_not_redact_words(formatter: Formatter) -> None:
    line = written(formatter, lambda log: log.info("a test of tests, sixsix"), ["test", "", "sixsix"])
    assert message_of(formatter, line) == "a test of tests, [redacted]"


LONG_SECRET = "sk-canary-0a1b2c3d?~?~-1f9e"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("behind", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_a_known_secret_in_base64_is_redacted(
    formatter: Formatter, before: str, behind: str, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(f"{before}{LONG_SECRET}{behind}".encode()).decode()
    message = message_of(formatter, written(formatter, lambda log: log.info("got %s.", text), [LONG_SECRET]))
    assert "[redacted]" in message
    left = message.removeprefix("got ").removesuffix(".").replace("[redacted]", "")
    assert len(left) <= len(encode(f"{before}{behind}".encode())) + 2, "but for what stands around it"


@pytest.mark.parametrize(
    "masked",
    [
        "sk-canar...1f9e",
        "sk-canary-…1f9e",
        "sk-canar**************1f9e",
        "sk-c••••1f9e",
        "sk-canary***",
        "'sk-canar..9e'",
    ],
)
def test_a_known_secret_with_its_middle_masked_is_redacted(formatter: Formatter, masked: str) -> None:
    line = written(formatter, lambda log: log.info("Incorrect key provided: %s.", masked), [LONG_SECRET])
    quote = masked[0] if masked[0] == "'" else ""
    assert message_of(formatter, line) == f"Incorrect key provided: {quote}[redacted]{quote}."


@pytest.mark.parametrize(
    "text",
    [
        "well... 1f9e",
        "sk-canary... is how it begins",
        "sk-canar...2f9e",
        "sk-other...1f9e",
        "the end...1f9e",
        "1 ** 2 and **bold** and a..z",
        "/v1/runs/../x",
        b64encode(b"nothing that anybody would want to hide").decode(),
        "swarms-0af3b2c1d4e5f60718293a4b5c6d7e8f",
    ],
)
def test_text_that_only_resembles_a_known_secret_is_kept(formatter: Formatter, text: str) -> None:
    assert message_of(formatter, written(formatter, lambda log: log.info("%s", text), [LONG_SECRET])) == text


KEY = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {KEY}",
        f"bearer   {KEY}",
        f"api_key={KEY}",
        f"api-key: {KEY}",
        f"apikey:{KEY}",
        f"x-api-key: {KEY}",
        f'{{"api_key": "{KEY}"}}',
        f"{{'api_key': '{KEY}'}}",
        f"https://example.com/v1?api_key={KEY}&x=1",
        f"token={KEY}",
        f"Authorization: {KEY}",
        f"Incorrect API key provided: sk-{KEY}",
        f"sk-proj-{KEY}_{KEY}",
        f"sk-ant-api03-{KEY}",
        f"gsk_{KEY}",
        f"xai-{KEY}",
        f"AIza{KEY}",
        f"Authorization: Bearer {KEY}",
        f"{{'Authorization': 'Bearer {KEY}'}}",
        f"Authorization: Basic {KEY}",
        f"access_token={KEY}",
        f"OPENAI_API_KEY={KEY}",
    ],
)
def test_text_that_looks_like_a_key_is_redacted(formatter: Formatter, text: str) -> None:
    line = written(formatter, lambda log: log.info("before %s", text))
    assert KEY not in line
    assert "before" in line
    assert "[redacted]" in line


@pytest.mark.parametrize(
    "text",
    [
        "12 tokens: 3 cached",
        "the token budget is spent",
        "POST /v1/swarm/completions 200 13ms",
        "model openai/gpt-4.1-mini: provider_auth",
        "asked for skills and tasks",
    ],
)
def test_ordinary_words_stay(formatter: Formatter, text: str) -> None:
    assert message_of(formatter, written(formatter, lambda log: log.info(text))) == text


def test_a_secret_where_a_long_message_is_cut_leaves_nothing(formatter: Formatter) -> None:
    line = written(formatter, lambda log: log.info("%s%s", "x" * 3990, SECRET))
    assert SECRET[:10] not in line


def test_a_secret_of_several_lines_is_redacted(formatter: Formatter) -> None:
    secret = "-----BEGIN-----\nMIIEvQIBADAN\n-----END-----"
    line = written(formatter, lambda log: log.info("credentials %s", secret), [secret])
    assert "MIIEvQIBADAN" not in line


# --- One message, one line ------------------------------------------------------------------------------------------

BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\0", "\x1b[2K", "\b\b\b", "\u202e"]


@pytest.mark.parametrize("control", BREAKS)
def test_nothing_in_a_message_makes_a_second_line(formatter: Formatter, control: str) -> None:
    forged = f"hello{control}2026-01-01 00:00:00,000 ERROR app: forged"
    one = written(formatter, lambda log: log.info(forged))
    filled_in = written(formatter, lambda log: log.info("%s", forged))
    for text in (one, filled_in):
        (line,) = text.splitlines()
        assert text == f"{line}\n"
        assert line.isprintable()
        assert "hello" in line
        assert "forged" in line


def test_a_message_keeps_printable_characters(formatter: Formatter) -> None:
    line = written(formatter, lambda log: log.info("é 日本 \U0001f600"))
    assert message_of(formatter, line) == "é 日本 \U0001f600"


def test_a_long_message_is_cut(formatter: Formatter) -> None:
    message = message_of(formatter, written(formatter, lambda log: log.info("x" * 100_000)))
    assert message == "x" * 4000


def test_a_message_that_cannot_be_encoded_is_written_all_the_same(formatter: Formatter) -> None:
    written(formatter, lambda log: log.info("half \ud83d a pair")).encode()


def test_a_traceback_in_json_stays_on_the_line(formatter: Formatter) -> None:
    text = written(formatter, lambda log: log_a_failure(log, "x\n2026-01-01 00:00:00,000 ERROR app: forged"))
    if formatter is JsonFormatter:
        (line,) = text.splitlines()
        assert "Traceback" in json.loads(line)["traceback"]
    else:
        assert "Traceback" not in text.splitlines()[0]


# --- All loggers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Yield the root logger; restore it afterwards."""
    logger, httpx = logging.getLogger(), logging.getLogger("httpx")
    handlers, level, httpx_level = logger.handlers[:], logger.level, httpx.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    httpx.setLevel(httpx_level)


def test_all_loggers_write_to_stderr_in_one_format_without_secrets(
    formatter: Formatter, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    layout: Any = "json" if formatter is JsonFormatter else "text"
    for _ in range(2):
        configure_logging(level="INFO", layout=layout, secrets=[SECRET])
    logging.getLogger("some.library").info("its key is %s", SECRET)
    logging.getLogger("some.library").debug("too quiet")
    logging.getLogger("httpx").info("HTTP Request: POST https://example.com")
    logging.getLogger("httpx").warning("a warning")
    out, err = capsys.readouterr()
    assert out == ""
    assert [type(handler.formatter) for handler in root.handlers] == [formatter]
    first, second = err.splitlines()
    assert "some.library" in first
    assert "its key is [redacted]" in first
    assert "a warning" in second


def test_variables_named_like_secrets_hold_secrets(formatter: Formatter) -> None:
    environ = {
        "OPENAI_API_KEY": "value-1",
        "AWS_BEARER_TOKEN": "value-2",
        "db_password": "value-3",
        "AZURE_CLIENT_SECRET": "value-4",
        "VERTEXAI_CREDENTIALS": "value-5",
        "EMPTY_KEY": "",
        "HOME": "/home/someone",
        "KEYBOARD": "qwertz-layout",
    }
    assert secret_values(environ) == {f"value-{number}" for number in range(1, 6)}
    text = written(formatter, lambda log: log.info(" ".join(environ.values())), secret_values(environ))
    assert "value-" not in text
    assert "/home/someone" in text
