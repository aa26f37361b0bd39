/*
 * Closed-loop load of ready-made frames, from one thread: each connection sends its frame, waits
 * for the whole reply, compares it byte for byte, and sends the next. thriftload.py compiles and
 * runs it.
 *
 *   load --port N --frame HEX --reply HEX [--busy N] [--idle N]
 *        [--side N --side-frame HEX --side-reply HEX]
 *        [--at-once N] [--warmup S] [--seconds S] [--timeout S]
 *
 * Busy connections send --frame all the time, side ones --side-frame; idle ones send --frame once,
 * so that the server has them, and then keep still. At the beginning no more than --at-once (default
 * all) wait to be accepted and answered for the first time. It prints "loading" when it begins to
 * measure, then one line of JSON (times in ms, save where the name says s), and keeps its connections
 * open until it is killed. Status 1 and a line on stderr: it could not connect, or some connection
 * had no first answer within --timeout.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 512
#define SECOND 1000000000ULL
/* Latencies, ns: buckets of 1/128 of a power of two, so that a figure is within 1 %. */
#define STEPS 128
#define BUCKETS (58 * STEPS)

struct bytes {
    uint8_t *data;
    size_t length;
};

/* What the connections of one kind do, and what became of their calls. */
struct kind {
    const char *name;
    int connections, goes_on;
    struct bytes frame, reply;
    uint64_t answered, worst, histogram[BUCKETS];
};

struct connection {
    int fd; /* -1 when it has broken off */
    struct kind *kind;
    size_t received;
    uint64_t sent_at, answered; /* ns; calls in this phase */
    int connected, waits;       /* for a reply */
};

static struct kind busy = {.name = "busy", .connections = 1, .goes_on = 1};
static struct kind side = {.name = "side", .goes_on = 1};
static struct kind idle = {.name = "idle"};
static struct connection *connections;
static int port, at_once, going, epoll;
static int total, alive, begun;    /* connections: in all, not broken off, begun to connect */
static int unconnected, unanswered; /* those still without a connection, without an answer */
static uint64_t connected_at;
static uint64_t mismatches, broken;
static struct bytes wrong; /* the first reply that was not the expected one */

static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * SECOND + (uint64_t)at.tv_nsec;
}

/* -- latencies -------------------------------------------------------------------------------- */
static size_t bucket_of(uint64_t ns) {
    if (ns < STEPS)
        return ns;
    int shift = 63 - __builtin_clzll(ns) - 7;
    return (size_t)(shift + 1) * STEPS + (ns >> shift) - STEPS;
}

/* The middle of a bucket, in ms. */
static double middle_of(size_t bucket) {
    if (bucket < STEPS)
        return bucket / 1e6;
    int shift = (int)(bucket / STEPS) - 1;
    return ((double)(bucket % STEPS + STEPS) + 0.5) * (double)(1ULL << shift) / 1e6;
}

static double percentile(const struct kind *kind, double part) {
    uint64_t wanted = (uint64_t)(part * (double)kind->answered), seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        if ((seen += kind->histogram[bucket]) > wanted)
            return middle_of(bucket);
    return kind->worst / 1e6;
}

/* -- connections ------------------------------------------------------------------------------ */
static void hang_up(struct connection *connection) {
    close(connection->fd);
    connection->fd = -1;
    connection->waits = 0;
    unanswered -= !connection->answered;
    alive--;
}

static void send_frame(struct connection *connection, uint64_t at) {
    const struct bytes *frame = &connection->kind->frame;
    connection->received = 0;
    connection->sent_at = at;
    connection->waits = 1;
    /* Its last call has been answered, so there is room for the whole frame. */
    if (send(connection->fd, frame->data, frame->length, MSG_NOSIGNAL) != (ssize_t)frame->length) {
        broken++;
        hang_up(connection);
    }
}

