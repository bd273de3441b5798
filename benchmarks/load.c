/* A load driver for the benchmarks.
 *
 *   load --port P --path /v1/chat/completions --body FILE [--header 'name: value']... --expect WORD [--count N]
 *        [--connections 16] [--seconds S | --requests N] [--rate R] [--stream] [--stagger-us U]
 *
 * One thread, one epoll, HTTP/1.1 keep-alive to 127.0.0.1. Without --rate a closed loop: each connection sends its
 * next request when the last answer is whole. With --rate R requests become due every 1/R s whatever the server
 * does; latency counts from when a request was due, so a stall is paid by all that wait behind it.
 * At the end of the time no request is begun, those in flight are waited for, and all are counted.
 * Every answer is checked: status 200, WORD just N times in the body (1 where not given), and with --stream
 * `data: [DONE]` at its end. Prints one JSON object; latencies in microseconds, exact percentiles, no buckets.
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

#define STALL 30 /* wake-ups, a second apart, without one byte from the server: given up */
#define MAX_CONNECTIONS 4096

enum framing { UNKNOWN, LENGTH, CHUNKED, UNTIL_CLOSE };

struct conn {
    int fd, busy, fresh;
    int64_t due, first;
    char *in; /* the answer as it comes, head and all */
    size_t have, room, head;
    enum framing framing;
    size_t length, at; /* body length; where the next HTTP chunk begins */
    int status, close_after;
};

static struct conn conns[MAX_CONNECTIONS];
static int poll_fd, n_conns = 16, streaming, expected = 1, port;
static const char *word;
static char *request, *body_text;
static size_t request_len;
static uint64_t n_done, n_errors, n_reconnects;
static char first_error[300];
static uint32_t *latency, *first_byte;
static size_t n_latency, latency_room;
static size_t least = SIZE_MAX, most;
static char *scratch;
static size_t scratch_room;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *more(void *old, size_t size) {
    void *p = realloc(old, size);
    if (!p) fail("realloc");
    return p;
}

static void error_of(const char *what, const char *detail, size_t n) {
    n_errors++;
    if (first_error[0]) return;
    int at = snprintf(first_error, sizeof first_error, "%s: ", what);
    for (size_t i = 0; i < n && at < (int)sizeof first_error - 2; i++) { /* fit for a JSON string */
        unsigned char c = (unsigned char)detail[i];
        first_error[at++] = c < 32 || c > 126 || c == '"' || c == '\\' ? ' ' : (char)c;
    }
    first_error[at] = 0;
}

static void open_connection(struct conn *c) {
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
    c->fresh = 1;
}

static void reopen(struct conn *c) {
    close(c->fd);
    n_reconnects++;
    open_connection(c);
}

static void begin(struct conn *c, int64_t due) {
    c->busy = 1;
    c->due = due;
    c->first = 0;
    c->have = c->head = c->at = c->length = 0;
    c->framing = UNKNOWN;
    c->close_after = 0;
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) {
        reopen(c); /* closed by the server while idle: its right */
        if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) fail("send");
    }
}

static void note(struct conn *c, int64_t now) {
    if (n_latency == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latency = more(latency, latency_room * sizeof *latency);
        first_byte = more(first_byte, latency_room * sizeof *first_byte);
    }
    latency[n_latency] = (uint32_t)((now - c->due) / 100); /* tenths of a microsecond */
    first_byte[n_latency++] = (uint32_t)((c->first - c->due) / 100);
}

static void finish(struct conn *c, const char *body, size_t n, int64_t now) {
    c->busy = 0;
    n_done++;
    if (c->status != 200) {
        char what[40];
        snprintf(what, sizeof what, "status %d", c->status);
        error_of(what, body, n);
    } else {
        int found = 0;
        size_t length = strlen(word);
        const char *end = body + n;
        for (const char *at = body; (at = memmem(at, (size_t)(end - at), word, length)); at += length) found++;
        const char *done = streaming ? memmem(body + (n > 40 ? n - 40 : 0), n > 40 ? 40 : n, "data: [DONE]", 12) : body;
        if (found != expected) {
            char what[80];
            snprintf(what, sizeof what, "%d of %d marks in the answer", found, expected);
            error_of(what, body, n);
        } else if (!done) {
            error_of("no [DONE] at the end", body + (n > 80 ? n - 80 : 0), n > 80 ? 80 : n);
        } else {
            if (n < least) least = n;
            if (n > most) most = n;
            note(c, now);
        }
    }
    if (c->close_after) reopen(c);
}

