"""Rate limits: what responses say about them, and the pace of calls to a deployment."""
