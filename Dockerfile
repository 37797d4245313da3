# GPU training. Needs the NVIDIA driver (525 or newer) and the NVIDIA Container Toolkit on the host, nothing else.
#
#   docker build -t jaxloco .
#   mkdir -p runs
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/runs:/work/runs" jaxloco train upkie-balance
#
# Without arguments it runs `jaxloco train`. Runs land in ./runs of the host, owned by whoever started the container.
# A robot folder of your own: add `-v "$PWD/my_robot:/work/my_robot:ro"` and `--task.robot my_robot`.
FROM python:3.12-slim

# Headless rendering through EGL. The driver's own libraries come with the container toolkit ("graphics" below).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libgles2 \
    && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=egl \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    NVIDIA_VISIBLE_DEVICES=all \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# GLVND finds NVIDIA's EGL through this file, which not every version of the toolkit mounts.
RUN mkdir -p /usr/share/glvnd/egl_vendor.d \
    && printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}\n' \
    > /usr/share/glvnd/egl_vendor.d/10_nvidia.json

# The dependencies first: this layer, several GB, is made again only when they change.
WORKDIR /opt/jaxloco
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jaxloco/__init__.py jaxloco/
RUN pip install --constraint constraints.txt ".[train,cuda]"

COPY jaxloco jaxloco
COPY robots robots
RUN pip install --no-deps .

# A user without rights on the image. HOME is writable for any --user, for the compilation caches of JAX and Warp.
RUN useradd --create-home --home-dir /home/jaxloco jaxloco \
    && mkdir -p /work/runs \
    && chown -R jaxloco /work \
    && chmod 1777 /home/jaxloco /work /work/runs
ENV HOME=/home/jaxloco
USER jaxloco
WORKDIR /work

ENTRYPOINT ["jaxloco"]
CMD ["train"]
