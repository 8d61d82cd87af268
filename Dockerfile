# The service in a container: docker build -t resight . && docker run -p 8321:8321 -v DATA:/data resight ...
# Collections and the file of keys lie in /data; see docs/serve.md.
FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
# CPU wheels of torch: a service needs no CUDA, which would be 4 GB more.
RUN python -m venv /opt/resight \
    && /opt/resight/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<2.14" \
    && /opt/resight/bin/pip install --no-cache-dir ".[serve,heif]"

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --no-create-home resight && mkdir /data && chown resight /data
COPY --from=build /opt/resight /opt/resight
ENV PATH=/opt/resight/bin:$PATH PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba
USER resight
VOLUME /data
EXPOSE 8321
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["resight", "serve", "--host", "0.0.0.0", "--keys", "/data/keys.json"]
CMD ["/data/photos.resight"]
