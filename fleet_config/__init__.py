"""Reads and validates ``fleet.toml`` into a `Fleet`.

Reports all problems of a file at once, each with its key and the fix.
"""

from fleet_config.fleet_errors import FleetError, Problem
from fleet_config.loader import CheckedFleet, check_fleet, load_fleet
from fleet_config.validation import SIMULATOR

__all__ = ["SIMULATOR", "CheckedFleet", "FleetError", "Problem", "check_fleet", "load_fleet"]
