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
// ADDRESS is tcp:PORT, tls:PORT (TLS 1.3; to connect is to shake hands, too), unix:@NAME, or, for
// echo, udp:PORT: one datagram each is in flight then, and one that is not answered in time is
// sent again and counted as lost.
//
// Prints one line of JSON. The server is process PID with the children it has when counting
// begins. Exit status: 0; 1 when the server did not echo; 2 when that could not be found out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "figures.h"
#include "tls.h"

enum {
    BUFFER = 1 << 18,     // bytes received at once: whole messages, mostly
    OFFSETS = 4096,       // different messages: where in the pattern they begin
    TOGETHER = 50,        // connections that are opened at the same time, to be idle
    SMALL = 64,           // bytes of a message where its size is not the question
    PATIENCE = 5,         // seconds of silence after which the server is considered stuck
    RESEND = 100,         // milliseconds until a datagram counts as lost; slow replies take 10
};

struct connection {
    int fd;
    void *tls;       // or 0
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
    if (!port && (port = after("tls:", word))) start_tls();
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
static void open_connection(struct connection *c) {
    c->fd = dial();
    if (!(c->tls = tls_context ? begin_handshake(c->fd) : 0)) return;
    go_on_with_handshake(c->tls);
}
static ssize_t take(const struct connection *c, char *bytes, size_t n) {
    return c->tls ? as_system_call(c->tls, SSL_read(c->tls, bytes, n)) : recv(c->fd, bytes, n, 0);
}
static ssize_t give(const struct connection *c, const char *bytes, size_t n) {
    if (!c->tls) return send(c->fd, bytes, n, MSG_NOSIGNAL);
    return as_system_call(c->tls, SSL_write(c->tls, bytes, n));
}
static void say_end(const struct connection *c) {
    if (c->tls) SSL_shutdown(c->tls);
    else shutdown(c->fd, SHUT_WR);
}
static void close_connection(struct connection *c) {
    if (c->tls) SSL_free(c->tls);
    close(c->fd);
}
static void round_trip(const struct connection *c, const char *message) {
    if (give(c, message, SMALL) != SMALL) bad("the server broke the connection");
    for (size_t got = 0; got < SMALL;) {
        ssize_t n = take(c, buffer, SMALL - got);
        if (n <= 0) bad(n ? "no reply" : "end-of-file in mid-message");
        if (memcmp(buffer, message + got, n)) bad("a wrong byte came back");
        got += n;
    }
}
static void send_on(struct connection *c) {
    while (c->sent < size) {
        ssize_t n = give(c, c->message + c->sent, size - c->sent);
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
    if (!datagrams) fcntl(c->fd, F_SETFL, 0), say_end(c);
    if (take(c, buffer, 1) != (datagrams ? -1 : 0))
        bad("more came back than was sent, or no end-of-file");
    close_connection(c);
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
static int may_have_more(const struct connection *c, ssize_t n, unsigned events) {
    if (events & EPOLLRDHUP) return 1; // the end is not taken yet
    // TLS gives a record at a time; and nothing can be left when a whole message has come.
    return c->tls ? c->got || SSL_has_pending(c->tls) : n == BUFFER;
}
static void go_on(struct connection *c, unsigned events) {
    ssize_t n;
    send_on(c);
    do {
        n = take(c, buffer, BUFFER);
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
    } while (may_have_more(c, n, events));
}

static void watch(int epoll, struct connection *c) {
    struct epoll_event wish = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    // A datagram leaves at once, and with EPOLLOUT each of them would be an event.
    if (type == SOCK_STREAM) wish.events |= EPOLLOUT | EPOLLRDHUP;
    open_connection(c);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &wish)) cannot("epoll_ctl");
}
static void send_again(int epoll, struct connection *c, uint64_t at) {
    if (!c->tries || at - c->begun < c->tries * RESEND * (SECOND / 1000)) return;
    if (c->tries++ * RESEND > PATIENCE * 1000) bad("no reply");
    if (counting) lost++;
    close(c->fd); // from another socket, so that a late answer is not taken for that of the next
    watch(epoll, c);
    c->sent = 0;
    send_on(c);
}

// --- the three kinds of work ---------------------------------------------------------------

static void echo(int count, double seconds) {
    static struct epoll_event events[4096];
    int epoll = epoll_create1(0);
    struct connection *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) watch(epoll, all + i);
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
        struct connection c;
        open_connection(&c);
        round_trip(&c, pattern + number % OFFSETS);
        if (c.tls) { // both say that it is over, as any client of TLS should wait for
            say_end(&c);
            if (take(&c, buffer, 1)) bad("more came back than was sent, or no end-of-file");
        }
        close_connection(&c);
        if (counting) record(now() - at);
        if (!counting && at - begun > WARM_UP) open_window();
        else if (counting && now() - window_begin > seconds * SECOND) close_window();
    }
    print_figures();
}
static void open_idle(int count) {
    struct connection some[count];
    for (int i = 0; i < count; i++) {
        some[i].fd = dial();
        some[i].tls = tls_context ? begin_handshake(some[i].fd) : 0;
    }
    for (int i = 0; i < count; i++) {
        if (some[i].tls) go_on_with_handshake(some[i].tls);
        round_trip(some + i, pattern + i % OFFSETS);
        if (some[i].tls) SSL_free(some[i].tls); // without a word; the server's memory counts
    }
}
static void idle(int count, double seconds) {
    open_idle(1); // what the first connection brings about once is no part of it
    long before = resident_bytes();
    // Some at once, because each would wait for its turn on a machine that does other things.
    for (int i = 0; i < count; i += TOGETHER) open_idle(count - i < TOGETHER ? count - i : TOGETHER);
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
    signal(SIGPIPE, SIG_IGN); // which OpenSSL does not ask send(2) for
    alarm((unsigned)seconds + 40 * PATIENCE); // whatever happens, it ends
    pattern = malloc(size + OFFSETS);
    for (size_t i = 0; i < size + OFFSETS; i++) pattern[i] = (char)(random() >> 8);
    if (*work == 'e') echo(atoi(words[4]), seconds);
    if (*work == 't') trip(seconds);
    if (*work == 'i') idle(atoi(words[4]), seconds);
    return 0;
}
