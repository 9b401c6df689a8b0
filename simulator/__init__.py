"""A simulated LLM provider, in a process of its own: for the demo, the tests, benchmarks and chaos.

    python -m simulator --port 0 --ready-file /tmp/port --seed 7 --log calls.jsonl --config simulator.json

It speaks three protocols on one port:

    POST /openai/v1/chat/completions                          and GET /openai/v1/models
    POST /anthropic/v1/messages                               and GET /anthropic/v1/models
    POST /google/v1beta/models/{model}:generateContent        and GET /google/v1beta/models

and the batch APIs of all three, under the same prefixes: OpenAI's files and batches, Anthropic's message batches,
Google's files, ``batchGenerateContent`` and batches.

A step in front is a *site*, which distinguishes deployments of one model: ``/eu/openai/v1/…``.

**Answers** are generated and begin with ``[simulated MODEL]``, except where a format was requested (JSON, a closed list
of choices); every reply also has ``"simulated": true`` and ``system_fingerprint: pointsman-simulator``. A model answers
queries up to its strength well; others vaguely, mostly with low log-probabilities (`model_behavior`, `model_strength`,
`query_difficulty`). All of it depends on the seed, the model and the text alone, not on the order of arrival
(`seeded_random`). A system message with ``POINTSMAN-ROUTER`` makes the model a router (`llm_router_reply`).

**Recordings**: ``--replay FILE`` returns recorded answers to known questions, verbatim (`recordings`). Their
log-probabilities are invented and say nothing about the answer.

**Configuration**, by ``--config FILE`` and at run time by ``POST /control`` (`simulator_config`)::

    {"latency": {"shape": "lognormal", "median_ms": 800, "sigma": 0.4},   # or uniform, fixed
     "prices": {"gpt-5-nano": [0.05, 0.4], "*": [1, 4]},                  # US dollars per million tokens
     "strengths": {"my-model": "small", "other": 0.6},
     "limits": {"gpt-5-nano": {"requests_per_min": 600}},                 # tokens_per_min, max_in_flight
     "faults": [{"kind": "429", "rate": 0.1, "retry_after": "ms", "retry_after_s": 2},
                {"kind": "hang", "model": "claude-*", "first": 1},
                {"kind": "dead", "for_s": 10}],                           # all kinds: `fault_rules.FaultKind`
     "lane_prices": {"batch": {"gpt-5-nano": [0.025, 0.2]}},              # default: half of the prices
     "batch": {"clock": 600, "median_s": 420, "p90_s": 3600},             # all keys: `batch_behavior.BatchBehavior`
     "efforts": {"gpt-5-mini": {"low": {"level": 0.5, "reasoning_tokens": 200},
                                "high": {"level": 0.9, "reasoning_tokens": 2000}}},
     "cached_share": 0.0, "reasoning_tokens": 0}

``/control`` takes the same keys, each of which replaces its part, and ``reset`` (counts to zero) and ``refuse_for_s``
(the port is closed); it returns the active configuration.

**Independent record**: ``--log`` gets one JSON line per received call, by the simulator's own price table:
``time seq protocol site model text_sha call outcome billed delivered status prompt_tokens
completion_tokens cached_tokens cost_usd in_flight lane``; ``call`` is the header ``x-pointsman-call``, or a call's id
within its provider batch; never a prompt. ``GET /stats`` has the counts, and flushes the log. A reply that could not be
delivered is billed too: the provider did the work. ``dead`` receives nothing and logs nothing. Tokens are ⌈characters ÷
4⌉.

`process.start_simulator` starts and stops it. One process answers 6,000 to 11,000 calls a second on
one core of a quiet machine; `connection` has the cost of a call and how it was measured.
"""
