# Pointsman as one image: every role (worker, feeder, Flower, API) is a command of it. Postgres and Redis are services of
# their own; the embedded ones are not in it, nor is what the tests need.
#
#   docker build -t pointsman:local .
#   docker build -t pointsman:local --build-arg LOCK=requirements.lock .   # also Parquet, `train` and `learn`: 1 GB

FROM python:3.13-slim AS build
ARG LOCK=deploy/image-requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN apt-get -qq update && apt-get -qq install --no-install-recommends binutils && python -m venv /app/.venv
# First what changes seldom: the layer is built anew only when the lock changes.
COPY ${LOCK} lock
RUN .venv/bin/pip install --no-compile --require-hashes -r lock && rm lock \
    # A fifth of their size: the packages' own tests and sources in C, and the symbols of their libraries. auditwheel
    # has moved the sections of those in *.libs; they stay as they are.
    && find .venv/lib -depth -type d \( -name tests -o -name include \) -path "*/site-packages/*" -exec rm -r {} + \
    && find .venv/lib -type f -regex ".*\.\(c\|h\|pxd\|pyi\|pyx\|js\.map\)" -delete \
    && find .venv/lib -name "*.so" -not -path "*.libs/*" -exec strip --strip-unneeded {} +
COPY . .
RUN .venv/bin/pip install --no-compile --no-deps --no-build-isolation -e . \
    && .venv/bin/pip uninstall --yes setuptools pip \
    && .venv/bin/python deploy/compile_imports.py /app \
    # Readable whatever the umask of whoever checked it out: it runs as somebody else. Each file that is touched is copied
    # into this layer, so not those of the layers below.
    && find . -path ./.venv -prune -o -exec chmod a+rX {} +

# The base without package managers, Perl, administration tools and what only documents: a third of its size, and fewer
# things that could be misused. What Debian packages there are stays in /var/lib/dpkg/status, for scanners.
FROM python:3.13-slim AS base
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/pointsman pointsman \
    && install -d -o pointsman -g pointsman -m 0700 /var/lib/pointsman \
    && cd /usr && for python in lib/python3.* local/lib/python3.*; do (cd "$python" 2>/dev/null \
        && rm -rf ensurepip idlelib pydoc_data site-packages/pip* test tkinter turtledemo) || true; done \
    && rm -rf local/bin/pip* local/bin/idle* lib/python3/dist-packages share/python-wheels \
        bin/apt* bin/bash* bin/dpkg* bin/localedef bin/ls[bc]* bin/partx bin/openssl bin/perl* bin/sqv bin/tar lib/apt lib/dpkg \
        lib/*/gconv lib/*/libapt* lib/*/libdb-* lib/*/libsemanage* lib/*/libsepol* lib/*/libsystemd* lib/*/perl* \
        lib/*/libblkid* lib/*/libfdisk* lib/*/libmount* lib/*/libpam* lib/*/libsmartcols* lib/*/libudev* lib/*/security \
        share/bash-completion share/bug share/doc share/info share/lintian share/locale share/man share/perl* \
        /var/cache/* /var/lib/apt /var/lib/dpkg/info /var/log/* && rm -rf sbin/*

FROM scratch
COPY --from=base / /
ENV PATH=/app/.venv/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    POINTSMAN_HOME=/var/lib/pointsman
WORKDIR /app
USER 10001
VOLUME /var/lib/pointsman
# SIGTERM is a warm shutdown: calls under way are finished, the rest is given back.
STOPSIGNAL SIGTERM
ENTRYPOINT []
CMD ["pointsman", "--help"]
# Last, for it is what changes. The files are root's, whoever the user is.
COPY --from=build /app /app
