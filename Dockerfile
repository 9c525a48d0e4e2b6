# Classifies recordings, and serves classification over HTTP, with an exported model: no torch, no compiler.
#
#     docker build --tag neuromoco .
#     docker run --rm --volume "$PWD:/data:ro" neuromoco predict recordings/ --model walk.onnx
#     docker run --rm --publish 127.0.0.1:8000:8000 neuromoco
#
# EXTRAS are optional parts: text, hdf5, mat and ros read more formats, loihi runs Loihi exports, app has the page.
# MODEL is an exported file of this folder that the image holds as /model.onnx, and serves.
FROM python:3.13-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY neuromoco neuromoco
COPY export export
COPY app app
COPY models models
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ARG EXTRAS=serve
ARG MODEL=models/sew_resnet_tiny-digits.onnx
ENV ORT_DISABLE_TELEMETRY=1
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin neuromoco
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-compile "$(echo /wheels/neuromoco-*.whl)[${EXTRAS}]"
COPY ${MODEL} /model.onnx
USER 10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["neuromoco"]
CMD ["serve", "--host", "0.0.0.0", "--model", "/model.onnx"]
