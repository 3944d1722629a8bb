"""The shapes that clients receive: the `data` of every event and the JSON answers (docs/wire.md, sections 3 and 4).

What is made here is typed and not validated; a test holds what is sent to the OpenAPI document, which is made from
these classes and from the strings under their fields.
"""