static const char *header(const char *head, size_t n, const char *name) {
    size_t length = strlen(name);
    for (const char *at = head; (at = memmem(at, n - (size_t)(at - head), "\r\n", 2));) {
        at += 2;
        if (n - (size_t)(at - head) <= length) return NULL;
        if (!strncasecmp(at, name, length)) {
            for (at += length; *at == ' '; at++) {}
            return at;
        }
    }
    return NULL;
}

/* What has come so far; ends the request where the answer is whole. */
static void parse(struct conn *c, int64_t now) {
    if (!c->head) {
        char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
        if (!end) return;
        c->head = (size_t)(end - c->in) + 4;
        c->status = c->have > 12 ? atoi(c->in + 9) : 0;
        const char *value;
        if ((value = header(c->in, c->head, "transfer-encoding:")) && !strncasecmp(value, "chunked", 7)) {
            c->framing = CHUNKED;
            c->at = c->head;
        } else if ((value = header(c->in, c->head, "content-length:"))) {
            c->framing = LENGTH;
            c->length = strtoul(value, NULL, 10);
        } else {
            c->framing = UNTIL_CLOSE;
        }
        value = header(c->in, c->head, "connection:");
        c->close_after = value && !strncasecmp(value, "close", 5);
    }
    if (c->framing == LENGTH && c->have >= c->head + c->length) return finish(c, c->in + c->head, c->length, now);
    if (c->framing != CHUNKED) return;
    while (c->at < c->have) {
        char *line = memmem(c->in + c->at, c->have - c->at, "\r\n", 2);
        if (!line) return;
        size_t size = strtoul(c->in + c->at, NULL, 16), data = (size_t)(line - c->in) + 2;
        if (c->have < data + size + 2) return;
        c->at = data + size + 2;
        if (size) {
            if (scratch_room < c->length + size) scratch = more(scratch, scratch_room = 2 * (c->length + size));
            c->length += size;
            continue;
        }
        /* Whole: the body without its chunks' lines, joined only now, so that nothing is copied twice. */
        size_t n = 0;
        for (size_t at = c->head;;) {
            char *next = memmem(c->in + at, c->have - at, "\r\n", 2) + 2;
            size_t piece = strtoul(c->in + at, NULL, 16);
            if (!piece) break;
            memcpy(scratch + n, next, piece);
            n += piece;
            at = (size_t)(next - c->in) + piece + 2;
        }
        return finish(c, scratch, n, now);
    }
}

