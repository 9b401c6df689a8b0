"""A simulated LLM provider, in a process of its own: for the demo, the tests, benchmarks and chaos.

    python -m simulator --port 0 --ready-file /tmp/port --seed 7 --log calls.jsonl --config simulator.json

It speaks three protocols on one port:

    POST /openai/v1/chat/completions                          and GET /openai/v1/models
    POST /anthropic/v1/messages                               and GET /anthropic/v1/models
    POST /google/v1beta/models/{model}:generateContent        and GET /google/v1beta/models

A step in front is a *site*, to tell deployments of one model apart: ``/eu/openai/v1/…``.

**Answers** are made up and begin with ``[simulated MODEL]``. Where a shape was asked for (JSON, a
closed list of choices) there is no room for that; every reply also carries ``"simulated": true``
and ``system_fingerprint: pointsman-simulator``. A model answers well what is no harder than it is
strong; else vaguely, mostly with low log-probabilities (`mind`, `strength`, `difficulty`). All of
it depends on the seed, the model and the text alone, not on the order of arrival (`draws`). A
system message with ``POINTSMAN-ROUTER`` makes the model a router (`router_answer`).

**Recordings**: ``--replay FILE`` gives known questions their recorded answers, verbatim (`replay`).
Their log-probabilities are invented and say nothing about the answer.

**Configuration**, by ``--config FILE`` and at run time by ``POST /control`` (`config`)::

    {"latency": {"shape": "lognormal", "median_ms": 800, "sigma": 0.4},   # or uniform, fixed
     "latency_by_model": {"gpt-5*": {"shape": "fixed", "ms": 0}},
     "prices": {"gpt-5-nano": [0.05, 0.4], "*": [1, 4]},                  # US dollars per million tokens
     "strengths": {"my-model": "small", "other": 0.6},
     "limits": {"gpt-5-nano": {"requests_per_min": 600}},                 # tokens_per_min, max_in_flight
     "faults": [{"kind": "429", "rate": 0.1, "retry_after": "ms", "retry_after_s": 2},
                {"kind": "hang", "model": "claude-*", "first": 1},
                {"kind": "dead", "for_s": 10}],                           # all kinds: `faults.FaultKind`
     "cached_share": 0.0, "reasoning_tokens": 0}

``/control`` takes the same keys, each of which replaces its part, and ``add_faults``, ``reset``
(counts to zero) and ``refuse_for_s`` (nobody listens); it answers with what is in force.

**The oracle**: ``--log`` gets one JSON line per received call, by the simulator's own price table:
``time seq protocol site model text_sha call outcome billed delivered status prompt_tokens
completion_tokens cached_tokens cost_usd in_flight``; ``call`` is the header ``x-pointsman-call``;
never a prompt. ``GET /stats`` has the counts, and brings the log file up to date. A reply that
could not be delivered is billed all the same: the provider did the work. ``dead`` receives nothing
and logs nothing. Tokens are ⌈characters ÷ 4⌉.

`process.start_simulator` starts and stops it. One process answers 6,000 to 11,000 calls a second on
one core of a quiet machine; `connection` says what a call costs, how that was measured, and against what.
"""
