// load: a closed-loop echo client which checks every byte and reads the server's CPU clocks.
//
//   load PORT PID echo COUNT SIZE SECONDS [STAMP]
//       COUNT connections, each with one message of SIZE bytes in flight; replies begin with a
//       stamp of STAMP bytes if given
//   load PORT PID trip SECONDS
//       one at a time: connect, one round trip of 64 bytes, close
//   load PORT PID idle COUNT SECONDS
//       COUNT connections that have made one round trip each, then say nothing
//
// Prints one line of JSON. The server is process PID with the children it has when counting
// begins. Exit status: 0; 1 when the server did not echo; 2 when that could not be found out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER = 1 << 18,     // bytes received at once: whole messages, mostly
    OFFSETS = 4096,       // different messages: where in the pattern they begin
    SMALL = 64,           // bytes of a message where its size is not the question
    PATIENCE = 5,         // seconds of silence after which the server is considered stuck
    PROCESSES = 256,      // of one server
    SUBDIVISIONS = 64,    // of each power of two in the histogram: 1.6 % of error
};
static const uint64_t SECOND = 1000000000, WARM_UP = 100000000; // nanoseconds

struct connection {
    int fd;
    size_t sent, got;
    uint64_t begun;
    const char *message;
    unsigned number; // of the message, so that each has its own bytes
};

static int port;
static pid_t pid;
static size_t size = SMALL, stamp;
static char *pattern, buffer[BUFFER];
static uint64_t messages, histogram[64][SUBDIVISIONS];
static int counting, stopping, unanswered, alive;

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
    char path[64];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *children = fopen(path, "r");
    while (children && fscanf(children, "%d", &child) == 1) watch_process(child);
    if (children) fclose(children);
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
static long resident_bytes(void) {
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
static void print_figures(void) {
    if (!messages) bad("no message came back while counting");
    double window = window_end - window_begin;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"begin\": %.6f, \"end\": %.6f, "
           "\"cpu_us\": %.4f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"server_share\": %.4f, "
           "\"load_share\": %.4f, \"processes\": %d}\n",
           messages, window / SECOND, (double)window_begin / SECOND, (double)window_end / SECOND,
           server_cpu / 1e3 / messages, percentile_us(0.5), percentile_us(0.99),
           server_cpu / window, own_cpu / window, processes);
}

// --- connections ---------------------------------------------------------------------------

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct timeval patience = {.tv_sec = PATIENCE};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) cannot("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) cannot("connect");
    return fd;
}
static void round_trip(int fd, const char *message) {
    if (send(fd, message, SMALL, MSG_NOSIGNAL) != SMALL) bad("the server broke the connection");
    for (size_t got = 0; got < SMALL;) {
        ssize_t n = recv(fd, buffer, SMALL - got, 0);
        if (n <= 0) bad(n ? "no reply" : "end-of-file in mid-message");
        if (memcmp(buffer, message + got, n)) bad("a wrong byte came back");
        got += n;
    }
}
static void send_on(struct connection *c) {
    while (c->sent < size) {
        ssize_t n = send(c->fd, c->message + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) bad("the server broke the connection");
        c->sent += n;
    }
}
static void begin_message(struct connection *c, uint64_t at) {
    c->message = pattern + (size_t)(c->fd * 61 + c->number++ * 7) % OFFSETS;
    c->sent = c->got = 0;
    c->begun = at;
    send_on(c);
}
static void finish(struct connection *c) {
    fcntl(c->fd, F_SETFL, 0);
    shutdown(c->fd, SHUT_WR);
    if (recv(c->fd, buffer, 1, 0)) bad("more came back than was sent, or no end-of-file");
    close(c->fd);
    alive--;
}
static void check(const struct connection *c, const char *bytes, size_t n) {
    size_t from = c->got, skip = 0;
    if (from + n > size + stamp) bad("more came back than was sent");
    for (; from + skip < stamp && skip < n; skip++) {
        size_t at = from + skip;
        char want = at == 0 ? '[' : at == stamp - 2 ? ']' : bytes[skip];
        if (bytes[skip] != want) bad("a wrong byte came back in place of a stamp");
    }
    if (skip < n && memcmp(bytes + skip, c->message + from + skip - stamp, n - skip))
        bad("a wrong byte came back");
}
static void go_on(struct connection *c, unsigned events) {
    ssize_t n;
    send_on(c);
    do {
        n = recv(c->fd, buffer, BUFFER, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) bad(n ? "the server broke the connection" : "end-of-file in mid-message");
        check(c, buffer, n);
        c->got += n;
        if (c->got == size + stamp) {
            uint64_t at = now();
            if (counting) record(at - c->begun);
            if (c->number == 1) unanswered--;
            if (stopping) { finish(c); return; }
            begin_message(c, at);
        }
    } while (n == BUFFER || events & EPOLLRDHUP); // less: all was taken, unless the end came too
}

