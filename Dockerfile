# albert-serve, small and without root. Build: docker build -t albert-serve .
# Run: docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD/models:/models:ro" albert-serve /models/albert-base-v2
# Not run where it was written: there is no Docker there. Its steps were, one by one, in a fresh environment.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python -m venv /opt/albert && /opt/albert/bin/pip install --no-cache-dir '.[serve]'

FROM python:3.12-slim
COPY --from=build /opt/albert /opt/albert
RUN useradd --system --create-home albert
USER albert
ENV PATH=/opt/albert/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready')"]
# All interfaces of the container; TLS and keys are the proxy's work.
ENTRYPOINT ["albert-serve", "--host", "0.0.0.0"]
