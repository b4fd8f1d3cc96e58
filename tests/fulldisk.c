/* A disk that fills up: from the `arm`ed write on, everything that needs room below a folder fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long left = -1; /* writes that still succeed; -1: all */
static int failure = ENOSPC;
long fulldisk_seen;

void fulldisk_arm(const char *below, long writes, int error) {
    strncpy(folder, below, sizeof folder - 1);
    left = writes;
    failure = error;
    fulldisk_seen = 0;
}

static int below(const char *path) {
    return folder[0] && strncmp(path, folder, strlen(folder)) == 0;
}

/* Whether the file has blocks for these bytes already, as after posix_fallocate. */
static int reserved(int fd, off_t at, size_t size) {
    struct stat about;
    if (fstat(fd, &about)) return 0;
    return at + (off_t)size <= about.st_size && about.st_blocks * 512 >= about.st_size;
}

static int full(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (!below(path)) return 0;
    fulldisk_seen++;
    if (left < 0) return 0;
    if (left > 0) { left--; return 0; }
    errno = failure;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    return full(fd) ? -1 : real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return !reserved(fd, at, size) && full(fd) ? -1 : real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return !reserved(fd, at, size) && full(fd) ? -1 : real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    return full(fd) ? -1 : real(fd, parts, count);
}
int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    return full(fd) ? errno : real(fd, at, size);
}
int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    return full(fd) ? errno : real(fd, at, size);
}
