"""Rate limits: what responses say of them, and how fast a deployment may be called."""
