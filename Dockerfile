# A worker, and every other command of Headrace: docs/containers.md. The first stage has a compiler, for the kernel that
# learns, and the second has what the first one made.
FROM python:3.12.12-bookworm AS build

WORKDIR /source
RUN python -m venv --without-pip /opt/headrace

# What it depends on changes seldom, so it has a layer of its own. Of extras, such as lightgbm, none unless asked for:
# docker build --build-arg EXTRAS=lightgbm,parquet .
ARG EXTRAS=""
COPY pyproject.toml ./
RUN python -c "import sys, tomllib; \
given = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [one for one in sys.argv[1].split(',') if one]; \
print(*given['dependencies'], *(line for one in extras for line in given['optional-dependencies'][one]), sep='\n')" \
    "${EXTRAS}" > requirements.txt \
    && pip --python /opt/headrace/bin/python install --no-cache-dir --requirement requirements.txt

COPY setup.py README.md LICENSE ./
COPY src src
COPY schemas schemas
COPY models models
COPY stream stream
COPY examples examples
# The kernel is optional where a compiler may be missing, and none is missing here: without it the build fails.
RUN pip --python /opt/headrace/bin/python install --no-cache-dir --no-deps . \
    && /opt/headrace/bin/python -I -c "import headrace.models._kernel"

FROM python:3.12.12-slim-bookworm

LABEL org.opencontainers.image.title="headrace" \
      org.opencontainers.image.description="A streaming inference worker on Kafka: every event scored once" \
      org.opencontainers.image.licenses="Apache-2.0"

# A number, so that whoever refuses containers that run as root can tell that this one does not.
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid headrace --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
    && install --directory --owner=headrace --group=headrace --mode=0700 /var/lib/headrace \
    && install --directory /app

COPY --from=build /opt/headrace /opt/headrace

# Beyond loopback the page wants a token, so web_host stays as it is until somebody sets both.
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_STATE_DIR=/var/lib/headrace \
    HEADRACE_WEB_PORT=6066

USER 10001:10001
WORKDIR /app
EXPOSE 6066

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; ask = http.client.HTTPConnection('127.0.0.1', int(os.environ['HEADRACE_WEB_PORT']), timeout=3); ask.request('GET', '/health/live'); sys.exit(ask.getresponse().status != 200)"]

ENTRYPOINT ["headrace"]
CMD ["--help"]
