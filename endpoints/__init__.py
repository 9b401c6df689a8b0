"""The endpoints of vendors' APIs that a query may be written for.

A query is stored as a body of chat completions, whatever endpoint it was written for: each module here translates one
endpoint's request into that, and the stored answer into the object that the endpoint returns. Embeddings alone are no
completions, and are stored as they are. Pure.
"""
