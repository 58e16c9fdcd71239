// tls: what the load client needs of OpenSSL, found when it is needed.
//
// The functions are declared here, so that a machine needs OpenSSL's library and not its headers.
// Their binary interface is the same in all of OpenSSL 3. Nobody's certificate is looked at: the
// bytes are.
#include <dlfcn.h>

#define FUNCTIONS(X) \
    X(const void *, TLS_client_method, (void)) \
    X(void *, SSL_CTX_new, (const void *method)) \
    X(long, SSL_CTX_ctrl, (void *context, int what, long value, void *)) \
    X(uint64_t, SSL_CTX_set_options, (void *context, uint64_t options)) \
    X(void, SSL_CTX_set_default_read_buffer_len, (void *context, size_t size)) \
    X(void *, SSL_new, (void *context)) \
    X(void, SSL_free, (void *tls)) \
    X(int, SSL_set_fd, (void *tls, int fd)) \
    X(int, SSL_connect, (void *tls)) \
    X(int, SSL_read, (void *tls, void *bytes, int size)) \
    X(int, SSL_write, (void *tls, const void *bytes, int size)) \
    X(int, SSL_has_pending, (const void *tls)) \
    X(int, SSL_shutdown, (void *tls)) \
    X(int, SSL_get_error, (const void *tls, int result)) \
    X(void, ERR_clear_error, (void))

#define DECLARE(type, name, arguments) static type (*name) arguments;
FUNCTIONS(DECLARE)

enum { // as OpenSSL numbers them
    CTRL_MODE = 33, MODE_PARTIAL_AND_MOVING_WRITES = 1 | 2, // as send(2) does
    CTRL_READ_AHEAD = 41, CTRL_MIN_VERSION = 123, TLS_1_3 = 0x304,
    OPTION_END_WITHOUT_CLOSE_NOTIFY = 1 << 7,               // is an end, as any other
    WANT_READ = 2, WANT_WRITE = 3, ZERO_RETURN = 6,
};

static void *tls_context;

static void start_tls(void) {
    void *library = dlopen("libssl.so.3", RTLD_NOW);
    if (!library) { fprintf(stderr, "%s: install OpenSSL 3\n", dlerror()); exit(2); }
#define FIND(type, name, arguments) \
    if (!(*(void **)&name = dlsym(library, #name))) { fprintf(stderr, "%s\n", dlerror()); exit(2); }
    FUNCTIONS(FIND)
    if (!(tls_context = SSL_CTX_new(TLS_client_method()))) cannot("SSL_CTX_new");
    SSL_CTX_ctrl(tls_context, CTRL_MODE, MODE_PARTIAL_AND_MOVING_WRITES, 0);
    SSL_CTX_ctrl(tls_context, CTRL_MIN_VERSION, TLS_1_3, 0);
    // Or each record would take two calls of the system: one for its first five bytes.
    SSL_CTX_ctrl(tls_context, CTRL_READ_AHEAD, 1, 0);
    SSL_CTX_set_default_read_buffer_len(tls_context, 1 << 16);
    SSL_CTX_set_options(tls_context, OPTION_END_WITHOUT_CLOSE_NOTIFY);
}
static ssize_t as_system_call(void *tls, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(tls, result);
    if (error == ZERO_RETURN) return 0;
    errno = error == WANT_READ || error == WANT_WRITE ? EAGAIN : ECONNRESET;
    ERR_clear_error(); // or the next call would be blamed for it
    return -1;
}
static void *begin_handshake(int fd) {
    void *tls = SSL_new(tls_context);
    if (!tls || !SSL_set_fd(tls, fd)) cannot("SSL_new");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    as_system_call(tls, SSL_connect(tls)); // if it has failed, it does so again
    fcntl(fd, F_SETFL, 0);
    return tls;
}
static inline void go_on_with_handshake(void *tls) {
    if (as_system_call(tls, SSL_connect(tls)) <= 0) bad("no handshake");
}
