"""The protocols: tables of error codes, parameters and finish reasons, and the adapters."""
