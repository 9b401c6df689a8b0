"""The feeder: publishes ready queries to the broker, and rescues queries after a crash."""
