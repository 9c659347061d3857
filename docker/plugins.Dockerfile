# syntax=docker/dockerfile:1
# The plugins in other languages, each in an image of its own, with nobody's privileges.
# Built from the root of the repository:  docker build -f docker/plugins.Dockerfile --target till-anomaly -t tillstream-till-anomaly .

# `@sha256:...` pins a base image to its content.
ARG PYTHON_DIGEST=
ARG NODE_DIGEST=
FROM python:3.11.13-slim-bookworm${PYTHON_DIGEST} AS till-anomaly
COPY clients/python /opt/client
RUN pip install --no-cache-dir /opt/client && rm -r /opt/client
COPY plugins/till-anomaly/rhythm.py plugins/till-anomaly/till_anomaly.py /opt/plugin/
USER 10001:10001
WORKDIR /opt/plugin
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "till_anomaly.py"]

FROM node:20.19.5-bookworm-slim${NODE_DIGEST} AS customer-notifier
WORKDIR /opt/clients/node
COPY clients/node/package.json clients/node/package-lock.json ./
# Fetches the Kafka client's prebuilt librdkafka from GitHub.
RUN npm ci --omit=dev --no-audit --no-fund
COPY clients/node/src src
COPY plugins/customer-notifier /opt/plugins/customer-notifier
RUN mkdir -p /opt/plugins/customer-notifier/node_modules \
    && ln -s ../../../clients/node /opt/plugins/customer-notifier/node_modules/tillstream
USER 10001:10001
WORKDIR /opt/plugins/customer-notifier
ENV NODE_ENV=production
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "index.js"]
