# The environment of `make setup`, and the demo:
#   docker build --tag ccc_w2v .
#   docker run --rm --volume "$PWD/exp:/ccc_w2v/exp" ccc_w2v
# With GPUs: docker run --gpus all --shm-size 8g ... (data workers pass batches through shared memory).
FROM python:3.11-slim-bookworm

# fairseq compiles a few loops. Debian's versions are those of the release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash g++ make sctk sox \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ccc_w2v
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup

ENV PATH="/ccc_w2v/.venv/bin:${PATH}"
CMD ["make", "demo"]
