"""The life of a run: its admission, its course, its end, its recovery by the next process.

`run.py` opens with the states of a run and every way out, `live_runs.py` with the phases in which a process stops,
`recovery.py` with the steps by which the next one goes on.
"""
