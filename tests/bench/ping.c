// ping: one message of its own each millisecond over one connection, timed by this program's clock.
//
// ping ADDRESS PID echo 1 SIZE SECONDS, as load.c is started; it prints the same figures. What is
// done between sending and receiving is one system call each, so that nothing in C is faster.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "figures.h"

static const uint64_t INTERVAL = 1000000;

static int connected_to(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    int port, one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (sscanf(address, "tcp:%d", &port) != 1) bad("usage: see ping.c");
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) cannot("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}
static uint64_t round_trip(int fd, const char *message, char *reply, size_t size) {
    uint64_t begun = now();
    if (send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size) cannot("send");
    for (size_t got = 0; got < size;) {
        ssize_t n = recv(fd, reply + got, size - got, 0);
        if (n <= 0) bad("the server did not echo");
        got += n;
    }
    return now() - begun;
}
int main(int count, char **words) {
    if (count != 7) bad("usage: see ping.c");
    size_t size = atoi(words[5]);
    uint64_t length = atof(words[6]) * SECOND;
    char *message = calloc(2, size), *reply = message + size;
    int fd = connected_to(words[1]);
    pid = atoi(words[2]);
    uint64_t begun = now(), due = begun;
    for (uint64_t number = 0; due < begun + WARM_UP + length; due += INTERVAL) {
        struct timespec at = {.tv_sec = due / SECOND, .tv_nsec = due % SECOND};
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, 0)) cannot("clock_nanosleep");
        if (!counting && due >= begun + WARM_UP) open_window();
        memcpy(message, &number, size < sizeof number ? size : sizeof number);
        uint64_t latency = round_trip(fd, message, reply, size);
        if (memcmp(message, reply, size)) bad("something else came back");
        number++;
        if (counting) record(latency);
    }
    close_window();
    print_figures();
}