static void keep_wrong(const uint8_t *data, size_t length, const struct connection *connection) {
    if (wrong.data)
        return;
    wrong.length = connection->received + length;
    if (!(wrong.data = malloc(wrong.length)))
        fail("out of memory");
    memcpy(wrong.data, connection->kind->reply.data, connection->received);
    memcpy(wrong.data + connection->received, data, length);
}

static void on_answered(struct connection *connection) {
    struct kind *kind = connection->kind;
    uint64_t at = now(), took = at - connection->sent_at;
    if (took > kind->worst)
        kind->worst = took;
    kind->histogram[bucket_of(took)]++;
    kind->answered++;
    unanswered -= !connection->answered++;
    connection->waits = 0;
    if (going && kind->goes_on)
        send_frame(connection, at);
}

static void on_readable(struct connection *connection) {
    static uint8_t data[65536];
    const struct bytes *reply = &connection->kind->reply;
    ssize_t length = recv(connection->fd, data, sizeof data, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) {
        broken++;
        hang_up(connection);
        return;
    }
    size_t left = reply->length - connection->received;
    if (!connection->waits || (size_t)length > left ||
        memcmp(data, reply->data + connection->received, (size_t)length)) {
        mismatches++;
        keep_wrong(data, (size_t)length, connection);
        hang_up(connection);
        return;
    }
    connection->received += (size_t)length;
    if (connection->received == reply->length)
        on_answered(connection);
}

/* Begin to connect one; the kernel goes on with it. */
static void open_one(struct connection *connection, struct kind *kind) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        fail("no socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("cannot connect to port %d: %s", port, strerror(errno));
    *connection = (struct connection){.fd = fd, .kind = kind};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void open_more(void) {
    for (; begun < total && begun - (total - unanswered) < at_once; begun++) {
        int others = begun - idle.connections;
        struct kind *kind = others < 0 ? &idle : others < busy.connections ? &busy : &side;
        open_one(&connections[begun], kind);
    }
}

/* It is connected, or never will be: send its first frame, and from now on only read. */
static void on_connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        fail("cannot connect to port %d: %s", port, strerror(error));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event);
    connection->connected = 1;
    uint64_t at = now();
    if (!--unconnected)
        connected_at = at;
    send_frame(connection, at);
}

/* Turn until then; in the first phase no longer than some connection has had no answer yet. */
static void turn_until(uint64_t end) {
    struct epoll_event events[BATCH];
    uint64_t at;
    while (alive && (going || unanswered) && (at = now()) < end) {
        if (!going)
            open_more();
        int count = epoll_wait(epoll, events, BATCH, (int)((end - at) / 1000000) + 1);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            (connection->connected ? on_readable : on_connected)(connection);
        }
    }
}

/* -- phases ----------------------------------------------------------------------------------- */
/* From now on busy and side connections call again and again. */
static void go_on(void) {
    going = 1;
    for (int i = 0; i < total; i++)
        if (connections[i].fd >= 0 && connections[i].kind->goes_on)
            send_frame(&connections[i], now());
}

static void forget(struct kind *kind) {
    kind->answered = kind->worst = 0;
    memset(kind->histogram, 0, sizeof kind->histogram);
}

static void start_counting(void) {
    forget(&busy);
    forget(&side);
    for (int i = 0; i < total; i++)
        connections[i].answered = 0;
}

