"""Small documents that fit a JSON schema, for a model that makes nothing up.

Theory of operation. A schema is read from its root down, and each part gets the simplest value that its keywords admit
(`build`). Where there is a choice (a branch of `anyOf`, a type, optional properties) the first option is taken
(`choices`). The whole document is then checked against the schema; as long as it does not fit, the last choice that has
another option takes that, and the document is built anew (`find`). The documents that are tried get smaller.

A client chooses the schema, so the search is bounded. Everything that takes longer the more of it a schema has (parts,
keywords, options, characters of patterns, constants, the check itself) is counted in steps before it is done (`work`),
and the search ends after `MAX_WORK` of them. The characters of a document are counted likewise.
"""
