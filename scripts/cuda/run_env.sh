# To be sourced: has the CUDA libraries of pip's packages (PyTorch's, or those of README.md) on the library path.
# The driver's libcuda.so.1 is the system's own.
#
#     . scripts/cuda/run_env.sh
LD_LIBRARY_PATH=$(python3 - "${LD_LIBRARY_PATH:-}" <<'PYTHON'
import sys
from pathlib import Path

libraries = {str(found.parent) for root in sys.path for found in Path(root).glob("nvidia/*/lib/lib*.so.*")}
print(":".join(sorted(libraries) + [path for path in sys.argv[1:] if path]))
PYTHON
)
export LD_LIBRARY_PATH
