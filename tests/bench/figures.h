// figures: when the load client counts, what the server uses meanwhile, and how long replies take.
//
// Part of load.c and handshakes.c, and the same for every kind of connection. What is inline is not
// for all of them.
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

enum {
    PROCESSES = 256,      // of one server
    SUBDIVISIONS = 64,    // of each power of two in the histogram: 1.6 % of error
};
static const uint64_t SECOND = 1000000000, WARM_UP = 100000000; // nanoseconds

static pid_t pid;
static uint64_t messages, lost, histogram[64][SUBDIVISIONS];
static int counting;

_Noreturn static void cannot(const char *what) { perror(what); exit(2); }
_Noreturn static void bad(const char *what) { fprintf(stderr, "%s\n", what); exit(1); }

static uint64_t now_on(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) cannot("clock_gettime");
    return t.tv_sec * SECOND + t.tv_nsec;
}
static uint64_t now(void) { return now_on(CLOCK_MONOTONIC); }

// --- what the server and this process use ------------------------------------------------

static struct { clockid_t clock; uint64_t begun; } server[PROCESSES];
static int processes;
static uint64_t window_begin, window_end, server_cpu, own_cpu;

static void watch_process(pid_t which) {
    if (processes == PROCESSES || clock_getcpuclockid(which, &server[processes].clock)) return;
    struct timespec t;
    if (clock_gettime(server[processes].clock, &t)) return; // it has ended meanwhile
    server[processes++].begun = t.tv_sec * SECOND + t.tv_nsec;
}
static void open_window(void) {
    char path[300];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path); // each has those that it has started
    for (struct dirent *thread; threads && (thread = readdir(threads));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", pid, thread->d_name);
        FILE *children = fopen(path, "r");
        while (children && fscanf(children, "%d", &child) == 1) watch_process(child);
        if (children) fclose(children);
    }
    if (threads) closedir(threads);
    watch_process(pid);
    if (!processes) cannot("the server's CPU clock");
    own_cpu = now_on(CLOCK_PROCESS_CPUTIME_ID);
    window_begin = now();
    counting = 1;
}
static void close_window(void) {
    counting = 0;
    window_end = now();
    own_cpu = now_on(CLOCK_PROCESS_CPUTIME_ID) - own_cpu;
    for (int i = 0; i < processes; i++) {
        struct timespec t; // a child of an earlier load may have ended: it did nothing for us
        if (clock_gettime(server[i].clock, &t)) continue;
        server_cpu += t.tv_sec * SECOND + t.tv_nsec - server[i].begun;
    }
}
static inline long resident_bytes(void) {
    char path[64], line[256];
    long kilobytes;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid); // exact, which VmRSS is not
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %ld kB", &kilobytes) == 1) { fclose(file); return kilobytes * 1024; }
    cannot(path);
}

// --- latency -------------------------------------------------------------------------------

static void record(uint64_t latency) {
    int shift = latency < SUBDIVISIONS ? 0 : 58 - __builtin_clzll(latency);
    histogram[shift][latency >> shift]++;
    messages++;
}
static double percentile_us(double share) {
    uint64_t seen = 0;
    for (int shift = 0; shift < 64; shift++)
        for (int i = 0; i < SUBDIVISIONS; i++)
            if ((seen += histogram[shift][i]) && seen >= messages * share)
                return (i + 0.5) * (double)(1ull << shift) / 1e3;
    return 0;
}
static inline void print_figures(void) {
    if (!messages) bad("no message came back while counting");
    double window = window_end - window_begin;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"begin\": %.6f, \"end\": %.6f, "
           "\"cpu_us\": %.4f, \"p50_us\": %.2f, \"p95_us\": %.2f, \"p99_us\": %.2f, \"server_share\": %.4f, "
           "\"load_cpu_us\": %.4f, \"load_share\": %.4f, \"processes\": %d, \"lost\": %" PRIu64 "}\n",
           messages, window / SECOND, (double)window_begin / SECOND, (double)window_end / SECOND,
           server_cpu / 1e3 / messages, percentile_us(0.5), percentile_us(0.95), percentile_us(0.99),
           server_cpu / window, own_cpu / 1e3 / messages, own_cpu / window, processes, lost);
}
