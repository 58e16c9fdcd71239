// echo: what a server can do that is nothing but system calls, to compare with. Prints its address.
//
// One thread, one epoll set, level triggered; one receive and one send for an event. The rest of
// a reply that a socket would not take is kept, and that socket is not read meanwhile.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, EVENTS = 1024, DESCRIPTORS = 1 << 16, BACKLOG = 65535 };

static char buffer[BUFFER];
static struct rest { char *bytes; size_t size, sent; } rests[DESCRIPTORS];
static int epoll;

static void cannot(const char *what) { perror(what); exit(2); }

static void wish(int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, operation, fd, &event)) cannot("epoll_ctl");
}
static void end(int fd) {
    free(rests[fd].bytes);
    rests[fd] = (struct rest){0};
    close(fd);
}
static void welcome(int listener) {
    int one = 1, fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
    if (fd < 0) return;
    if (fd >= DESCRIPTORS) { close(fd); return; }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    wish(EPOLL_CTL_ADD, fd, EPOLLIN);
}
static void send_rest(int fd) {
    struct rest *rest = rests + fd;
    ssize_t n = send(fd, rest->bytes + rest->sent, rest->size - rest->sent, MSG_NOSIGNAL);
    if (n < 0) { if (errno != EAGAIN) end(fd); return; }
    rest->sent += n;
    if (rest->sent < rest->size) return;
    free(rest->bytes);
    *rest = (struct rest){0};
    wish(EPOLL_CTL_MOD, fd, EPOLLIN);
}
static void answer(int fd) {
    ssize_t n = recv(fd, buffer, BUFFER, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { end(fd); return; }
    ssize_t sent = send(fd, buffer, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) { end(fd); return; }
    if (sent < 0) sent = 0;
    if (sent == n) return;
    rests[fd] = (struct rest){.bytes = malloc(n - sent), .size = n - sent};
    memcpy(rests[fd].bytes, buffer + sent, n - sent);
    wish(EPOLL_CTL_MOD, fd, EPOLLOUT);
}
int main(void) {
    static struct epoll_event events[EVENTS];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length)
        || listen(listener, BACKLOG) || getsockname(listener, (struct sockaddr *)&address, &length))
        cannot("listen");
    printf("tcp:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    wish(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) welcome(fd);
            else if (rests[fd].bytes) send_rest(fd);
            else answer(fd);
        }
    }
}
