"""``python -m simulator``: runs the simulator until SIGTERM or SIGINT, and prints its address."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

import uvloop

from simulator.call_log import CallLog
from simulator.provider import SimulatedProvider
from simulator.recordings import ReplayError, read_recordings
from simulator.server import Server
from simulator.simulator_config import Config, ConfigError, read_config

_RARE_COLLECTIONS = 50_000
"""The collector's threshold. Calls leave no cycles; at the default of 700 it would run in vain."""


def main() -> int:
    """Run until a signal; returns the exit status."""
    options = _parser().parse_args()
    try:
        service = SimulatedProvider(
            _config(options.config),
            seed=options.seed,
            recordings=None if options.replay is None else read_recordings(options.replay),
            log=CallLog(options.log),
        )
    except (ConfigError, ReplayError, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    gc.set_threshold(_RARE_COLLECTIONS, 20, 20)
    gc.freeze()
    try:
        uvloop.run(_serve(Server(service), options))
    except OSError as error:
        print(f"simulator: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


async def _serve(server: Server, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _watch_stdin, stop)
    port = await server.listen(options.host, options.port)
    if options.ready_file is not None:
        _announce(options.ready_file, port)
    print(f"simulator: simulated answers at http://{options.host}:{port}", flush=True)
    await stop.wait()
    server.close()


def _watch_stdin(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        stop.set()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def _announce(path: Path, port: int) -> None:
    """Write the port atomically."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(f"{port}\n")
    draft.replace(path)


def _config(path: Path | None) -> Config:
    return Config() if path is None else read_config(path.read_bytes())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A simulated LLM provider.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="0: the system chooses one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers")
    parser.add_argument("--ready-file", type=Path, help="the port is written here once it listens")
    parser.add_argument("--log", type=Path, help="one JSON line per received call")
    parser.add_argument("--replay", type=Path, help="JSONL of recorded answers, given out verbatim")
    parser.add_argument("--config", type=Path, help="JSON: latency, faults, strengths, prices, limits")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when stdin closes: the parent ended")
    return parser


if __name__ == "__main__":
    sys.exit(main())
