"""The journal: the port, the parts that all kinds of journals share, and the two kinds, in memory and on SQLite.

| module | is |
|---|---|
| `base`, `records` | the port, and the values that it takes and returns |
| `event_log` | one run's log in memory, with its cursors and its hidden events |
| `summary` | the fold of a run's events, of which answers are made |
| `idempotency` | the runs of requests with an idempotency key |
| `blanking` | payloads without secrets and images |
| `codec`, `checksums` | events as bytes, and the checksums in front of them |
| `memory`, `sqlite` | the two kinds of journals; `opening` chooses one |
"""
