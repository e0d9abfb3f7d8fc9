"""Ask the real CUDA runtime, by its file, for its GPUs; print the code and the runtime's name."""

import ctypes
import sys

library = ctypes.CDLL(sys.argv[1])
library.cudaGetErrorName.restype = ctypes.c_char_p
count = ctypes.c_int()
code = library.cudaGetDeviceCount(ctypes.byref(count))
print(code, library.cudaGetErrorName(code).decode())
