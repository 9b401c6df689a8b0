"""The feeder: dispatches ready queries to the broker, and rescues what a crash left."""
