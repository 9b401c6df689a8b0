"""The OpenAI Batch API over HTTP: files, batches, chat completions; webhooks, keys, metrics."""