/* Connections of that kind that had no answer; a call still under way is the worst it has been. */
static int silent(struct kind *kind, uint64_t at) {
    int found = 0;
    for (int i = 0; i < total; i++) {
        const struct connection *connection = &connections[i];
        if (connection->kind != kind)
            continue;
        found += !connection->answered;
        if (connection->waits && at - connection->sent_at > kind->worst)
            kind->worst = at - connection->sent_at;
    }
    return found;
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void print_kind(struct kind *kind, uint64_t at) {
    int had_none = silent(kind, at);
    printf("\"%s\": {\"answered\": %llu, \"silent\": %d, \"p50\": %.4f, \"p99\": %.4f, "
           "\"p999\": %.4f, \"worst\": %.4f}, ",
           kind->name, (unsigned long long)kind->answered, had_none, percentile(kind, 0.5),
           percentile(kind, 0.99), percentile(kind, 0.999), (double)kind->worst / 1e6);
}

/* -- the command line ------------------------------------------------------------------------- */
static struct bytes from_hex(const char *text) {
    struct bytes made = {malloc(strlen(text) / 2 + 1), strlen(text) / 2};
    if (!made.data)
        fail("out of memory");
    for (size_t i = 0; i < made.length; i++)
        if (sscanf(text + 2 * i, "%2hhx", &made.data[i]) != 1)
            fail("not hexadecimal: %s", text);
    return made;
}

static double warmup = 0.5, seconds = 1, timeout = 10;

static void read_options(int count, char **words) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},       {"busy", 1, 0, 'b'},       {"idle", 1, 0, 'i'},
        {"side", 1, 0, 's'},       {"frame", 1, 0, 'f'},      {"reply", 1, 0, 'r'},
        {"side-frame", 1, 0, 'F'}, {"side-reply", 1, 0, 'R'}, {"warmup", 1, 0, 'w'},
        {"seconds", 1, 0, 'd'},    {"timeout", 1, 0, 't'},    {"at-once", 1, 0, 'a'},
        {0, 0, 0, 0},
    };
    for (int found; (found = getopt_long(count, words, "", known, NULL)) != -1;)
        switch (found) {
        case 'p': port = atoi(optarg); break;
        case 'b': busy.connections = atoi(optarg); break;
        case 'i': idle.connections = atoi(optarg); break;
        case 's': side.connections = atoi(optarg); break;
        case 'f': busy.frame = idle.frame = from_hex(optarg); break;
        case 'r': busy.reply = idle.reply = from_hex(optarg); break;
        case 'F': side.frame = from_hex(optarg); break;
        case 'R': side.reply = from_hex(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 't': timeout = atof(optarg); break;
        case 'a': at_once = atoi(optarg); break;
        default: exit(2);
        }
    if (!port || !busy.reply.length || (side.connections && !side.reply.length))
        fail("--port, --frame and --reply are needed, and with --side its own");
}

static uint64_t after(double duration) {
    return now() + (uint64_t)(duration * 1e9);
}

int main(int count, char **words) {
    read_options(count, words);
    total = busy.connections + side.connections + idle.connections;
    alive = unconnected = unanswered = total;
    at_once = at_once ? at_once : total;
    connections = calloc((size_t)total, sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || epoll < 0)
        fail("cannot begin: %s", strerror(errno));

    uint64_t began = now();
    turn_until(after(timeout));
    if (unanswered || broken)
        fail("of %d connections %d had no first answer within %g s, and %llu broke off", total,
             unanswered, timeout, (unsigned long long)broken);
    uint64_t answered_at = now();

    go_on();
    turn_until(after(warmup));
    puts("loading");
    fflush(stdout);
    start_counting();
    double cpu = cpu_seconds();
    uint64_t from = now();
    turn_until(after(seconds));
    uint64_t at = now();
    cpu = cpu_seconds() - cpu;

    printf("{\"connections\": %d, \"connect_s\": %.6f, \"answered_s\": %.6f, "
           "\"seconds\": %.6f, \"load_cpu_s\": %.6f, ",
           total, (double)(connected_at - began) / 1e9, (double)(answered_at - began) / 1e9,
           (double)(at - from) / 1e9, cpu);
    print_kind(&busy, at);
    print_kind(&side, at);
    printf("\"mismatches\": %llu, \"broken\": %llu, \"wrong\": \"",
           (unsigned long long)mismatches, (unsigned long long)broken);
    for (size_t i = 0; i < wrong.length && i < 512; i++)
        printf("%02x", wrong.data[i]);
    puts("\"}");
    fflush(stdout);
    alarm((unsigned)timeout + 1); /* nobody killed it: leave all the same */
    pause();
    return 0;
}
