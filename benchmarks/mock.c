/* A mock upstream for the benchmarks: an OpenAI-compatible vendor that costs almost nothing.
 *
 *   mock --port P [--interval-us 5000] [--chunks 64]
 *
 * One thread, one epoll, HTTP/1.1 keep-alive.
 *   POST .../chat/completions   a JSON answer of about 600 B with usage; with "stream":true in the body, CHUNKS
 *                               SSE events, one every INTERVAL, each in a packet and an HTTP chunk of its own,
 *                               then a usage event (where the body has include_usage:true) and `data: [DONE]`
 *   POST /v1/traces             an OTLP sink: answers 200 and counts the server spans in it
 *   GET  /stats                 the counters, as JSON
 * Every answer, and every chunk of a stream, holds the word `benchword` just once, so that the load driver can
 * tell a whole answer from a damaged one without knowing how a gateway writes JSON.
 * A request body must have a Content-Length (411 otherwise).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_REQUEST (64u << 20)

struct conn {
    char *in;
    size_t have, room;
    int streaming, usage, sent;
    unsigned generation;
};

struct timer {
    int64_t due;
    int fd;
    unsigned generation;
};

static struct conn *conns[MAX_FD];
static unsigned generations[MAX_FD];
static struct timer heap[MAX_FD];
static int heap_size, timer_fd, chunks = 64;
static int64_t interval_ns = 5000000, armed;
static uint64_t n_calls, n_streams, n_streams_cut, n_trace_posts, n_trace_bytes, n_server_spans, n_bad;

static char plain[4096], chunk_http[2048], last_http[2048], usage_http[2048];
static size_t plain_len, chunk_len, last_len, usage_len;
static const char stream_head[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    "transfer-encoding: chunked\r\n\r\n";
static const char done_http[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "mock: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* A binary heap by due time: the next chunk of each stream. */
static void push_timer(int64_t due, int fd, unsigned generation) {
    int i = heap_size++;
    while (i > 0 && heap[(i - 1) / 2].due > due) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = (struct timer){due, fd, generation};
}

static struct timer pop_timer(void) {
    struct timer first = heap[0], moved = heap[--heap_size];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= heap_size) break;
        if (child + 1 < heap_size && heap[child + 1].due < heap[child].due) child++;
        if (heap[child].due >= moved.due) break;
        heap[i] = heap[child];
        i = child;
    }
    if (heap_size) heap[i] = moved;
    return first;
}

static void arm(void) {
    int64_t due = heap_size ? heap[0].due : 0;
    if (due == armed) return;
    armed = due;
    struct itimerspec when = {{0, 0}, {due / 1000000000, due % 1000000000}};
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL)) fail("timerfd_settime");
}

static void drop(int fd) {
    struct conn *c = conns[fd];
    if (c->streaming) n_streams_cut++;
    generations[fd]++;
    free(c->in);
    free(c);
    conns[fd] = NULL;
    close(fd);
}

/* Answers are small against the socket's buffer; a reader that lets it fill up is dropped. */
static int put(int fd, const void *data, size_t length) {
    if (send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length) return 1;
    drop(fd);
    return 0;
}

static size_t event_http(char *out, const char *json) {
    size_t n = strlen(json) + 8; /* "data: " and two newlines */
    return (size_t)sprintf(out, "%zx\r\ndata: %s\n\n\r\n", n, json);
}

static void prepare_answers(void) {
    const char *text =
        "A benchword answer of ordinary length: the gateway reads the request, finds the caller and the model, sends "
        "the call on, and passes this text back as it came, counting tokens on the way, so that whoever runs it can "
        "see who spent what, where, and how long it took.";
    char body[3000], event[1500];
    int n = sprintf(body,
                    "{\"id\":\"chatcmpl-bench0123456789\",\"object\":\"chat.completion\",\"created\":1760000000,"
                    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\","
                    "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":42,"
                    "\"completion_tokens\":56,\"total_tokens\":98},\"system_fingerprint\":\"fp_bench\"}",
                    text);
    plain_len = (size_t)sprintf(plain, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                                n, body);
    const char *shape =
        "{\"id\":\"chatcmpl-bench0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
        "\"model\":\"bench\",\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":"
        "\" benchword\"},\"logprobs\":null,\"finish_reason\":%s}]}";
    sprintf(event, shape, "", "null");
    chunk_len = event_http(chunk_http, event);
    sprintf(event, shape, "", "\"stop\"");
    last_len = event_http(last_http, event);
    usage_len = event_http(usage_http,
                           "{\"id\":\"chatcmpl-bench0123456789\",\"object\":\"chat.completion.chunk\","
                           "\"created\":1760000000,\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":42,"
                           "\"completion_tokens\":64,\"total_tokens\":106}}");
}

/* The next chunk of a stream, and its end after the last. False where the connection is gone. */
static int stream_on(int fd, int64_t due) {
    struct conn *c = conns[fd];
    char packet[8192];
    size_t n = 0;
    if (c->sent == 0) {
        memcpy(packet, stream_head, sizeof stream_head - 1);
        n = sizeof stream_head - 1;
    }
    if (++c->sent < chunks) {
        memcpy(packet + n, chunk_http, chunk_len);
        if (!put(fd, packet, n + chunk_len)) return 0;
        push_timer(due + interval_ns, fd, c->generation);
        return 1;
    }
    memcpy(packet + n, last_http, last_len);
    n += last_len;
    if (c->usage) {
        memcpy(packet + n, usage_http, usage_len);
        n += usage_len;
    }
    memcpy(packet + n, done_http, sizeof done_http - 1);
    c->streaming = 0;
    return put(fd, packet, n + sizeof done_http - 1);
}

