/* libcudart.so.12 without a GPU: device memory is host memory, a kernel launch does nothing.
 *
 * Two kernels that TurboMind's scheduler waits for are imitated: sampling answers token 5, the length test is real.
 * FAKE_SM (90), FAKE_DEVICES (8) and FAKE_MEM_GB (80) name the device; offsets are those of CUDA 12.8's headers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int E;
typedef void *P;
typedef struct {
    unsigned x, y, z;
} dim3;

/* ---- the device ---- */

static long env(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static int sm(void) { return (int)env("FAKE_SM", 90); }

/* CUDA programming guide, compute capabilities: shared memory of a block that opts in. */
static long optin(void) {
    switch (sm()) {
    case 70: return 96 << 10;
    case 75: return 64 << 10;
    case 80: case 87: return 163 << 10;
    case 86: case 89: case 120: case 121: return 99 << 10;
    default: return 227 << 10;
    }
}

static long shared_of_sm(void) { return sm() < 80 ? optin() : optin() + 1024; }

static int multiprocessors(void) {
    switch (sm()) {
    case 70: return 80;
    case 75: return 72;
    case 80: return 108;
    case 90: return 132;
    default: return 128;
    }
}

static size_t memory(void) { return (size_t)env("FAKE_MEM_GB", 80) << 30; }

static __thread int current;

E cudaGetDeviceProperties_v2(char *o, int device) {
    memset(o, 0, 1032);
    snprintf(o, 256, "no GPU (sm_%d)", sm());
    *(size_t *)(o + 288) = memory();
    *(size_t *)(o + 296) = 48 << 10; /* sharedMemPerBlock */
    *(int *)(o + 304) = 65536;       /* regsPerBlock */
    *(int *)(o + 308) = 32;          /* warpSize */
    *(int *)(o + 320) = 1024;        /* maxThreadsPerBlock */
    *(int *)(o + 360) = sm() / 10;
    *(int *)(o + 364) = sm() % 10;
    *(int *)(o + 388) = multiprocessors();
    *(int *)(o + 616) = 50 << 20; /* l2CacheSize */
    *(int *)(o + 624) = 2048;     /* maxThreadsPerMultiProcessor */
    *(size_t *)(o + 640) = shared_of_sm();
    *(size_t *)(o + 696) = optin();
    return 0;
}

E cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 75: *value = sm() / 10; break;
    case 76: *value = sm() % 10; break;
    case 16: *value = multiprocessors(); break;
    case 97: *value = optin(); break;
    case 8: *value = 48 << 10; break;
    case 10: *value = 32; break;
    case 1: *value = 1024; break;
    default: *value = 0;
    }
    return 0;
}

E cudaGetDeviceCount(int *n) { *n = (int)env("FAKE_DEVICES", 8); return 0; }
E cudaGetDevice(int *device) { *device = current; return 0; }
E cudaSetDevice(int device) { current = device; return 0; }
E cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = 1; return 0; }
const char *cudaGetErrorName(E error) { return "fake"; }
const char *cudaGetErrorString(E error) { return "fake"; }

