# docker build --tag recmia .
# docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/work" recmia audit --seeds 1
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY constraints.txt /
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /constraints.txt "$(echo /wheels/recmia-*.whl)[demo]"
RUN useradd --uid 1000 recmia
USER recmia
# Caches have a place whoever runs it.
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["recmia"]
CMD ["--help"]
