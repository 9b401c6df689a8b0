"""The only HTTP clients of the project, with one adapter per protocol. Imports only ``routing`` of our packages."""