/* ---- memory: a page in front of each piece holds its sizes ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t live;

static P take(size_t n) {
    size_t whole = n + 8192;
    char *base = mmap(0, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return 0;
    ((size_t *)base)[0] = whole;
    ((size_t *)base)[1] = n;
    pthread_mutex_lock(&lock);
    live += n;
    pthread_mutex_unlock(&lock);
    return base + 4096;
}

static E drop(P p) {
    if (p) {
        size_t *base = (size_t *)((char *)p - 4096);
        pthread_mutex_lock(&lock);
        live -= base[1];
        pthread_mutex_unlock(&lock);
        munmap(base, base[0]);
    }
    return 0;
}

E cudaMalloc(P *p, size_t n) { *p = n > memory() ? 0 : take(n); return *p ? 0 : 2; }
E cudaMallocAsync(P *p, size_t n, P stream) { return cudaMalloc(p, n); }
E cudaMallocFromPoolAsync(P *p, size_t n, P pool, P stream) { return cudaMalloc(p, n); }
E cudaHostAlloc(P *p, size_t n, unsigned flags) { return cudaMalloc(p, n); }
E cudaFree(P p) { return drop(p); }
E cudaFreeAsync(P p, P stream) { return drop(p); }
E cudaFreeHost(P p) { return drop(p); }
E cudaMemcpy(P to, P from, size_t n, int kind) { memmove(to, from, n); return 0; }
E cudaMemcpyAsync(P to, P from, size_t n, int kind, P stream) { return cudaMemcpy(to, from, n, kind); }
E cudaMemcpyPeer(P to, int a, P from, int b, size_t n) { return cudaMemcpy(to, from, n, 0); }

E cudaMemcpy2DAsync(P to, size_t to_pitch, P from, size_t from_pitch, size_t w, size_t h, int kind, P stream) {
    for (size_t i = 0; i < h; ++i)
        memmove((char *)to + i * to_pitch, (char *)from + i * from_pitch, w);
    return 0;
}

/* Whole KV caches are zeroed; fresh pages are zero already. */
E cudaMemset(P p, int value, size_t n) { if (n < (64u << 20)) memset(p, value, n); return 0; }
E cudaMemsetAsync(P p, int value, size_t n, P stream) { return cudaMemset(p, value, n); }

E cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = memory();
    *free_bytes = live < *total ? *total - live : 0;
    return 0;
}

E cudaPointerGetAttributes(P attributes, P p) {
    memset(attributes, 0, 32);
    ((int *)attributes)[0] = 2; /* cudaMemoryTypeDevice */
    ((int *)attributes)[1] = current;
    ((P *)attributes)[1] = p;
    ((P *)attributes)[2] = p;
    return 0;
}

/* ---- streams and events: everything has already happened ---- */

static P handle(void) {
    static long count = 0x1000;
    return (P)__sync_add_and_fetch(&count, 16);
}

#define NEW(f) E f(P *p) { *p = handle(); return 0; }
NEW(cudaStreamCreateWithFlags)
NEW(cudaStreamCreateWithPriority)
NEW(cudaEventCreate)
NEW(cudaEventCreateWithFlags)
NEW(cudaMemPoolCreate)
NEW(cudaDeviceGetDefaultMemPool)

#define OK(f) E f() { return 0; }
OK(cudaStreamDestroy)
OK(cudaStreamSynchronize)
OK(cudaStreamWaitEvent)
OK(cudaEventDestroy)
OK(cudaEventRecord)
OK(cudaEventSynchronize)
OK(cudaDeviceSynchronize)
OK(cudaGetLastError)
OK(cudaPeekAtLastError)
OK(cudaMemPoolDestroy)
OK(cudaMemPoolSetAttribute)
OK(cudaMemPoolTrimTo)

/* Long enough for the GEMM tuner to try each kernel once. */
E cudaEventElapsedTime(float *ms, P a, P b) { *ms = 10; return 0; }

/* ---- kernels ---- */

struct kernel {
    const void *host;
    const char *name;
    long launches;
};
static struct kernel *kernels;
static int registered, capacity;

P *__cudaRegisterFatBinary(P binary) { static P h; return &h; }
void __cudaRegisterFatBinaryEnd(P *h) {}
void __cudaUnregisterFatBinary(P *h) {}
void __cudaRegisterVar() {}

void __cudaRegisterFunction(P *h, const char *host, char *device, const char *name) {
    if (registered == capacity)
        kernels = realloc(kernels, (capacity = capacity ? capacity * 2 : 4096) * sizeof *kernels);
    kernels[registered++] = (struct kernel){host, name, 0};
}

static __thread struct {
    dim3 grid, block;
    size_t shared;
    P stream;
} configuration[8];
static __thread int depth;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, P stream) {
    configuration[depth].grid = grid;
    configuration[depth].block = block;
    configuration[depth].shared = shared;
    configuration[depth++].stream = stream;
    return 0;
}

E __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, P *stream) {
    --depth;
    *grid = configuration[depth].grid;
    *block = configuration[depth].block;
    *shared = configuration[depth].shared;
    *stream = configuration[depth].stream;
    return 0;
}

