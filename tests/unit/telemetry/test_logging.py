"""What a process writes to stderr is for a machine to read, a line at a time."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from telemetry.logging import configure_logging
configure_logging("INFO")
structlog.get_logger().info("batch_accepted", batch="b1")
logging.getLogger("celery.worker").warning("Connection to %s lost", "redis")
logging.getLogger("celery.worker").info("not said")
try:
    raise ValueError("the prompt of a user")
except ValueError:
    logging.getLogger("celery.app").error("task failed", exc_info=True)
    structlog.get_logger().error("request_failed", exc_info=True)
"""


def test_every_line_is_json_also_those_of_libraries_and_no_exception_is_quoted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "batch_accepted",
        "Connection to redis lost",
        "task failed",
        "request_failed",
    ]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "error"]
    assert lines[1]["logger"] == "celery.worker"
    assert all("timestamp" in line for line in lines)
    for line in lines[2:]:
        assert line["exception"] == "ValueError"
        assert line["frames"]
    assert "prompt of a user" not in done.stderr