static int has_true(const char *body, size_t n, const char *name) {
    const char *at = memmem(body, n, name, strlen(name));
    if (!at) return 0;
    const char *end = body + n;
    for (at += strlen(name); at < end && (*at == ' ' || *at == ':'); at++) {}
    return end - at >= 4 && !memcmp(at, "true", 4);
}

static int answer_text(int fd, const char *status, const char *type, const char *text) {
    char out[1024];
    int n = snprintf(out, sizeof out, "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s", status, type,
                     strlen(text), text);
    return put(fd, out, (size_t)n);
}

static int answer(int fd, const char *head, size_t head_len, const char *body, size_t n) {
    struct conn *c = conns[fd];
    const char *line_end = memchr(head, '\r', head_len);
    size_t line = (size_t)(line_end - head);
    if (memmem(head, line, "/chat/completions", 17)) {
        if (has_true(body, n, "\"stream\"")) {
            n_streams++;
            c->streaming = 1;
            c->sent = 0;
            c->usage = has_true(body, n, "\"include_usage\"");
            return stream_on(fd, now_ns());
        }
        n_calls++;
        return put(fd, plain, plain_len);
    }
    if (memmem(head, line, "/v1/traces", 10)) {
        static const char span[] = "POST /v1/chat/completions";
        const char *at = body, *end = body + n;
        while ((at = memmem(at, (size_t)(end - at), span, sizeof span - 1))) {
            n_server_spans++;
            at += sizeof span - 1;
        }
        n_trace_posts++;
        n_trace_bytes += n;
        return answer_text(fd, "200 OK", "application/x-protobuf", "");
    }
    if (memmem(head, line, "/stats", 6)) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"calls\":%lu,\"streams\":%lu,\"streams_cut\":%lu,\"trace_posts\":%lu,\"trace_bytes\":%lu,"
                 "\"server_spans\":%lu,\"bad_requests\":%lu}",
                 n_calls, n_streams, n_streams_cut, n_trace_posts, n_trace_bytes, n_server_spans, n_bad);
        return answer_text(fd, "200 OK", "application/json", text);
    }
    n_bad++;
    return answer_text(fd, "404 Not Found", "text/plain", "mock: no such path\n");
}

/* A header's value, up to its line's end, or NULL. `name` is in lower case, with its colon. */
static const char *header(const char *head, size_t n, const char *name) {
    size_t length = strlen(name);
    for (const char *at = head; (at = memmem(at, n - (size_t)(at - head), "\r\n", 2)); ) {
        at += 2;
        if (n - (size_t)(at - head) <= length) return NULL;
        if (!strncasecmp(at, name, length)) {
            for (at += length; *at == ' '; at++) {}
            return at;
        }
    }
    return NULL;
}

static void read_requests(int fd) {
    struct conn *c = conns[fd];
    for (;;) {
        if (c->have + 1 >= c->room) {
            if (c->room >= MAX_REQUEST) return drop(fd);
            c->room = c->room ? c->room * 2 : 16384;
            c->in = realloc(c->in, c->room);
            if (!c->in) fail("realloc");
        }
        ssize_t got = recv(fd, c->in + c->have, c->room - c->have - 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return drop(fd);
        if (got < 0) return;
        c->have += (size_t)got;
        int full = c->have + 1 >= c->room;
        while (c->have) {
            c->in[c->have] = 0;
            char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
            if (!end) break;
            size_t head = (size_t)(end - c->in) + 4, body = 0;
            const char *length = header(c->in, head, "content-length:");
            if (length) body = strtoul(length, NULL, 10);
            else if (header(c->in, head, "transfer-encoding:")) {
                n_bad++;
                answer_text(fd, "411 Length Required", "text/plain", "mock: a body needs a content-length\n");
                return;
            }
            if (c->have < head + body) break;
            if (!answer(fd, c->in, head, c->in + head, body)) return;
            c->have -= head + body;
            memmove(c->in, c->in + head + body, c->have);
        }
        if (!full) return; /* level-triggered: what is left wakes us again */
    }
}

int main(int argc, char **argv) {
    int port = 0;
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && !strcmp(argv[i], "--port")) port = atoi(argv[++i]);
        else if (i + 1 < argc && !strcmp(argv[i], "--interval-us")) interval_ns = atoll(argv[++i]) * 1000;
        else if (i + 1 < argc && !strcmp(argv[i], "--chunks")) chunks = atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: mock --port P [--interval-us 5000] [--chunks 64]\n");
            return 2;
        }
    }
    if (chunks < 2 || interval_ns < 0) {
        fprintf(stderr, "mock: --chunks is 2 or more, --interval-us not negative\n");
        return 2;
    }
    prepare_answers();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (poll < 0 || timer_fd < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event)) fail("epoll");
    event.data.fd = timer_fd;
    epoll_ctl(poll, EPOLL_CTL_ADD, timer_fd, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == timer_fd) {
                uint64_t times;
                if (read(timer_fd, &times, sizeof times) < 0 && errno != EAGAIN) fail("timerfd");
                armed = 0;
            } else if (fd == listener) {
                for (int next; (next = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    if (next >= MAX_FD) {
                        close(next);
                        continue;
                    }
                    setsockopt(next, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    conns[next] = calloc(1, sizeof(struct conn));
                    if (!conns[next]) fail("calloc");
                    conns[next]->generation = generations[next];
                    event.data.fd = next;
                    epoll_ctl(poll, EPOLL_CTL_ADD, next, &event);
                }
            } else if (conns[fd]) {
                read_requests(fd);
            }
        }
        int64_t now = heap_size ? now_ns() : 0;
        while (heap_size && heap[0].due <= now) {
            struct timer t = pop_timer();
            if (conns[t.fd] && conns[t.fd]->generation == t.generation && conns[t.fd]->streaming) stream_on(t.fd, t.due);
        }
        arm();
    }
}
