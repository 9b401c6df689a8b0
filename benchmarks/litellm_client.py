"""Runs in litellm's own venv, with nothing of ours: ``Router.acompletion``, so many in flight, and a JSON of figures.

``python litellm_client.py BASE_URL CALLS IN_FLIGHT``
"""

import asyncio
import json
import os
import sys
import time

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOG", "ERROR")

import litellm
from litellm import Router

litellm.telemetry = False
litellm.suppress_debug_info = True

_MODELS = {"small": "gpt-5-nano", "medium": "gpt-5-mini", "large": "gpt-5.2"}


async def ask(router: Router, number: int) -> None:
    await router.acompletion(
        model=list(_MODELS)[number % len(_MODELS)],
        messages=[{"role": "user", "content": f"What is the capital of Australia? ({number})"}],
    )


async def drain(router: Router, numbers: range, in_flight: int) -> None:
    waiting = iter(numbers)

    async def one_after_the_other() -> None:
        for number in waiting:
            await ask(router, number)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


async def main(base_url: str, calls: int, in_flight: int) -> None:
    router = Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{model}", "api_base": base_url, "api_key": "sk-simulated"},
            }
            for name, model in _MODELS.items()
        ],
        num_retries=0,
    )
    await drain(router, range(2 * in_flight), in_flight)
    began, cpu_s = time.perf_counter(), time.process_time()
    await drain(router, range(calls), in_flight)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    print(json.dumps({"per_s": calls / wall_s, "cpu_ms": 1000 * cpu_s / calls}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
