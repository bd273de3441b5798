# syntax=docker/dockerfile:1
# rag-gateway with retrieval, user features and guardrails: the environment that `make` builds, in an image.
#
#   docker build --tag rag-gateway .
#   docker run --publish 8080:8080 --volume rag-gateway:/data \
#     --volume "$PWD/gateway.yaml:/etc/rag-gateway/gateway.yaml:ro" --env OPENAI_API_KEY rag-gateway
#
# Inside a container the gateway listens on every address, where it refuses to start without an admin key:
# `docker run … rag-gateway rag-gateway keys create --name admin --admin` makes one in the record store, on the volume, and
# prints it. The configuration that is built in has no key. To look around with it, share the host's network and stay on its loopback:
#
#   docker run --network host rag-gateway rag-gateway serve --host 127.0.0.1

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/rag-gateway
# Byte code is made here, since the image's user may not write it where the modules are.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_COMPILE=1
# For the modules of the hot paths, which are compiled; nothing of it comes into the image.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv .venv
# From here on as in the Makefile: torch first and alone, all the rest pinned by hash.
RUN --mount=type=cache,target=/root/.cache/pip \
    .venv/bin/pip install --no-deps --extra-index-url "$TORCH_INDEX" torch==2.13.0
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    .venv/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml hatch_build.py README.md ./
COPY gateway gateway
COPY retrieval retrieval
COPY guardrails guardrails
COPY features features
RUN --mount=type=cache,target=/root/.cache/pip \
    HATCH_BUILD_HOOK_ENABLE_CUSTOM=true .venv/bin/pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim-bookworm
WORKDIR /opt/rag-gateway
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --home-dir /data --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway /data /etc/rag-gateway \
    && ln -s /opt/rag-gateway/configs/gateway.yaml /etc/rag-gateway/gateway.yaml
COPY --from=build /opt/rag-gateway/.venv .venv
# The sample knowledge, users and templates of the configuration that is built in.
COPY configs configs
COPY docs docs
COPY features/repo features/repo
COPY features/sample_users.csv features/sample_users.csv
# RAG_GATEWAY_CONFIG is what `check`, `ask`, `ingest` and `keys` read; only /data is written to.
ENV PATH=/opt/rag-gateway/.venv/bin:$PATH \
    RAG_GATEWAY_CONFIG=/etc/rag-gateway/gateway.yaml \
    RAG_GATEWAY_DATA=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1
USER 10001:10001
VOLUME /data
EXPOSE 8080
# The gateway drains for server.grace (30 s) after this; `docker stop --time 40` lets it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["rag-gateway", "serve", "--config", "/etc/rag-gateway/gateway.yaml", "--host", "0.0.0.0", "--port", "8080"]
