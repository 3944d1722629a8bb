"""Runs as clients see them: events as data, data as frames, answers as JSON documents (docs/wire.md).

`shapes` declares everything that is sent. `event_data` makes an event's data, `run_fold` that of a whole run for one
reader; `frame_encoder` writes it as bytes in a `framing`, `object_encoder` as dicts. `answers` makes the JSON documents
of a summary. Nothing here waits, and nothing knows HTTP."""
