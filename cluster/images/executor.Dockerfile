# A small image for nodes that run code of models: Ray, the libraries that code may import, no engine. From the root of the repository:
#   docker build -f cluster/images/executor.Dockerfile -t genprm-ray:executor .
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home genprm

WORKDIR /app
COPY requirements/executor.lock requirements/lock.txt
RUN python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements/lock.txt

COPY actors actors
COPY cluster cluster
COPY genprm genprm
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
RUN python -c "import actors.remote, numpy, scipy, sympy"
USER 1000