static void receive(struct conn *c) {
    if (c->have + 1 >= c->room) c->in = more(c->in, c->room = c->room ? c->room * 2 : 32768);
    ssize_t got = recv(c->fd, c->in + c->have, c->room - c->have - 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int64_t now = now_ns();
    if (got <= 0) {
        if (!c->busy) return reopen(c);
        if (c->have == 0 && !c->fresh) { /* a keep-alive race: once more, on a new connection */
            reopen(c);
            return begin(c, c->due);
        }
        if (got == 0 && c->framing == UNTIL_CLOSE) {
            c->close_after = 1;
            return finish(c, c->in + c->head, c->have - c->head, now);
        }
        c->busy = 0;
        n_done++;
        error_of("the connection ended inside an answer", c->in, c->have);
        return reopen(c);
    }
    if (!c->busy) {
        error_of("bytes after the end of an answer", c->in + c->have, (size_t)got);
        return reopen(c);
    }
    if (!c->first) c->first = now;
    c->have += (size_t)got;
    c->fresh = 0;
    parse(c, now);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(const uint32_t *sorted, double q) {
    if (!n_latency) return 0;
    size_t i = (size_t)(q * (double)n_latency);
    return sorted[i < n_latency ? i : n_latency - 1] / 10.0;
}

static char *read_file(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    *n = (size_t)ftell(file);
    rewind(file);
    char *text = more(NULL, *n + 1);
    if (fread(text, 1, *n, file) != *n) fail(path);
    fclose(file);
    text[*n] = 0;
    return text;
}

int main(int argc, char **argv) {
    const char *path = "/v1/chat/completions", *body_file = NULL;
    char headers[8192] = "";
    double seconds = 0, rate = 0;
    int64_t stagger = 0;
    uint64_t limit = 0;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(name, "--stream")) {
            streaming = 1;
            continue;
        }
        if (!value) goto usage;
        i++;
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--body")) body_file = value;
        else if (!strcmp(name, "--header")) {
            if (strlen(headers) + strlen(value) + 3 > sizeof headers) goto usage;
            strcat(strcat(headers, value), "\r\n");
        } else if (!strcmp(name, "--expect")) word = value;
        else if (!strcmp(name, "--count")) expected = atoi(value);
        else if (!strcmp(name, "--connections")) n_conns = atoi(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--requests")) limit = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--stagger-us")) stagger = atoll(value) * 1000;
        else goto usage;
    }
    if (!port || !body_file || !word || (seconds <= 0 && !limit) || n_conns < 1 || n_conns > MAX_CONNECTIONS) {
    usage:
        fprintf(stderr, "usage: load --port P --body FILE --expect WORD (--seconds S | --requests N) [--path PATH]\n"
                        "            [--header 'name: value']... [--count N] [--connections N] [--rate R] [--stream]\n"
                        "            [--stagger-us U]\n");
        return 2;
    }
    size_t body_len;
    body_text = read_file(body_file, &body_len);
    request = more(NULL, body_len + strlen(headers) + strlen(path) + 300);
    request_len = (size_t)sprintf(request,
                                  "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
                                  "accept: */*\r\n%scontent-length: %zu\r\n\r\n",
                                  path, port, headers, body_len);
    memcpy(request + request_len, body_text, body_len);
    request_len += body_len;

    poll_fd = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    if (poll_fd < 0 || timer < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &event)) fail("epoll");
    for (int i = 0; i < n_conns; i++) open_connection(&conns[i]);

    int64_t start = now_ns(), armed = 0, last_quiet = start;
    int64_t end = seconds > 0 ? start + (int64_t)(seconds * 1e9) : INT64_MAX;
    uint64_t begun = 0;
    int quiet = 0;
    int started = 0; /* closed loop: connections that have had their first request */
    for (;;) {
        int64_t now = now_ns();
        int open = now < end && (!limit || begun < limit);
        int64_t wake = now + 1000000000;
        if (open && rate > 0) {
            for (int i = 0; i < n_conns; i++) {
                int64_t due = start + (int64_t)((double)begun * 1e9 / rate);
                if (conns[i].busy) continue;
                if (due > now || (limit && begun >= limit) || due >= end) break;
                begin(&conns[i], due);
                begun++;
            }
            int64_t due = start + (int64_t)((double)begun * 1e9 / rate);
            if (due > now && due < wake) wake = due;
        } else if (open) {
            while (started < n_conns && start + started * stagger <= now) started++;
            for (int i = 0; i < started && (!limit || begun < limit); i++)
                if (!conns[i].busy) begin(&conns[i], now_ns()), begun++;
            if (started < n_conns) wake = start + started * stagger;
        } else if (n_done == begun) {
            break;
        }
        if (quiet > STALL && begun > n_done) {
            error_of("gave up", "no answer for 30 s", 18);
            break;
        }
        if (armed <= now || wake < armed) {
            struct itimerspec when = {{0, 0}, {wake / 1000000000, wake % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
            armed = wake;
        }
        int ready = epoll_wait(poll_fd, events, 256, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                quiet = 0;
                receive(events[i].data.ptr);
            } else {
                uint64_t times;
                if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN) fail("timerfd");
                if (now_ns() - last_quiet >= 1000000000) quiet++, last_quiet = now_ns();
            }
        }
    }
    double wall = (double)(now_ns() - start) / 1e9, mean = 0;
    for (size_t i = 0; i < n_latency; i++) mean += latency[i] / 10.0;
    if (n_latency) {
        mean /= (double)n_latency;
        qsort(latency, n_latency, sizeof *latency, by_size);
        qsort(first_byte, n_latency, sizeof *first_byte, by_size);
    }
    printf("{\"requests\":%lu,\"errors\":%lu,\"first_error\":\"%s\",\"reconnects\":%lu,\"wall_s\":%.4f,"
           "\"per_second\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"first_byte_p50_us\":%.1f,\"first_byte_p99_us\":%.1f,\"bytes_min\":%zu,\"bytes_max\":%zu}\n",
           n_done, n_errors, first_error, n_reconnects, wall, (double)n_done / wall, mean, quantile(latency, 0.5),
           quantile(latency, 0.9), quantile(latency, 0.99), quantile(latency, 1.0), quantile(first_byte, 0.5),
           quantile(first_byte, 0.99), least == SIZE_MAX ? 0 : least, most);
    return 0;
}
