/* Faults at the n-th operation on files below a folder.
 *
 * With an `error`, the disk is full from the n-th write on: everything that needs room fails. With `KILL` the
 * process dies before its n-th operation that changes the disk: opening for writing, a write (of which the
 * first half is written), a change of length, name or mode, a deletion, a new folder, a sync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILL -1

static char folder[4096];
static long left = -1; /* operations that still succeed; -1: all */
static int failure = ENOSPC;
long faults_seen;

void faults_arm(const char *below, long operations, int error) {
    strncpy(folder, below, sizeof folder - 1);
    left = operations;
    failure = error;
    faults_seen = 0;
}

static int below(const char *path) {
    return folder[0] && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_below(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

/* Whether the operation that is now counted is the one to fail. */
static int due(void) {
    faults_seen++;
    if (left < 0) return 0;
    if (left > 0) { left--; return 0; }
    return 1;
}

static void kill_here(void) { kill(getpid(), SIGKILL); }

/* Whether the file has blocks for these bytes already, as after posix_fallocate. */
static int reserved(int fd, off_t at, size_t size) {
    struct stat about;
    if (fstat(fd, &about)) return 0;
    return at + (off_t)size <= about.st_size && about.st_blocks * 512 >= about.st_size;
}

/* Whether a write must fail for want of room. */
static int full(int fd) {
    if (failure == KILL || !is_below(fd) || !due()) return 0;
    errno = failure;
    return 1;
}

/* Whether the process dies at this write. */
static int dies(int fd) { return failure == KILL && is_below(fd) && due(); }

/* Die at another operation, if it is its turn. */
static void changes(int ours) {
    if (failure == KILL && ours && due()) kill_here();
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (dies(fd)) { real(fd, data, size / 2); kill_here(); }
    return full(fd) ? -1 : real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    if (dies(fd)) { real(fd, data, size / 2, at); kill_here(); }
    return !reserved(fd, at, size) && full(fd) ? -1 : real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    if (dies(fd)) { real(fd, data, size / 2, at); kill_here(); }
    return !reserved(fd, at, size) && full(fd) ? -1 : real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (dies(fd)) { real(fd, parts, count / 2); kill_here(); }
    return full(fd) ? -1 : real(fd, parts, count);
}
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    REAL(sendfile);
    if (dies(to)) { real(to, from, at, size / 2); kill_here(); }
    return full(to) ? -1 : real(to, from, at, size);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    REAL(sendfile64);
    if (dies(to)) { real(to, from, at, size / 2); kill_here(); }
    return full(to) ? -1 : real(to, from, at, size);
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t size, unsigned flags) {
    REAL(copy_file_range);
    if (dies(to)) kill_here();
    return full(to) ? -1 : real(from, at, to, there, size, flags);
}
int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    if (dies(fd)) kill_here();
    return full(fd) ? errno : real(fd, at, size);
}
int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    if (dies(fd)) kill_here();
    return full(fd) ? errno : real(fd, at, size);
}

#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE va_list more; va_start(more, flags); mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; va_end(more)

int open(const char *path, int flags, ...) {
    REAL(open); MODE;
    changes(WRITES(flags) && below(path));
    return real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    REAL(open64); MODE;
    changes(WRITES(flags) && below(path));
    return real(path, flags, mode);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    changes(below(to));
    return real(from, to);
}
int unlink(const char *path) {
    REAL(unlink);
    changes(below(path));
    return real(path);
}
int unlinkat(int fd, const char *path, int flags) {
    REAL(unlinkat);
    changes(below(path) || (fd >= 0 && is_below(fd)));
    return real(fd, path, flags);
}
int rmdir(const char *path) {
    REAL(rmdir);
    changes(below(path));
    return real(path);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    changes(below(path));
    return real(path, mode);
}
int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    changes(below(path));
    return real(path, mode);
}
int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    changes(is_below(fd));
    return real(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    changes(is_below(fd));
    return real(fd, size);
}
int fsync(int fd) {
    REAL(fsync);
    changes(is_below(fd));
    return real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    changes(is_below(fd));
    return real(fd);
}
