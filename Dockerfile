# docker build -t mmdet_atc .
# docker run --gpus all --shm-size 8g -v /path/to/coco:/data/coco mmdet_atc train atc_vit_adapter_s_average_r50
FROM python:3.12-slim
# OpenCV wants libGL; g++ is for the clustering on CPUs and for Triton.
RUN apt-get update -q && apt-get install -qy --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY requirements /requirements
RUN pip install --no-cache-dir -r /requirements/build.txt -r /requirements/torch.txt \
    -r /requirements/runtime.txt -r /requirements/mmcv-lite.txt
COPY . /mmdet_atc
RUN pip install --no-cache-dir --no-build-isolation --no-deps /mmdet_atc
ENV COCO_ROOT=/data/coco
ENTRYPOINT ["python", "-m", "mmdet_atc"]
