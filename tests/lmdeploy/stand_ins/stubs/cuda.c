/* libcuda.so.1 without a GPU: address ranges are host memory, everything else succeeds. */
#define _GNU_SOURCE
#include <sys/mman.h>

typedef int E;
typedef unsigned long long U;
typedef unsigned long N;

E cuDeviceGetAttribute(int *value) { *value = 0; return 0; }
E cuGetErrorString(int error, const char **text) { *text = "fake"; return 0; }
E cuMemCreate(U *handle) { *handle = 1; return 0; }
E cuMulticastCreate(U *handle) { *handle = 1; return 0; }
E cuMemRetainAllocationHandle(U *handle) { *handle = 1; return 0; }
E cuMemGetAllocationGranularity(N *bytes) { *bytes = 2 << 20; return 0; }
E cuMulticastGetGranularity(N *bytes) { *bytes = 2 << 20; return 0; }

E cuMemAddressReserve(U *address, N n, N alignment) {
    U k = alignment ? alignment : 1;
    void *base = mmap(0, n + k, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *address = ((U)base + k - 1) / k * k;
    return 0;
}

#define OK(f) E f() { return 0; }
OK(cuMemAddressFree)
OK(cuMemMap)
OK(cuMemRelease)
OK(cuMemSetAccess)
OK(cuMemUnmap)
OK(cuMulticastAddDevice)
OK(cuMulticastBindMem)
OK(cuMulticastUnbind)
