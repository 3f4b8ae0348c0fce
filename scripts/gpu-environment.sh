#!/usr/bin/env bash
# An environment for `make test-gpu`, in .venv-gpu.
#
#   scripts/gpu-environment.sh online              a GPU machine with internet: ray[llm] with the vLLM that it pins
#   scripts/gpu-environment.sh download FOLDER     a machine with internet, for a GPU machine without: wheels into FOLDER,
#                                                  those over 60 MB in pieces (PIECE_MB=…)
#   scripts/gpu-environment.sh offline FOLDER      the GPU machine without internet: join the pieces, install from FOLDER
#
# `download` and `offline` are for a machine that brings its own torch 2.11.0 with CUDA 13 (and Python 3.12): Ray 2.58.1
# with vLLM 0.26.0 fits it. Other versions: RAY=…, VLLM=…, PYTHON_VERSION=….
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
PYTHON_VERSION=${PYTHON_VERSION:-3.12}
PIECE_MB=${PIECE_MB:-55}

show() {
  .venv-gpu/bin/python -c 'import ray, torch, vllm; print("ray", ray.__version__, "vllm", vllm.__version__, "torch",
    torch.__version__, "CUDA device:", torch.cuda.is_available())'
}
usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

case "${1:-}" in
online)
  $PYTHON -m venv .venv-gpu
  .venv-gpu/bin/pip install "ray[llm]==${RAY:-2.60.0}" "ray[serve]==${RAY:-2.60.0}" -r requirements/dev.txt
  .venv-gpu/bin/pip install --no-deps --no-build-isolation -e .
  show
  ;;
download)
  folder=${2:?a folder}
  mkdir -p "$folder"
  # torch and what belongs to it stay behind, since the machine has its own; and torchcodec, whose newest is for
  # another torch, and which only reads videos.
  platforms=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any)
  for minor in $(seq 5 35); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done # glibc 2.35: Ubuntu 22.04
  $PYTHON -m pip download -d "$folder" --only-binary=:all: --python-version "$PYTHON_VERSION" --implementation cp \
    "${platforms[@]}" \
    "ray[serve]==${RAY:-2.58.1}" "vllm==${VLLM:-0.26.0}" pyarrow jsonref typer cloudpickle pyyaml \
    $(grep -oE '^(pytest(-asyncio|-benchmark)?|pluggy|blinker)==[^ ]+' requirements/dev.txt)
  rm -f "$folder"/torch-*.whl "$folder"/triton-*.whl "$folder"/torchcodec-*.whl
  # Those of torch alone: flashinfer needs others of NVIDIA's (nvidia-ml-py, which is pynvml, and more).
  rm -f "$folder"/nvidia_{cublas,cuda_*,cudnn_cu13,cufft,cufile,curand,cusolver,cusparse,cusparselt*,nccl_cu13}-*.whl \
    "$folder"/nvidia_{nvjitlink,nvshmem_cu13,nvtx}-*.whl
  $PYTHON -m pip wheel --no-deps -w "$folder" .
  find "$folder" -name '*.whl' -size "+${PIECE_MB}M" | while read -r wheel; do
    split --bytes="${PIECE_MB}M" --numeric-suffixes "$wheel" "$wheel.piece-"
    rm "$wheel"
  done
  ;;
offline)
  folder=${2:?a folder}
  find "$folder" -name '*.whl.piece-00' | while read -r first; do
    cat "${first%-00}"-* > "${first%.piece-00}"
  done
  $PYTHON -m venv --system-site-packages .venv-gpu # its torch is the machine's
  .venv-gpu/bin/pip install --no-index --no-deps "$folder"/*.whl # this package's among them
  # Where $PYTHON is itself in a virtual environment, --system-site-packages shows the packages of the interpreter under
  # it, not of that environment. So the folder of its torch is named; what is in .venv-gpu goes before it.
  $PYTHON -c 'import importlib.util, pathlib, sys
found = importlib.util.find_spec("torch")
sys.exit(f"{sys.executable} has no torch") if found is None else print(pathlib.Path(found.origin).parents[1])' \
    > "$(.venv-gpu/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch-of-the-machine.pth"
  show
  ;;
*) usage ;;
esac
