"""One file per family of faults. Importing this package registers them all."""

from tests.chaos.faults import broker, feeder, messages, postgres, user, workers

__all__ = ["broker", "feeder", "messages", "postgres", "user", "workers"]
