/* Preloaded into a server or a database: while the file that CALLSCOPE_CHAOS_EIO names exists, nothing becomes durable
 * and everyone who asks for it hears EIO. Everything else goes on as before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(void) {
    static const char *file;
    int before = errno, found;
    if (!file) file = getenv("CALLSCOPE_CHAOS_EIO");
    found = file && access(file, F_OK) == 0;
    errno = before;
    return found;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define FAIL_IF_TOLD() do { if (fails()) { errno = EIO; return -1; } } while (0)

int fsync(int fd) { REAL(int, fsync, int); FAIL_IF_TOLD(); return real(fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); FAIL_IF_TOLD(); return real(fd); }
int syncfs(int fd) { REAL(int, syncfs, int); FAIL_IF_TOLD(); return real(fd); }
int msync(void *at, size_t length, int flags) { REAL(int, msync, void *, size_t, int); FAIL_IF_TOLD(); return real(at, length, flags); }
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    REAL(int, sync_file_range, int, off64_t, off64_t, unsigned int);
    FAIL_IF_TOLD();
    return real(fd, offset, bytes, flags);
}