enum { TOKEN = 5, MAX_LOGPROBS = 1024 };

/* sampling(logits, stride, indices, kept, state, ., ids, lengths, logprobs, indexes, counts): token 5, certain. */
static void sampling(unsigned batch, P *a) {
    int *ids = *(int **)a[6], *lengths = *(int **)a[7];
    float *logprobs = *(float **)a[8];
    int *indexes = *(int **)a[9], *counts = *(int **)a[10];
    for (unsigned i = 0; i < batch; ++i) {
        ids[i] = TOKEN;
        lengths[i] += 1;
        if (logprobs && indexes && counts) {
            logprobs[i * MAX_LOGPROBS] = 0;
            indexes[i * MAX_LOGPROBS] = TOKEN;
            counts[i] = 1;
        }
    }
}

/* length_criterion_v2(finished, lengths, limits, batch) */
static void length_criterion(P *a) {
    char *finished = *(char **)a[0];
    int *lengths = *(int **)a[1], *limits = *(int **)a[2];
    for (int i = 0; i < *(int *)a[3]; ++i)
        if (lengths[i] >= limits[i])
            finished[i] = 1;
}

static int starts(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

static int by_host(const void *a, const void *b) {
    const void *x = ((struct kernel *)a)->host, *y = ((struct kernel *)b)->host;
    return x < y ? -1 : x > y;
}

static E launch(const void *host, unsigned grid_x, P *arguments) {
    static int sorted;
    pthread_mutex_lock(&lock);
    if (sorted != registered)
        qsort(kernels, sorted = registered, sizeof *kernels, by_host);
    pthread_mutex_unlock(&lock);
    struct kernel wanted = {host}, *kernel = bsearch(&wanted, kernels, registered, sizeof *kernels, by_host);
    if (kernel) {
        __sync_fetch_and_add(&kernel->launches, 1);
        if (starts(kernel->name, "_ZN9turbomind8samplingI"))
            sampling(grid_x, arguments);
        else if (starts(kernel->name, "_ZN9turbomind19length_criterion_v2"))
            length_criterion(arguments);
    }
    return 0;
}

E cudaLaunchKernel(const void *f, dim3 grid, dim3 block, P *a, size_t shared, P stream) { return launch(f, grid.x, a); }
E cudaLaunchKernelExC(unsigned *configuration, const void *f, P *a) { return launch(f, *configuration, a); }

/* Number of launches of the i-th registered kernel, -1 past the last. */
long fake_kernel(int i, const char **name) {
    if (i >= registered)
        return -1;
    *name = kernels[i].name;
    return kernels[i].launches;
}

E cudaFuncGetAttributes(P attributes, const void *f) {
    memset(attributes, 0, 144);
    int *v = (int *)((char *)attributes + 24);
    v[0] = 1024; /* maxThreadsPerBlock */
    v[1] = 64;   /* numRegs */
    v[2] = v[3] = sm();
    v[5] = (int)optin();
    return 0;
}

E cudaFuncSetAttribute(const void *f, int attribute, int value) { return attribute == 8 && value > optin(); }

E cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int threads, size_t shared, unsigned fl) {
    long by_shared = shared ? shared_of_sm() / (long)(shared + 1024) : 16, by_threads = threads ? 2048 / threads : 16;
    if ((long)shared > optin())
        by_shared = 0;
    else if (by_shared < 1)
        by_shared = 1;
    *n = (int)(by_shared < by_threads ? by_shared : by_threads);
    return 0;
}

E cudaOccupancyMaxActiveClusters(int *n, const void *f, P configuration) { *n = multiprocessors() / 2; return 0; }

static int tensor_map(void) { return 0; }

E cudaGetDriverEntryPoint(const char *symbol, P *f, unsigned long long flags, int *status) {
    int known = !strcmp(symbol, "cuTensorMapEncodeTiled");
    *f = known ? (P)tensor_map : 0;
    if (status)
        *status = !known;
    return 0;
}