// --- the three kinds of work ---------------------------------------------------------------

static void echo(int count, double seconds) {
    static struct epoll_event events[4096];
    int epoll = epoll_create1(0);
    struct connection *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) {
        struct epoll_event wish = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
        wish.data.ptr = all + i;
        all[i].fd = dial();
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &wish)) cannot("epoll_ctl");
    }
    alive = unanswered = count;
    uint64_t begun = now();
    for (int i = 0; i < count; i++) begin_message(all + i, now());
    while (alive) {
        int ready = epoll_wait(epoll, events, 4096, PATIENCE * 1000);
        if (ready < 0) cannot("epoll_wait");
        if (!ready) bad("no reply");
        for (int i = 0; i < ready; i++) go_on(events[i].data.ptr, events[i].events);
        uint64_t at = now();
        if (!counting && !stopping && !unanswered && at - begun > WARM_UP) open_window();
        else if (counting && at - window_begin > seconds * SECOND) close_window(), stopping = 1;
    }
    print_figures();
}
static void trip(double seconds) {
    uint64_t begun = now(), at;
    for (unsigned number = 0; (at = now()), !window_end; number++) {
        int fd = dial();
        round_trip(fd, pattern + number % OFFSETS);
        close(fd);
        if (counting) record(now() - at);
        if (!counting && at - begun > WARM_UP) open_window();
        else if (counting && now() - window_begin > seconds * SECOND) close_window();
    }
    print_figures();
}
static void idle(int count, double seconds) {
    round_trip(dial(), pattern); // what the first connection brings about once is no part of it
    long before = resident_bytes();
    for (int i = 0; i < count; i++) round_trip(dial(), pattern + i % OFFSETS);
    usleep(WARM_UP / 1000);
    open_window();
    usleep(seconds * 1e6);
    close_window();
    printf("{\"connections\": %d, \"seconds\": %.6f, \"connection_bytes\": %.1f, "
           "\"idle_percent\": %.4f, \"processes\": %d}\n",
           count, (double)(window_end - window_begin) / SECOND,
           (double)(resident_bytes() - before) / count,
           100.0 * server_cpu / (window_end - window_begin), processes);
}
int main(int count, char **words) {
    const char *work = count > 3 ? words[3] : "";
    int wanted = !strcmp(work, "echo") ? 7 : !strcmp(work, "trip") ? 5 : !strcmp(work, "idle") ? 6 : 0;
    if (count != wanted && !(*work == 'e' && count == 8)) cannot("usage: see load.c");
    double seconds = atof(words[wanted - 1]);
    port = atoi(words[1]), pid = atoi(words[2]);
    if (*work == 'e') size = strtoul(words[5], 0, 10);
    if (count == 8) stamp = strtoul(words[7], 0, 10);
    alarm((unsigned)seconds + 12 * PATIENCE); // whatever happens, it ends
    pattern = malloc(size + OFFSETS);
    for (size_t i = 0; i < size + OFFSETS; i++) pattern[i] = (char)(random() >> 8);
    if (*work == 'e') echo(atoi(words[4]), seconds);
    if (*work == 't') trip(seconds);
    if (*work == 'i') idle(atoi(words[4]), seconds);
    return 0;
}
