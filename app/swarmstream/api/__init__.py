"""HTTP, and nothing else.

A request passes `connection` (bounds on what comes), `middleware`, and `admission`, the door of all routes with a key.
The routes are in `completions`, `run_stream`, `runs`, `catalog`, `front_page`, `health` and `docs_page`. A run is
answered as a stream by `streaming`, as one document by `run_response`, an error by `problems`. `openapi` describes it.
"""
