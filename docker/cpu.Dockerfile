# Serves the embedded bundle, or one that is mounted, on the CPU:
#   docker build -f docker/cpu.Dockerfile -t exeunt:cpu .
#   docker run -p 8000:8000 exeunt:cpu
FROM python:3.12.11-slim-bookworm AS build

RUN python -m venv /opt/exeunt
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY server server
COPY engine engine
COPY kernels kernels
COPY export export
COPY train train
COPY bench bench
RUN /opt/exeunt/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu]'

FROM python:3.12.11-slim-bookworm

COPY --from=build /opt/exeunt /opt/exeunt
ENV PATH=/opt/exeunt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EXEUNT__SERVER__HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["exeunt"]
CMD ["serve"]
