"""The endpoints of vendors' APIs that a query may be written for.

A query is stored as a body of chat completions, for any endpoint. Each module here translates one endpoint's request
into that, and the stored answer into the endpoint's object. Embeddings are not completions, so they are stored
unchanged. Pure.
"""
