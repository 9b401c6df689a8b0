"""``fleet.toml``, read and checked: from what a person wrote to a `Fleet` that is trusted inside.

Every problem of a file is found in one go, each with its key, what is wrong and the mend.
"""

from fleet_config.fleet_errors import FleetError, Problem
from fleet_config.loader import CheckedFleet, check_fleet, load_fleet
from fleet_config.validation import SIMULATOR

__all__ = ["SIMULATOR", "CheckedFleet", "FleetError", "Problem", "check_fleet", "load_fleet"]
