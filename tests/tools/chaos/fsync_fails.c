/* Preloaded into a server or a database: while the file that CALLSCOPE_CHAOS_EIO names exists, each call that makes
 * data durable returns EIO without doing so. All other calls work. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int is_failing(void) {
    static const char *file;
    int errno_before = errno, found;
    if (!file) file = getenv("CALLSCOPE_CHAOS_EIO");
    found = file && access(file, F_OK) == 0;
    errno = errno_before;
    return found;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define FAIL_IF_SWITCHED_ON() do { if (is_failing()) { errno = EIO; return -1; } } while (0)

int fsync(int fd) { REAL(int, fsync, int); FAIL_IF_SWITCHED_ON(); return real(fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); FAIL_IF_SWITCHED_ON(); return real(fd); }
int syncfs(int fd) { REAL(int, syncfs, int); FAIL_IF_SWITCHED_ON(); return real(fd); }
int msync(void *address, size_t length, int flags) { REAL(int, msync, void *, size_t, int); FAIL_IF_SWITCHED_ON(); return real(address, length, flags); }
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    REAL(int, sync_file_range, int, off64_t, off64_t, unsigned int);
    FAIL_IF_SWITCHED_ON();
    return real(fd, offset, bytes, flags);
}
