"""The only HTTP clients of the project: one adapter per protocol. Imports only ``routing`` of ours."""
