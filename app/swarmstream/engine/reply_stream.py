"""The deltas of one model call on their way from the provider to the run's events."""

from collections.abc import Callable, Sequence
from typing import Protocol

from swarmstream.engine.recorder import Recorder
from swarmstream.engine.reply import PartialReply
from swarmstream.engine.timeouts import CallTimer
from swarmstream.events import ReasoningDelta, TextDelta
from swarmstream.llm.base import Delta, Echo, Finished, Opened, Reasoning, TokenCount, ToolCallDelta

_MAX_REASON_LENGTH = 40


class Share(Protocol):
    """A call's share of its run's budget."""

    @property
    def is_limited(self) -> bool:
        """True if there is a budget, of which the call may exceed its share."""
        ...

    def is_exceeded(self, length: int) -> bool:
        """Return True if a reply of this many characters is beyond the share and ends the run."""
        ...


class ReplyStream:
    """Appends deltas to the run as they come, and adds them to the reply. Every token goes through `on_deltas`."""

    def __init__(
        self,
        reply: PartialReply,
        recorder: Recorder,
        timer: CallTimer,
        share: Share,
        *,
        agent: str,
        turn: int,
        step: int,
        on_repeated: Callable[[], None],
    ) -> None:
        """`step` is the number of the call within its turn; `on_repeated` is called when the request is made again."""
        self._reply = reply
        self._recorder = recorder
        self._timer = timer
        self._share = share
        self._is_limited = share.is_limited
        self._agent = agent
        self._turn = turn
        self._step = step
        self._on_repeated = on_repeated

    def on_deltas(self, deltas: Sequence[Delta]) -> None:
        """Take the deltas that have come at once.

        Raises:
            UpstreamInvalid: the reply is larger than any can be.
        """
        reply = self._reply
        before = reply.deltas
        self._take(deltas)
        if reply.deltas > before:
            self._timer.touch(is_first=not before)
        if reply.finish_reason is not None:
            self._timer.complete()

    def end(self) -> None:
        """Append what was kept back of text and reasoning: no delta follows."""
        t_ms = self._recorder.now_ms()
        self._emit_reasoning(t_ms, self._reply.reasoning_joiner.end())
        self._emit_text(t_ms, self._reply.text_joiner.end())

    def _take(self, deltas: Sequence[Delta]) -> None:
        reply = self._reply
        t_ms = self._recorder.now_ms()
        for delta in deltas:
            if self._is_limited and self._share.is_exceeded(reply.length):
                return  # the run has ended: what came with it is dropped
            if isinstance(delta, str):
                reply.count_delta(len(delta))
                joiner = reply.text_joiner
                self._emit_text(t_ms, delta if delta.isascii() and not joiner.held else joiner.feed(delta))
            elif isinstance(delta, Reasoning):
                reply.count_delta(len(delta.text))
                self._emit_reasoning(t_ms, reply.reasoning_joiner.feed(delta.text))
            elif isinstance(delta, ToolCallDelta):
                reply.count_delta(len(delta.arguments))
                reply.add_tool_call(delta)
            elif isinstance(delta, Finished):
                reply.finish_reason = _known_reason(delta.reason)
            elif isinstance(delta, TokenCount):
                reply.token_count = delta
            elif isinstance(delta, Echo):
                reply.echo |= delta.fields
            elif isinstance(delta, Opened):
                reply.is_opened = True
            else:  # Repeated
                self._on_repeated()

    def _emit_text(self, t_ms: int, text: str) -> None:
        if text:
            self._reply.pieces.append(text)
            self._recorder.append_delta(TextDelta(t_ms, self._agent, self._turn, text, self._step))

    def _emit_reasoning(self, t_ms: int, text: str) -> None:
        if text:
            self._reply.reasoning_length += len(text)
            self._recorder.append_delta(ReasoningDelta(t_ms, self._agent, self._turn, text))


def _known_reason(reason: str) -> str:
    """Return the finish reason if it can be one of the protocol's; clients get nothing else that a provider writes."""
    return reason if len(reason) <= _MAX_REASON_LENGTH and reason.isascii() else "unknown"
