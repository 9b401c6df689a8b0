# Pointsman as one image: every role (worker, feeder, Flower, API) is a command of it.
# Postgres and Redis are services of their own here; the embedded ones stay unused.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /app/.venv
# First what changes seldom: the layer is built anew only when the lock changes.
COPY requirements.lock .
RUN .venv/bin/pip install --require-hashes -r requirements.lock
COPY . .
# Readable whatever the umask of whoever checked it out: it runs as somebody else.
RUN .venv/bin/pip install --no-deps --no-build-isolation -e . \
    # The tests' packages go again: fewer things that could be misused.
    && .venv/bin/python deploy/unneeded_packages.py > /tmp/unneeded \
    && .venv/bin/pip uninstall --yes --requirement /tmp/unneeded \
    && chmod -R a+rX /app

FROM python:3.12-slim
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 POINTSMAN_HOME=/var/lib/pointsman
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/pointsman pointsman \
    && install -d -o pointsman -g pointsman -m 0700 /var/lib/pointsman
COPY --from=build /app /app
WORKDIR /app
USER 10001
VOLUME /var/lib/pointsman
# SIGTERM is a warm shutdown: calls under way are finished, the rest is given back.
STOPSIGNAL SIGTERM
ENTRYPOINT []
CMD ["pointsman", "--help"]
