"""Views of a run on a terminal or in a pipe, made of the wire's frames."""
