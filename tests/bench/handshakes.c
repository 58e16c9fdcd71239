// handshakes: how long a fresh TCP connection waits for its first echo beside TLS handshakes.
//
//   handshakes tls:PORT,tcp:PORT PID dribble|haste COUNT SECONDS
//       COUNT handshakes are in progress, none of which is ever completed. Those that dribble say
//       their ClientHello byte by byte, up to the last but one, then leave, and others come. Hasty
//       ones, when all have been accepted, say all of it at the same time, and leave when the
//       server has answered; when all have left, others come.
//
// Meanwhile one TCP connection after the other is opened, says 64 bytes, which must come back, and
// is closed. (At a rate of their own they would queue up, because trio accepts one in each of its
// turns.) The handshakes are another process, which has to yield to this one.
//
// Prints one line of JSON. Exit status: as that of load.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "figures.h"
#include "tls.h"

enum {
    HELLO = 4096,       // bytes that a ClientHello may have
    SMALL = 64,         // bytes of a message
    PAUSE = 10,         // milliseconds between two fresh TCP connections
    DRIBBLE = 50,       // milliseconds from one byte of a handshake to the next
    ACCEPTED = 300,     // milliseconds until hasty ones have been accepted
    SETTLE = 1,         // seconds until all handshakes are in progress, and measuring begins
    PATIENCE = 30,      // seconds of silence after which the server is considered stuck
};

struct handshake { int fd; ssize_t sent; };

static struct sockaddr_in place = {.sin_family = AF_INET};
static char hello[HELLO], pattern[SMALL + 256];
static ssize_t hello_size;

static int dial(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) cannot("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    place.sin_port = htons(port);
    if (connect(fd, (struct sockaddr *)&place, sizeof place)) cannot("connect");
    return fd;
}

// --- the handshakes --------------------------------------------------------------------------

static void learn_hello(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) cannot("socketpair");
    start_tls();
    begin_handshake(pair[0]);
    if ((hello_size = read(pair[1], hello, HELLO)) <= 1) cannot("ClientHello");
}
static void leave(struct handshake *one) {
    if (one->fd) close(one->fd);
    one->fd = 0;
}
static void begin(struct handshake *one, int epoll, int port) {
    leave(one);
    one->fd = dial(port);
    one->sent = 0;
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &wish)) cannot("epoll_ctl");
}
static int let_leave(int epoll, int milliseconds) {
    static struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, milliseconds);
    for (int i = 0; i < ready; i++) leave(events[i].data.ptr); // answered, or turned away
    return ready;
}
_Noreturn static void dribble(struct handshake *all, int count, int epoll, int port) {
    for (;;) {
        for (struct handshake *one = all; one < all + count; one++) {
            if (!one->fd || one->sent == hello_size - 1) begin(one, epoll, port);
            one->sent += send(one->fd, hello + one->sent, 1, MSG_NOSIGNAL) == 1;
        }
        usleep(DRIBBLE * 1000);
        while (let_leave(epoll, 0) > 0);
    }
}
_Noreturn static void haste(struct handshake *all, int count, int epoll, int port) {
    for (;;) {
        for (int i = 0; i < count; i++) begin(all + i, epoll, port);
        usleep(ACCEPTED * 1000);
        for (int i = 0; i < count; i++) send(all[i].fd, hello, hello_size, MSG_NOSIGNAL);
        for (int left = 0, some = 1; left < count && some > 0; left += some)
            some = let_leave(epoll, PATIENCE * 1000);
    }
}

// --- the fresh connections -------------------------------------------------------------------

static void fresh_echo(int port, const char *message) {
    char bytes[SMALL + 1];
    struct timeval patience = {.tv_sec = PATIENCE};
    uint64_t begun = now();
    int fd = dial(port);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (send(fd, message, SMALL, MSG_NOSIGNAL) != SMALL) bad("the server broke the connection");
    for (ssize_t got = 0; got < SMALL;) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) bad(n ? "no reply" : "end-of-file in mid-message");
        if (got + n > SMALL) bad("more came back than was sent");
        if (memcmp(bytes, message + got, n)) bad("a wrong byte came back");
        got += n;
    }
    if (counting) record(now() - begun);
    close(fd);
}
static void measure(int port, double seconds) {
    uint64_t begun = now();
    for (unsigned number = 0; !window_end; number++) {
        if (!counting && now() - begun > SETTLE * SECOND) open_window();
        fresh_echo(port, pattern + number % 256);
        if (counting && now() - window_begin > seconds * SECOND) close_window();
        usleep(PAUSE * 1000);
    }
}
int main(int count, char **words) {
    int tls_port, tcp_port;
    if (count != 6 || sscanf(words[1], "tls:%d,tcp:%d", &tls_port, &tcp_port) != 2
        || (strcmp(words[3], "dribble") && strcmp(words[3], "haste")))
        cannot("usage: see handshakes.c");
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)(random() >> 8);
    pid = atoi(words[2]);
    double seconds = atof(words[5]);
    alarm((unsigned)seconds + 2 * PATIENCE); // whatever happens, it ends
    learn_hello();
    pid_t parent = getpid(), child = fork();
    if (child < 0) cannot("fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) exit(2); // it has ended before it could be noticed
        if (nice(5) < 0) cannot("nice");
        struct handshake *all = calloc(atoi(words[4]), sizeof *all);
        (*words[3] == 'h' ? haste : dribble)(all, atoi(words[4]), epoll_create1(0), tls_port);
    }
    measure(tcp_port, seconds);
    if (waitpid(child, 0, WNOHANG)) bad("the handshakes have ended"); // and have said why
    kill(child, SIGKILL);
    if (!messages) bad("no message came back while counting");
    printf("{\"echo_p50_ms\": %.3f, \"echo_p99_ms\": %.3f, \"delay_samples\": %" PRIu64
           ", \"server_share\": %.4f}\n",
           percentile_us(0.5) / 1e3, percentile_us(0.99) / 1e3, messages,
           server_cpu / (double)(window_end - window_begin));
    return 0;
}
