// load: a closed-loop echo client which checks every byte and reads the server's CPU clocks.
//
//   load ADDRESS PID echo COUNT SIZE SECONDS [STAMP]
//       COUNT connections, each with one message of SIZE bytes in flight; replies begin with a
//       stamp of STAMP bytes if given
//   load ADDRESS PID trip SECONDS
//       one at a time: connect, one round trip of 64 bytes, close
//   load ADDRESS PID idle COUNT SECONDS
//       COUNT connections that have made one round trip each, then say nothing
//
// ADDRESS is tcp:PORT, unix:@NAME, or, for echo, udp:PORT: one datagram each is in flight then,
// and one that is not answered in time is sent again and counted as lost.
//
// Prints one line of JSON. The server is process PID with the children it has when counting
// begins. Exit status: 0; 1 when the server did not echo; 2 when that could not be found out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "figures.h"

enum {
    BUFFER = 1 << 18,     // bytes received at once: whole messages, mostly
    OFFSETS = 4096,       // different messages: where in the pattern they begin
    SMALL = 64,           // bytes of a message where its size is not the question
    PATIENCE = 5,         // seconds of silence after which the server is considered stuck
    RESEND = 100,         // milliseconds until a datagram counts as lost; slow replies take 10
};

struct connection {
    int fd;
    size_t sent, got;
    uint64_t begun;
    const char *message;
    unsigned number; // of the message, so that each has its own bytes
    unsigned tries;  // how often it was sent
};

static union { struct sockaddr any; struct sockaddr_in in; struct sockaddr_un un; } address;
static socklen_t address_size;
static int type = SOCK_STREAM;
static size_t size = SMALL, stamp;
static char *pattern, buffer[BUFFER];
static int stopping, unanswered, alive;

// --- connections ---------------------------------------------------------------------------

static const char *after(const char *kind, const char *word) {
    return strncmp(word, kind, strlen(kind)) ? 0 : word + strlen(kind);
}
static void parse_address(const char *word) {
    const char *port = after("tcp:", word), *name = after("unix:", word);
    if (name && *name == '@' && strlen(name) <= sizeof address.un.sun_path) {
        address.un.sun_family = AF_UNIX;
        memcpy(address.un.sun_path + 1, name + 1, strlen(name) - 1); // a zero, then the name
        address_size = offsetof(struct sockaddr_un, sun_path) + strlen(name);
        return;
    }
    if (!port && (port = after("udp:", word))) type = SOCK_DGRAM;
    if (!port) cannot("usage: see load.c");
    address.in.sin_family = AF_INET;
    address.in.sin_port = htons(atoi(port));
    address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_size = sizeof address.in;
}
static int dial(void) {
    int fd = socket(address.any.sa_family, type, 0), one = 1;
    struct timeval patience = {.tv_sec = PATIENCE};
    if (fd < 0) cannot("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // fails where it is no question
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, &address.any, address_size)) cannot("connect");
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
    c->tries = 1;
    send_on(c);
}
static void finish(struct connection *c) {
    int datagrams = type == SOCK_DGRAM; // which have no end, so nothing must be there
    if (!datagrams) fcntl(c->fd, F_SETFL, 0), shutdown(c->fd, SHUT_WR);
    if (recv(c->fd, buffer, 1, 0) != (datagrams ? -1 : 0))
        bad("more came back than was sent, or no end-of-file");
    close(c->fd);
    c->tries = 0;
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
        if (type == SOCK_DGRAM && c->got < size + stamp) bad("a datagram came back cut short");
        if (c->got == size + stamp) {
            uint64_t at = now();
            if (counting) record(at - c->begun);
            if (c->number == 1) unanswered--;
            if (stopping) { finish(c); return; }
            begin_message(c, at);
        }
    } while (n == BUFFER || events & EPOLLRDHUP); // less: all was taken, unless the end came too
}

static void open_connection(int epoll, struct connection *c) {
    struct epoll_event wish = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    // A datagram leaves at once, and with EPOLLOUT each of them would be an event.
    if (type == SOCK_STREAM) wish.events |= EPOLLOUT | EPOLLRDHUP;
    c->fd = dial();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &wish)) cannot("epoll_ctl");
}
static void send_again(int epoll, struct connection *c, uint64_t at) {
    if (!c->tries || at - c->begun < c->tries * RESEND * (SECOND / 1000)) return;
    if (c->tries++ * RESEND > PATIENCE * 1000) bad("no reply");
    if (counting) lost++;
    close(c->fd); // from another socket, so that a late answer is not taken for that of the next
    open_connection(epoll, c);
    c->sent = 0;
    send_on(c);
}

// --- the three kinds of work ---------------------------------------------------------------

static void echo(int count, double seconds) {
    static struct epoll_event events[4096];
    int epoll = epoll_create1(0);
    struct connection *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) open_connection(epoll, all + i);
    alive = unanswered = count;
    uint64_t begun = now(), looked = begun;
    int patience = type == SOCK_DGRAM ? RESEND : PATIENCE * 1000;
    for (int i = 0; i < count; i++) begin_message(all + i, now());
    while (alive) {
        int ready = epoll_wait(epoll, events, 4096, patience);
        if (ready < 0) cannot("epoll_wait");
        if (!ready && type == SOCK_STREAM) bad("no reply");
        for (int i = 0; i < ready; i++) go_on(events[i].data.ptr, events[i].events);
        uint64_t at = now();
        if (type == SOCK_DGRAM && at - looked > RESEND * (SECOND / 1000)) {
            for (int i = 0; i < count; i++) send_again(epoll, all + i, at);
            looked = at;
        }
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
    pid = atoi(words[2]);
    parse_address(words[1]);
    if (type == SOCK_DGRAM && *work != 'e') cannot("usage: see load.c");
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
