/* libnccl.so.2: communicators that know their size and rank, and move nothing. */
#include <stdlib.h>
#include <string.h>

typedef struct {
    char bytes[128];
} unique;
struct communicator {
    int size, rank;
};

int ncclCommInitRank(struct communicator **c, int size, unique id, int rank) {
    *c = malloc(sizeof **c);
    (*c)->size = size;
    (*c)->rank = rank;
    return 0;
}
int ncclCommCount(struct communicator *c, int *size) { *size = c->size; return 0; }
int ncclCommUserRank(struct communicator *c, int *rank) { *rank = c->rank; return 0; }
int ncclGetUniqueId(unique *id) { memset(id, 0, sizeof *id); return 0; }
int ncclGetVersion(int *version) { *version = 22203; return 0; }
const char *ncclGetErrorString() { return "fake"; }
const char *ncclGetLastError() { return "fake"; }
int ncclMemAlloc(void **p, size_t n) { return posix_memalign(p, 4096, n ? n : 1); }

#define OK(f) int f() { return 0; }
OK(ncclCommDestroy)
OK(ncclMemFree)
OK(ncclGroupStart)
OK(ncclGroupEnd)
OK(ncclAllGather)
OK(ncclAllReduce)
OK(ncclBroadcast)
OK(ncclReduce)
OK(ncclReduceScatter)
