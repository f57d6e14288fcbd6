/* Loaded with LD_PRELOAD into the processes of one daemon: their clocks and their disk, as a file says.
 *
 * SHIM_FILE holds three 64-bit integers, mapped and read at each call:
 *   0  ns added to CLOCK_REALTIME
 *   1  parts per million by which CLOCK_MONOTONIC runs fast, counted from the load of the first process (SHIM_BASE, ns)
 *   2  1: fsync, fdatasync and msync of a file whose path holds SHIM_DISK fail with EIO
 *
 * SHIM_THREADS in the environment: so many threads can be started, the next fails with EAGAIN.
 *
 * cc -shared -fPIC -O2 -o shim.so shim.c -ldl
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *set;
static int64_t base;

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("SHIM_FILE"), *from = getenv("SHIM_BASE");
    if (!path || !from)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    void *p = mmap(NULL, 24, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    base = atoll(from);
    if (p != MAP_FAILED)
        set = p;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t);
    if (rc || !set || (id != CLOCK_REALTIME && id != CLOCK_MONOTONIC))
        return rc;
    int64_t ns = t->tv_sec * 1000000000LL + t->tv_nsec;
    ns += id == CLOCK_REALTIME ? set[0] : (int64_t)((double)(ns - base) * 1e-6 * (double)set[1]);
    t->tv_sec = ns / 1000000000LL;
    t->tv_nsec = ns % 1000000000LL;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    (void)zone;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return 0;
}

int pthread_create(pthread_t *id, const pthread_attr_t *a, void *(*f)(void *), void *x)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static int started;
    const char *most = getenv("SHIM_THREADS");
    if (!real)
        real = dlsym(RTLD_NEXT, "pthread_create");
    if (most && __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST) > atoi(most))
        return EAGAIN;
    return real(id, a, f, x);
}

static int broken(int fd)
{
    const char *part = getenv("SHIM_DISK");
    char name[64], path[4096];
    if (!set || set[2] != 1 || !part)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return strstr(path, part) != NULL;
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fsync");
    if (broken(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fdatasync");
    if (broken(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}
