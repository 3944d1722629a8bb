# The server alone: it runs as nobody in particular, writes to /data only and needs no network to start.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
ENV PIP_PYTHON=/opt/venv/bin/python PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock .
RUN pip install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes uv_build

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
# with a read-only root only /dev/shm is writable, and litellm cannot be imported without a folder for temporary files
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True \
    TMPDIR=/dev/shm \
    SWARMSTREAM_DATA_DIR=/data \
    SWARMSTREAM_HOST=0.0.0.0
# a volume that is new takes its owner from here
RUN install -d -o 10001 -g 10001 -m 700 /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('SWARMSTREAM_PORT', '8000') + '/health/live', timeout=2)"]
CMD ["swarmstream", "serve"]
