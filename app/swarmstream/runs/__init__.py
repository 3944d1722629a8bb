"""The life of a run: how it is admitted, carried out, ended and taken up again."""
