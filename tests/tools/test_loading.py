"""The tools of a server: the built-in ones, those that its operator names, those that packages install."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal

import pytest

from swarmstream.errors import UnknownTool
from swarmstream.main import create_app
from swarmstream.settings import Settings
from swarmstream.tools.builtin.offered import BUILTIN_TOOLS, clock
from swarmstream.tools.errors import ToolLoadError
from swarmstream.tools.functions import tool
from swarmstream.tools.loading import installed_tools, load_tools
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import missing_descriptions, toolbox
from tests.conftest import ROOT
from tests.tools.functions import Color, Order, plus

decorated = tool(plus, name="decorated")
not_a_function = 42
named_like_a_built_in = tool(plus, name="clock")


class Namespace:
    @staticmethod
    def inner(a: int) -> int:
        return a


def test_every_server_has_the_built_in_tools() -> None:
    allowed = AllowedTools(toolbox())
    assert allowed.names() == sorted(BUILTIN_TOOLS) == ["calculator", "clock", "query_json"]
    assert allowed.get("clock") is clock
    with pytest.raises(UnknownTool):
        allowed.get("shell")


def test_an_operator_s_tools_are_named_by_reference_or_installed() -> None:
    entry = EntryPoint(name="anything", value=f"{__name__}:Namespace.inner", group="swarmstream.tools")
    tools = load_tools([f"{__name__}:plus", f"{__name__}:decorated"], [entry])
    assert sorted(tools) == ["calculator", "clock", "decorated", "inner", "plus", "query_json"]
    assert not list(installed_tools()), "no package of ours offers any"


@pytest.mark.parametrize(
    ("references", "error"),
    [
        (["plus"], 'the tool "plus" is not of the form package.module:function'),
        (["os:system('x')"], "is not of the form package.module:function"),
        (["..os:system"], "is not of the form package.module:function"),
        ([""], 'the tool "" is not of the form'),
        (["no.such.module:f"], 'the tool "no.such.module:f" cannot be imported: ModuleNotFoundError'),
        (["no.such.module:f"], f"; looked in {sys.path[0]}"),
        (["tests.nothing:f"], f", {ROOT}"),
        (["orders.py:find"], "; write orders:find"),
        (["./mine/orders.py:find"], "function; write mine.orders:find"),
        (["orders.py"], "; write orders:function"),
        ([f"{__name__}:nothing"], f"; {__name__} is {__file__}"),
        ([f"{__name__}:nothing"], f'the tool "{__name__}:nothing" cannot be imported: AttributeError'),
        ([f"{__name__}:not_a_function"], f'the tool "{__name__}:not_a_function" cannot be offered: int is no function'),
        ([f"{__name__}:Order"], "cannot be offered"),
        (["tests.tools.functions:collects"], "cannot be offered: collects takes *values"),
        (
            [f"{__name__}:named_like_a_built_in"],
            f'the tool "{__name__}:named_like_a_built_in" is named "clock", as a built-in one is',
        ),
        (
            [f"{__name__}:plus", f"{__name__}:plus"],
            f'the tool "{__name__}:plus" is named "plus", as "{__name__}:plus" is',
        ),
    ],
)
def test_a_reference_that_is_no_tool_is_refused_by_its_name(references: list[str], error: str) -> None:
    with pytest.raises(ToolLoadError) as caught:
        load_tools(references)
    assert error in str(caught.value)


def test_an_installed_tool_cannot_take_the_name_of_another() -> None:
    entry = EntryPoint(name="sum", value=f"{__name__}:plus", group="swarmstream.tools")
    with pytest.raises(ToolLoadError, match=r'the tool "sum = .*:plus" is named "plus", as ".*:plus" is'):
        load_tools([f"{__name__}:plus"], [entry])


def _undescribed(a, b: int, c: Any = 1) -> None:  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    pass


undescribed: Callable[..., Any] = _undescribed  # pyright: ignore[reportUnknownVariableType]


def _described(a: int | None, b: Color, c: Literal["x"], d: Order, e: Annotated[str, "e"]) -> None:
    """Do it."""


def test_missing_descriptions_of_an_operators_tool_are_listed() -> None:
    tools = toolbox([("a:undescribed", tool(undescribed)), ("a:described", tool(_described))])
    assert list(missing_descriptions(tools)) == [
        'the tool "_undescribed" has no docstring: models are not told what it does',
        'the tool "_undescribed" has no type for "a", "c": models may send anything there',
    ]


@pytest.mark.noisy
def test_missing_descriptions_are_logged_when_the_server_starts(caplog: pytest.LogCaptureFixture) -> None:
    create_app(Settings.model_construct(tools=(f"{__name__}:undescribed",), data_dir=None), environ={})
    assert [record.levelname for record in caplog.records if 'no type for "a"' in record.getMessage()] == ["WARNING"]
