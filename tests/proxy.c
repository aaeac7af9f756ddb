/*
 * A proxy between sender and receiver that does what bad networks do
 *
 * Theory of operation.  One thread, one poll loop.  Each connection has two
 * directions, forward (sender to receiver) and back.  A direction is a queue
 * of chunks between a socket that is read and one that is written; it is
 * bounded, so a peer that does not read holds up the one that writes, as in
 * a network.  A chunk may be forwarded once its due time has come (delay).
 *
 * Frames are recognised where bytes leave the queue: at the start of a frame
 * nothing is forwarded until its whole header is there, so that a fault can
 * be set before it.  Then as many bytes go at once as are free of triggers.
 * What is no frame (TLS, say) is passed on unparsed from there on.
 *
 * A fault is a pair of trigger (WHEN) and action.  A trigger that fires acts
 * on its own connection; "now" acts on all connections, and "now:stall" on
 * those to come, too, until "now:resume".
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../curling/wire.h"

#define CHUNK_BYTES             (256 * 1024)
#define QUEUE_BYTES             (1024 * 1024)           /* without delay */
#define QUEUE_BYTES_DELAYED     (64 * 1024 * 1024)
#define COALESCE_NS             500000
#define LINGER_NS               2000000000      /* of a connection cut */
#define LINGER_STEP_NS          1000000
#define CONNECTIONS_MAX         64
#define CLIENTS_MAX             8
#define READS_MAX               8       /* at a time, of one socket */
#define FDS_MAX                 (2 + CLIENTS_MAX + 2 * CONNECTIONS_MAX)
#define COMMAND_MAX             1024
#define ANY                     UINT64_MAX
#define MID_DATA_DEFAULT        8       /* mid-round of a first round */

static const char usage[] =
"Usage: proxy --listen ADDR --connect ADDR [--log FILE] [--control PATH]\n"
"             [--at WHEN:ACTION]...\n"
"       proxy --control PATH --send LINE\n"
"\n"
"Forward every connection made to one address to another one, and do to it\n"
"what is asked for.  ADDR is tcp:HOST:PORT (port 0: any; IPv6 hosts in\n"
"brackets) or unix:PATH.  Prints \"listening ADDR\" once it does.\n"
"\n"
"--log FILE      a line per forwarded frame and per event\n"
"--control PATH  UNIX socket that takes lines and answers each with \"ok\"\n"
"                or \"error REASON\": WHEN:ACTION; status; clear (forget all\n"
"                triggers)\n"
"--send LINE     say LINE to the proxy at PATH, print its answer\n"
"\n"
"WHEN, each fires once, on the first connection where it is true:\n"
"  now                 at once, on all connections\n"
"  forward-byte=N      when N bytes were forwarded to the receiver\n"
"  back-byte=N         ... to the sender\n"
"  before=FRAME        before its first byte\n"
"  after=FRAME         after its last byte\n"
"  mid=FRAME           after half of its payload (of its header, if empty)\n"
"  mid-round=R         in the middle of the DATA of round R, or of any:\n"
"                      half way as the round before went, and in any case\n"
"                      before ROUND_END\n"
"FRAME is TYPE[,round=R][,nth=K][,dir=forward|back], TYPE a name as in the\n"
"log, or any; nth counts from 1.\n"
"\n"
"ACTION:\n"
"  cut                 close both sockets, as a process that ends\n"
"  reset               close both sockets at once (RST)\n"
"  stall[-forward|-back]  forward nothing more, keep the sockets open; with\n"
"                      now: of later connections, too\n"
"  resume              forward again what was stalled\n"
"  corrupt=MASK        xor the next byte to be forwarded\n"
"  truncate            throw away what this direction still brings, send FIN\n"
"  delay=MS            from now on, each way, on all connections\n"
"  exec=COMMAND        run by sh -c, not waited for\n"
"  kill=PID            SIGKILL, before anything more is forwarded\n"
"  refuse, accept      refuse new connections; accept them again\n";

typedef struct Chunk {
    struct Chunk *next;
    uint64_t due_ns;
    size_t begin, end;
    uint8_t bytes[CHUNK_BYTES];
} Chunk;

typedef struct Header {
    uint8_t type;
    uint64_t round;
    uint32_t sequence;
    uint64_t bytes;             /* with the payload */
} Header;

enum { FORWARD, BACK };

typedef struct Direction {
    int from, to;               /* owned by the connection */
    Chunk *head, *tail;
    size_t queued_bytes;
    bool ended;                 /* nothing more will be read */
    bool done;                  /* nothing more will be written */
    bool blocked;               /* @to takes nothing now */
    bool stalled;
    uint8_t corrupt;            /* xor this into the next byte */
    uint64_t forwarded;         /* bytes */

    bool raw;                   /* no frames here */
    Header frame;               /* the one being forwarded */
    uint64_t frame_at;          /* bytes of it forwarded; 0: none begun */
    bool frame_known;           /* @frame is the next one */
    uint64_t data_frames;       /* DATA so far in this round */
    uint64_t data_frames_before;/* in the round before */
} Direction;

typedef struct Connection {
    int fd[2];                  /* sender's, receiver's; -1: slot is free */
    unsigned number;
    bool connecting;
    bool broken;                /* by an error: end it with RST */
    uint64_t linger_until_ns;   /* cut: close it then at last; 0: not */
    Direction direction[2];
} Connection;

typedef enum When {
    WHEN_NOW, WHEN_BYTE, WHEN_BEFORE, WHEN_AFTER, WHEN_MID, WHEN_MID_ROUND,
} When;

typedef enum Action {
    ACTION_CUT, ACTION_RESET, ACTION_STALL, ACTION_STALL_FORWARD,
    ACTION_STALL_BACK, ACTION_RESUME, ACTION_CORRUPT, ACTION_TRUNCATE,
    ACTION_DELAY, ACTION_EXEC, ACTION_KILL, ACTION_REFUSE, ACTION_ACCEPT,
} Action;

typedef struct Trigger {
    struct Trigger *next;
    char *text;                 /* WHEN:ACTION as given */
    When when;
    int direction;              /* FORWARD, BACK, or -1: either */
    uint64_t type;              /* ANY */
    uint64_t round;             /* ANY */
    uint64_t nth;
    uint64_t byte;
    Action action;
    uint64_t value;
    const char *command;        /* inside @text */
    Direction *matched;         /* its frame at hand is the one, or NULL */
} Trigger;

typedef struct Client {
    int fd;
    size_t len;
    char line[COMMAND_MAX];
} Client;

static const char *const type_names[] = {
    [CURLING_TYPE_HELLO] = "HELLO",
    [CURLING_TYPE_WELCOME] = "WELCOME",
    [CURLING_TYPE_REJECT] = "REJECT",
    [CURLING_TYPE_ROUND_BEGIN] = "ROUND_BEGIN",
    [CURLING_TYPE_DATA] = "DATA",
    [CURLING_TYPE_ROUND_END] = "ROUND_END",
    [CURLING_TYPE_RECEIVED] = "RECEIVED",
    [CURLING_TYPE_APPLIED] = "APPLIED",
    [CURLING_TYPE_FAILED] = "FAILED",
    [CURLING_TYPE_HEARTBEAT] = "HEARTBEAT",
    [CURLING_TYPE_STOP] = "STOP",
    [CURLING_TYPE_STOP_ACK] = "STOP_ACK",
    [CURLING_TYPE_SUPERSEDED] = "SUPERSEDED",
    [CURLING_TYPE_POWEROFF] = "POWEROFF",
    [CURLING_TYPE_FENCE] = "FENCE",
    [CURLING_TYPE_FENCED] = "FENCED",
};
#define TYPES (sizeof(type_names) / sizeof(type_names[0]))

static const struct {
    const char *name;
    bool number;                /* takes one after '=' */
} actions[] = {
    [ACTION_CUT] = { "cut", false },
    [ACTION_RESET] = { "reset", false },
    [ACTION_STALL] = { "stall", false },
    [ACTION_STALL_FORWARD] = { "stall-forward", false },
    [ACTION_STALL_BACK] = { "stall-back", false },
    [ACTION_RESUME] = { "resume", false },
    [ACTION_CORRUPT] = { "corrupt", true },
    [ACTION_TRUNCATE] = { "truncate", false },
    [ACTION_DELAY] = { "delay", true },
    [ACTION_EXEC] = { "exec", false },
    [ACTION_KILL] = { "kill", true },
    [ACTION_REFUSE] = { "refuse", false },
    [ACTION_ACCEPT] = { "accept", false },
};
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static struct {
    const char *listen, *connect, *control;
    struct sockaddr_storage bound;
    socklen_t bound_len;
    int listen_fd;              /* -1: new connections are refused */
    int control_fd;
    FILE *log;
    uint64_t delay_ns;
    uint64_t turn_ns;           /* when this turn of the loop began */
    bool stalled[2];            /* of all connections, and those to come */
    unsigned connections_made;
    Trigger *triggers;
    Chunk *spare;
    unsigned spares;
} proxy = { .listen_fd = -1, .control_fd = -1 };

static Connection connection[CONNECTIONS_MAX];
static Client client[CLIENTS_MAX];

/* --- Small things */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("proxy: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void log_event(const char *format, ...)
{
    va_list args;

    if (proxy.log) {
        va_start(args, format);
        fprintf(proxy.log, "%" PRIu64 " EVENT ", now_ns());
        vfprintf(proxy.log, format, args);
        fputc('\n', proxy.log);
        va_end(args);
    }
}

static void log_frame(const Connection *c, int way, const Header *h)
{
    char name[16], round[24];

    if (!proxy.log) {
        return;
    }
    snprintf(name, sizeof(name), "type-%u", h->type);
    snprintf(round, sizeof(round), "%" PRIu64, h->round);
    fprintf(proxy.log,
            "%" PRIu64 " %u %c %s round=%s seq=%" PRIu32 " len=%" PRIu64 "\n",
            now_ns(), c->number, way == FORWARD ? '>' : '<',
            h->type < TYPES && type_names[h->type] ? type_names[h->type]
                                                   : name,
            h->round == CURLING_ROUND_NONE ? "-" : round, h->sequence,
            h->bytes - CURLING_HEADER_BYTES);
}

static uint64_t get_be(const uint8_t *from, int bytes)
{
    uint64_t value = 0;

    while (bytes-- > 0) {
        value = value << 8 | *from++;
    }
    return value;
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && *text != '-';
}

/* --- Addresses and sockets */

/* One address of tcp:HOST:PORT or unix:PATH, or die. */
static socklen_t parse_addr(const char *text, struct sockaddr_storage *addr)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    struct sockaddr_un *un = (struct sockaddr_un *)addr;
    char host[256];
    const char *port;
    socklen_t len;
    int error;

    memset(addr, 0, sizeof(*addr));
    if (strncmp(text, "unix:", 5) == 0) {
        if (strlen(text + 5) >= sizeof(un->sun_path)) {
            die("path too long: %s", text);
        }
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text + 5);
        return sizeof(*un);
    }
    port = strrchr(text, ':');
    if (strncmp(text, "tcp:", 4) != 0 || port < text + 4 ||
        port - text - 4 >= (int)sizeof(host)) {
        die("not tcp:HOST:PORT or unix:PATH: %s", text);
    }
    snprintf(host, sizeof(host), "%.*s", (int)(port - text - 4), text + 4);
    len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    error = getaddrinfo(host, port + 1, &hints, &found);
    if (error) {
        die("%s: %s", text, gai_strerror(error));
    }
    len = found->ai_addrlen;
    memcpy(addr, found->ai_addr, len);
    freeaddrinfo(found);
    return len;
}

static int listen_at(struct sockaddr_storage *addr, socklen_t *len)
{
    int fd = socket(addr->ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (addr->ss_family == AF_UNIX) {
        unlink(((struct sockaddr_un *)addr)->sun_path);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)addr, *len) < 0 ||
        listen(fd, 16) < 0) {
        die("cannot listen: %s", strerror(errno));
    }
    *len = sizeof(*addr);
    getsockname(fd, (struct sockaddr *)addr, len);
    return fd;
}

static void print_listening(void)
{
    char host[64], port[16];

    if (proxy.bound.ss_family == AF_UNIX) {
        printf("listening %s\n", proxy.listen);
    } else {
        getnameinfo((struct sockaddr *)&proxy.bound, proxy.bound_len,
                    host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
        printf(strchr(host, ':') ? "listening tcp:[%s]:%s\n"
                                 : "listening tcp:%s:%s\n", host, port);
    }
    fflush(stdout);
}

static void close_reset(int fd)
{
    struct linger linger = { .l_onoff = 1 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

static void set_no_delay(int fd)
{
    int on = 1;

    /* Not for UNIX sockets, where it fails and does not matter */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* --- The queue of a direction */

static Chunk *chunk_new(void)
{
    Chunk *chunk = proxy.spare;

    if (chunk) {
        proxy.spare = chunk->next;
        proxy.spares--;
    } else {
        chunk = malloc(sizeof(*chunk));
        if (!chunk) {
            die("out of memory");
        }
    }
    chunk->next = NULL;
    chunk->begin = chunk->end = 0;
    return chunk;
}

static void chunk_free(Chunk *chunk)
{
    if (proxy.spares < 16) {
        chunk->next = proxy.spare;
        proxy.spare = chunk;
        proxy.spares++;
    } else {
        free(chunk);
    }
}

static void queue_pop(Direction *d)
{
    Chunk *chunk = d->head;

    d->head = chunk->next;
    if (!d->head) {
        d->tail = NULL;
    }
    d->queued_bytes -= chunk->end - chunk->begin;
    chunk_free(chunk);
}

static void queue_clear(Direction *d)
{
    while (d->head) {
        queue_pop(d);
    }
}

/* A chunk with room at the end of the queue, for bytes that arrive now. */
static Chunk *queue_room(Direction *d)
{
    uint64_t due_ns = now_ns() + proxy.delay_ns;
    Chunk *chunk = d->tail;

    if (chunk && chunk->end < CHUNK_BYTES &&
        (!proxy.delay_ns || chunk->due_ns + COALESCE_NS > due_ns)) {
        return chunk;
    }
    chunk = chunk_new();
    chunk->due_ns = due_ns;
    if (d->tail) {
        d->tail->next = chunk;
    } else {
        d->head = chunk;
    }
    d->tail = chunk;
    return chunk;
}

static bool queue_full(const Direction *d)
{
    return d->queued_bytes >=
           (proxy.delay_ns ? QUEUE_BYTES_DELAYED : QUEUE_BYTES);
}

/* Take back the room that was not used. */
static void queue_trim(Direction *d)
{
    Chunk **link = &d->head, *last = NULL;

    if (!d->tail || d->tail->begin != d->tail->end) {
        return;
    }
    while (*link != d->tail) {
        last = *link;
        link = &last->next;
    }
    chunk_free(*link);
    *link = NULL;
    d->tail = last;
}

static size_t queue_peek(const Direction *d, uint8_t *to, size_t len)
{
    size_t got = 0;

    for (Chunk *chunk = d->head; chunk && got < len; chunk = chunk->next) {
        size_t part = chunk->end - chunk->begin;

        if (part > len - got) {
            part = len - got;
        }
        memcpy(to + got, chunk->bytes + chunk->begin, part);
        got += part;
    }
    return got;
}

/* --- Connections */

static void connection_free(Connection *c, bool reset)
{
    for (Trigger *t = proxy.triggers; t; t = t->next) {
        if (t->matched >= c->direction && t->matched < c->direction + 2) {
            t->matched = NULL;
            t->nth = 1;         /* the next one, then */
        }
    }
    for (int i = 0; i < 2; i++) {
        queue_clear(&c->direction[i]);
        if (reset) {
            close_reset(c->fd[i]);
        } else {
            close(c->fd[i]);
        }
        c->fd[i] = -1;
    }
    log_event("connection %u closed, forward %" PRIu64 " back %" PRIu64,
              c->number, c->direction[FORWARD].forwarded,
              c->direction[BACK].forwarded);
}

/*
 * FIN behind what was forwarded.  The close, which is RST to a side that
 * still writes, waits until all of that has arrived.
 */
static void connection_cut(Connection *c)
{
    for (int i = 0; i < 2; i++) {
        queue_clear(&c->direction[i]);
        c->direction[i].done = c->direction[i].ended = true;
        shutdown(c->fd[i], SHUT_WR);
    }
    c->linger_until_ns = now_ns() + LINGER_NS;
}

/* Has the other side's kernel, or process if local, all that we wrote? */
static bool all_arrived(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes == 0;
}

static void connection_accept(void)
{
    struct sockaddr_storage addr;
    socklen_t len;
    Connection *c = connection;
    int fd = accept4(proxy.listen_fd, NULL, NULL,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        return;
    }
    while (c < connection + CONNECTIONS_MAX && c->fd[0] >= 0) {
        c++;
    }
    if (c == connection + CONNECTIONS_MAX) {
        log_event("too many connections");
        close_reset(fd);
        return;
    }
    *c = (Connection){ .number = ++proxy.connections_made };
    len = parse_addr(proxy.connect, &addr);
    c->fd[0] = fd;
    c->fd[1] = socket(addr.ss_family,
                      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    set_no_delay(c->fd[0]);
    set_no_delay(c->fd[1]);
    for (int i = 0; i < 2; i++) {
        c->direction[i].from = c->fd[i];
        c->direction[i].to = c->fd[!i];
        c->direction[i].stalled = proxy.stalled[i];
    }
    log_event("connection %u open", c->number);
    if (connect(c->fd[1], (struct sockaddr *)&addr, len) < 0) {
        if (errno != EINPROGRESS) {
            log_event("connection %u: connect: %s", c->number,
                      strerror(errno));
            connection_free(c, true);
            return;
        }
        c->connecting = true;
    }
}

static void connection_connected(Connection *c)
{
    int error = 0;
    socklen_t len = sizeof(error);

    getsockopt(c->fd[1], SOL_SOCKET, SO_ERROR, &error, &len);
    c->connecting = false;
    if (error) {
        log_event("connection %u: connect: %s", c->number, strerror(error));
        connection_free(c, true);
    }
}

/* --- Faults */

static void trigger_free(Trigger *t)
{
    free(t->text);
    free(t);
}

static void stall(Connection *c, int way, bool on)
{
    if (c) {
        c->direction[way].stalled = on;
        return;
    }
    proxy.stalled[way] = on;
    for (c = connection; c < connection + CONNECTIONS_MAX; c++) {
        c->direction[way].stalled = on;
    }
}

static void run_command(const char *command)
{
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGCHLD, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
}

/* Actions on one connection; @way is the direction the trigger was seen in */
static void act_on(const Trigger *t, Connection *c, int way)
{
    Direction *d = &c->direction[way];

    if (c->fd[0] < 0) {
        return;
    }
    switch (t->action) {
    case ACTION_CUT:
        connection_cut(c);
        break;
    case ACTION_RESET:
        connection_free(c, true);
        break;
    case ACTION_CORRUPT:
        d->corrupt ^= t->value;
        break;
    case ACTION_TRUNCATE:
        queue_clear(d);
        d->done = true;
        shutdown(d->to, SHUT_WR);
        break;
    case ACTION_STALL:
    case ACTION_STALL_FORWARD:
    case ACTION_STALL_BACK:
    case ACTION_RESUME:
    case ACTION_DELAY:
    case ACTION_EXEC:
    case ACTION_KILL:
    case ACTION_REFUSE:
    case ACTION_ACCEPT:
        break;
    }
}

/* @c is NULL for "now". */
static void act(const Trigger *t, Connection *c, int way)
{
    switch (t->action) {
    case ACTION_CUT:
    case ACTION_RESET:
    case ACTION_CORRUPT:
    case ACTION_TRUNCATE:
        if (c) {
            act_on(t, c, way);
            break;
        }
        for (c = connection; c < connection + CONNECTIONS_MAX; c++) {
            act_on(t, c, way);
        }
        break;
    case ACTION_STALL:
        stall(c, FORWARD, true);
        stall(c, BACK, true);
        break;
    case ACTION_STALL_FORWARD:
        stall(c, FORWARD, true);
        break;
    case ACTION_STALL_BACK:
        stall(c, BACK, true);
        break;
    case ACTION_RESUME:
        stall(c, FORWARD, false);
        stall(c, BACK, false);
        break;
    case ACTION_DELAY:
        proxy.delay_ns = t->value * 1000000;
        break;
    case ACTION_EXEC:
        run_command(t->command);
        break;
    case ACTION_KILL:
        kill(t->value, SIGKILL);
        break;
    case ACTION_REFUSE:
        if (proxy.listen_fd >= 0) {
            close(proxy.listen_fd);
            proxy.listen_fd = -1;
        }
        break;
    case ACTION_ACCEPT:
        if (proxy.listen_fd < 0) {
            proxy.listen_fd = listen_at(&proxy.bound, &proxy.bound_len);
        }
        break;
    }
}

/*
 * Fire all triggers of which @ready says so, in the order they were given.
 * Returns false if @d forwards nothing more for now, or @c is gone.
 */
static bool fire(Connection *c, int way,
                 bool (*ready)(const Trigger *, const Direction *, int))
{
    Trigger *firing = NULL, **end = &firing, **link = &proxy.triggers;

    while (*link) {
        Trigger *t = *link;

        if (ready(t, &c->direction[way], way)) {
            *link = t->next;
            t->next = NULL;
            *end = t;
            end = &t->next;
        } else {
            link = &t->next;
        }
    }
    while (firing) {
        Trigger *t = firing;

        log_event("%s connection %u %s", t->text, c->number,
                  way == FORWARD ? "forward" : "back");
        act(t, c, way);
        firing = t->next;
        trigger_free(t);
    }
    return c->fd[0] >= 0 && !c->direction[way].stalled &&
           !c->direction[way].done;
}

static bool frame_fits(const Trigger *t, const Direction *d, int way)
{
    const Header *h = &d->frame;

    if ((t->direction >= 0 && t->direction != way) ||
        (t->round != ANY && t->round != h->round)) {
        return false;
    }
    switch (t->when) {
    case WHEN_NOW:
    case WHEN_BYTE:
        return false;
    case WHEN_BEFORE:
    case WHEN_AFTER:
    case WHEN_MID:
        return t->type == ANY || t->type == h->type;
    case WHEN_MID_ROUND:
        return h->type == CURLING_TYPE_ROUND_END ||
               (h->type == CURLING_TYPE_DATA &&
                d->data_frames == d->data_frames_before / 2);
    }
    return false;
}

/* A frame begins: whose is it? */
static void match_frame(Direction *d, int way)
{
    for (Trigger *t = proxy.triggers; t; t = t->next) {
        if (!t->matched && frame_fits(t, d, way) && --t->nth == 0) {
            t->matched = d;
        }
    }
}

/* How far into the frame at hand a trigger lies that matched it */
static uint64_t trigger_offset(const Trigger *t, const Header *h)
{
    uint64_t payload = h->bytes - CURLING_HEADER_BYTES;
    uint64_t middle = payload ? CURLING_HEADER_BYTES + payload / 2
                              : CURLING_HEADER_BYTES / 2;

    switch (t->when) {
    case WHEN_NOW:
    case WHEN_BYTE:
    case WHEN_BEFORE:
        return 0;
    case WHEN_AFTER:
        return h->bytes;
    case WHEN_MID:
        return middle;
    case WHEN_MID_ROUND:
        return h->type == CURLING_TYPE_ROUND_END ? 0 : middle;
    }
    return 0;
}

static bool ready_byte(const Trigger *t, const Direction *d, int way)
{
    return t->when == WHEN_BYTE && t->direction == way &&
           t->byte <= d->forwarded;
}

static bool ready_frame(const Trigger *t, const Direction *d, int way)
{
    (void)way;
    return t->matched == d && trigger_offset(t, &d->frame) == d->frame_at;
}

/* How many bytes may be forwarded at once? */
static uint64_t bytes_to_trigger(const Direction *d, int way)
{
    uint64_t bytes = d->raw ? UINT64_MAX : d->frame.bytes - d->frame_at;

    if (d->corrupt) {
        bytes = 1;
    }
    for (const Trigger *t = proxy.triggers; t; t = t->next) {
        uint64_t left = UINT64_MAX;

        if (t->when == WHEN_BYTE && t->direction == way) {
            left = t->byte - d->forwarded;
        } else if (t->matched == d) {
            left = trigger_offset(t, &d->frame) - d->frame_at;
        }
        if (left < bytes) {
            bytes = left;
        }
    }
    return bytes;
}

/* --- Forwarding */

/*
 * The queue begins with a frame: is its header there?  Sets @d->frame, or
 * @d->raw if this is none.
 */
static bool next_frame(Connection *c, int way)
{
    Direction *d = &c->direction[way];
    uint8_t wire[CURLING_HEADER_BYTES];
    size_t got = queue_peek(d, wire, sizeof(wire));
    bool magic = got >= 4 && get_be(wire, 4) == CURLING_WIRE_MAGIC;

    if (got < sizeof(wire) && (magic || got < 4) && !d->ended) {
        return false;
    }
    if (got < sizeof(wire) || !magic) {
        d->raw = true;
        log_event("connection %u %s: no frame at byte %" PRIu64, c->number,
                  way == FORWARD ? "forward" : "back", d->forwarded);
        return true;
    }
    d->frame_known = true;
    d->frame = (Header){
        .type = wire[CURLING_HEADER_TYPE],
        .round = get_be(wire + CURLING_HEADER_ROUND, 8),
        .sequence = get_be(wire + CURLING_HEADER_SEQUENCE, 4),
        .bytes = CURLING_HEADER_BYTES +
                 get_be(wire + CURLING_HEADER_LENGTH, 4),
    };
    if (d->frame.type == CURLING_TYPE_ROUND_BEGIN) {
        d->data_frames_before = d->data_frames ? d->data_frames
                                               : 2 * MID_DATA_DEFAULT;
        d->data_frames = 0;
    }
    match_frame(d, way);
    return true;
}

/*
 * Write the first @limit bytes of the queue or less.  Returns how many, or
 * 0 if the socket takes none: for now (@d->blocked) or for ever (@d->done).
 */
static size_t write_some(Connection *c, Direction *d, uint64_t limit)
{
    Chunk *chunk = d->head;
    size_t len = chunk->end - chunk->begin;
    ssize_t sent;

    chunk->bytes[chunk->begin] ^= d->corrupt;
    sent = send(d->to, chunk->bytes + chunk->begin,
                len < limit ? len : limit, MSG_NOSIGNAL);
    if (sent < 0) {
        chunk->bytes[chunk->begin] ^= d->corrupt;
        if (errno == EAGAIN || errno == EINTR) {
            d->blocked = true;
        } else {
            c->broken = true;
            d->done = d->ended = true;
            queue_clear(d);
        }
        return 0;
    }
    d->corrupt = 0;
    chunk->begin += sent;
    d->queued_bytes -= sent;
    if (chunk->begin == chunk->end) {
        queue_pop(d);
    }
    return sent;
}

/* Forward what is due, as far as the faults allow. */
static void forward(Connection *c, int way)
{
    Direction *d = &c->direction[way];

    if (d->done || d->stalled || d->blocked) {
        return;
    }
    while (fire(c, way, ready_byte) && d->head &&
           d->head->due_ns <= proxy.turn_ns &&
           (d->raw || d->frame_known || next_frame(c, way)) &&
           fire(c, way, ready_frame)) {
        size_t sent = write_some(c, d, bytes_to_trigger(d, way));

        if (sent == 0) {
            return;
        }
        d->forwarded += sent;
        if (d->raw) {
            continue;
        }
        d->frame_at += sent;
        if (d->frame_at == d->frame.bytes) {
            log_frame(c, way, &d->frame);
            d->data_frames += d->frame.type == CURLING_TYPE_DATA;
            if (!fire(c, way, ready_frame) && c->fd[0] < 0) {
                return;
            }
            d->frame_known = false;
            d->frame_at = 0;
        }
    }
    if (c->fd[0] >= 0 && d->ended && !d->head && !d->done && !d->stalled) {
        d->done = true;
        if (!c->broken) {
            shutdown(d->to, SHUT_WR);
        }
    }
}

/* Read what is there, as far as the queue has room for it. */
static void receive(Connection *c, int way)
{
    static uint8_t waste[CHUNK_BYTES];
    Direction *d = &c->direction[way];

    for (int i = 0; i < READS_MAX && !queue_full(d); i++) {
        Chunk *chunk = d->done ? NULL : queue_room(d);
        ssize_t got;

        if (chunk) {
            got = recv(d->from, chunk->bytes + chunk->end,
                       CHUNK_BYTES - chunk->end, 0);
        } else {
            got = recv(d->from, waste, sizeof(waste), 0);
        }
        if (got > 0 && chunk) {
            chunk->end += got;
            d->queued_bytes += got;
        } else if (got == 0) {
            d->ended = true;
        } else if (got < 0 && errno != EAGAIN && errno != EINTR) {
            d->ended = true;
            c->broken = true;
            c->direction[!way].done = true;
            queue_clear(&c->direction[!way]);
        }
        if (got <= 0) {
            break;
        }
    }
    queue_trim(d);
}

/* One turn: whatever can be done without waiting, and a decent end. */
static void connection_run(Connection *c)
{
    Direction *d = c->direction;

    if (c->connecting) {
        return;
    }
    for (int way = 0; way < 2; way++) {
        if (c->fd[0] >= 0) {
            forward(c, way);
        }
    }
    if (c->fd[0] < 0) {
        return;
    }
    if (c->linger_until_ns) {
        if ((all_arrived(c->fd[0]) && all_arrived(c->fd[1])) ||
            proxy.turn_ns >= c->linger_until_ns) {
            connection_free(c, false);
        }
    } else if (d[0].done && d[1].done &&
               (c->broken || (d[0].ended && d[1].ended))) {
        connection_free(c, c->broken);
    }
}

/* --- Commands */

/* Parse "WHEN:ACTION"; returns NULL or what is wrong with it. */
static const char *parse_action(Trigger *t, char *text)
{
    char *value = strchr(text, '=');

    if (value) {
        *value++ = '\0';
    }
    for (size_t i = 0; i < ACTIONS; i++) {
        if (strcmp(text, actions[i].name) != 0) {
            continue;
        }
        t->action = i;
        t->command = value;
        if (!value != !(actions[i].number || i == ACTION_EXEC)) {
            return value ? "this action takes no value"
                         : "this action needs =VALUE";
        }
        if (actions[i].number && !parse_number(value, &t->value)) {
            return "not a number in the action";
        }
        if (i == ACTION_CORRUPT && (t->value < 1 || t->value > 255)) {
            return "the mask is not in 1 to 255";
        }
        if (i == ACTION_KILL && (t->value < 2 || t->value > INT32_MAX)) {
            return "not a process";
        }
        return NULL;
    }
    return "unknown action";
}

static const char *parse_type(Trigger *t, const char *name)
{
    if (strcmp(name, "any") == 0) {
        return NULL;
    }
    if (strncmp(name, "type-", 5) == 0 &&
        parse_number(name + 5, &t->type) && t->type < 256) {
        return NULL;
    }
    for (t->type = 0; t->type < TYPES; t->type++) {
        if (type_names[t->type] && strcmp(name, type_names[t->type]) == 0) {
            return NULL;
        }
    }
    return "unknown frame type";
}

static const char *parse_when_word(Trigger *t, const char *word)
{
    static const struct {
        const char *name;
        When when;
        int direction;
    } known[] = {
        { "now", WHEN_NOW, -1 },
        { "forward-byte=", WHEN_BYTE, FORWARD },
        { "back-byte=", WHEN_BYTE, BACK },
        { "before=", WHEN_BEFORE, -1 },
        { "after=", WHEN_AFTER, -1 },
        { "mid=", WHEN_MID, -1 },
        { "mid-round=", WHEN_MID_ROUND, FORWARD },
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t len = strlen(known[i].name);
        const char *value = word + len;

        if (strncmp(word, known[i].name, len) != 0 ||
            (i == 0 && *value != '\0')) {
            continue;
        }
        t->when = known[i].when;
        t->direction = known[i].direction;
        switch (t->when) {
        case WHEN_NOW:
            return NULL;
        case WHEN_BYTE:
            return parse_number(value, &t->byte) ? NULL : "not a number";
        case WHEN_BEFORE:
        case WHEN_AFTER:
        case WHEN_MID:
            return parse_type(t, value);
        case WHEN_MID_ROUND:
            return strcmp(value, "any") == 0 ||
                   parse_number(value, &t->round) ? NULL : "not a round";
        }
    }
    return "unknown trigger";
}

static const char *parse_when(Trigger *t, char *text)
{
    char *save, *word = strtok_r(text, ",", &save);
    const char *error = word ? parse_when_word(t, word) : "no trigger";

    while (!error && (word = strtok_r(NULL, ",", &save)) != NULL) {
        if (strncmp(word, "round=", 6) == 0) {
            error = parse_number(word + 6, &t->round) ? NULL : "not a round";
        } else if (strncmp(word, "nth=", 4) == 0) {
            error = parse_number(word + 4, &t->nth) && t->nth ? NULL
                                                  : "nth counts from 1";
        } else if (strcmp(word, "dir=forward") == 0) {
            t->direction = FORWARD;
        } else if (strcmp(word, "dir=back") == 0) {
            t->direction = BACK;
        } else {
            error = "unknown condition";
        }
    }
    return error;
}

/* "WHEN:ACTION": do it or remember it.  Returns NULL or what is wrong. */
static const char *add_fault(const char *text)
{
    Trigger *t = calloc(1, sizeof(*t)), **end = &proxy.triggers;
    char copy[COMMAND_MAX], *action;
    const char *error;

    *t = (Trigger){ .text = strdup(text), .direction = -1, .type = ANY,
                    .round = ANY, .nth = 1 };
    snprintf(copy, sizeof(copy), "%s", text);
    action = strchr(copy, ':');
    if (!action) {
        error = "not WHEN:ACTION";
    } else {
        *action++ = '\0';
        error = parse_when(t, copy);
        if (!error) {
            error = parse_action(t, action);
        }
    }
    if (t->command) {
        t->command = t->text + (t->command - copy);
    }
    if (!error && t->when != WHEN_NOW) {
        while (*end) {
            end = &(*end)->next;
        }
        *end = t;
        return NULL;
    }
    if (!error) {
        log_event("%s", t->text);
        act(t, NULL, FORWARD);
    }
    trigger_free(t);
    return error;
}

static void answer_status(int fd)
{
    unsigned connections = 0, triggers = 0;

    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        connections += connection[i].fd[0] >= 0;
    }
    for (Trigger *t = proxy.triggers; t; t = t->next) {
        triggers++;
    }
    dprintf(fd, "ok connections=%u made=%u triggers=%u\n", connections,
            proxy.connections_made, triggers);
}

static void run_line(Client *cl)
{
    const char *error;

    if (strcmp(cl->line, "status") == 0) {
        answer_status(cl->fd);
        return;
    }
    if (strcmp(cl->line, "clear") == 0) {
        while (proxy.triggers) {
            Trigger *t = proxy.triggers;

            proxy.triggers = t->next;
            trigger_free(t);
        }
        dprintf(cl->fd, "ok\n");
        return;
    }
    error = add_fault(cl->line);
    if (error) {
        dprintf(cl->fd, "error %s\n", error);
    } else {
        dprintf(cl->fd, "ok\n");
    }
}

static void client_accept(void)
{
    int fd = accept4(proxy.control_fd, NULL, NULL, SOCK_CLOEXEC);

    for (int i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
        if (client[i].fd < 0) {
            client[i] = (Client){ .fd = fd };
            return;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void client_read(Client *cl)
{
    char *end;
    ssize_t got = recv(cl->fd, cl->line + cl->len,
                       sizeof(cl->line) - 1 - cl->len, MSG_DONTWAIT);

    if (got <= 0) {
        close(cl->fd);
        cl->fd = -1;
        return;
    }
    cl->len += got;
    cl->line[cl->len] = '\0';
    while ((end = memchr(cl->line, '\n', cl->len)) != NULL) {
        *end++ = '\0';
        run_line(cl);
        cl->len -= end - cl->line;
        memmove(cl->line, end, cl->len + 1);
    }
}

/* --- The loop */

static void set_poll(struct pollfd *p, int fd, short events)
{
    /* An idle socket must not wake us with its hang-up */
    *p = (struct pollfd){ .fd = events ? fd : -1, .events = events };
}

static void earlier(uint64_t *wake_ns, uint64_t ns)
{
    if (ns < *wake_ns) {
        *wake_ns = ns;
    }
}

/* What this connection waits for */
static void connection_poll(const Connection *c, struct pollfd p[2],
                            uint64_t *wake_ns)
{
    short events[2] = { 0, 0 };

    if (c->fd[0] < 0 || c->connecting) {
        set_poll(&p[0], -1, 0);
        set_poll(&p[1], c->fd[1], c->fd[0] < 0 ? 0 : POLLOUT);
        return;
    }
    for (int way = 0; way < 2; way++) {
        const Direction *d = &c->direction[way];

        if (!d->ended && !queue_full(d) && (d->done || !d->stalled)) {
            events[way] |= POLLIN;
        }
        if (d->blocked && !d->stalled) {
            events[!way] |= POLLOUT;
        }
        if (d->head && !d->blocked && !d->stalled && !d->done &&
            d->head->due_ns > proxy.turn_ns) {
            earlier(wake_ns, d->head->due_ns);
        }
    }
    if (c->linger_until_ns) {
        earlier(wake_ns, proxy.turn_ns + LINGER_STEP_NS);
    }
    set_poll(&p[0], c->fd[0], events[0]);
    set_poll(&p[1], c->fd[1], events[1]);
}

static void connection_polled(Connection *c, const struct pollfd p[2])
{
    if (c->fd[0] < 0) {
        return;
    }
    if (c->connecting) {
        if (p[1].revents) {
            connection_connected(c);
        }
        return;
    }
    for (int way = 0; way < 2; way++) {
        if (p[!way].revents & (POLLOUT | POLLERR | POLLHUP)) {
            c->direction[way].blocked = false;
        }
        if (p[way].events & POLLIN && p[way].revents) {
            receive(c, way);
        }
    }
}

static void loop(void)
{
    static struct pollfd p[FDS_MAX];
    struct pollfd *p_clients = p + 2, *p_connections = p_clients + CLIENTS_MAX;

    for (;;) {
        uint64_t wake_ns = UINT64_MAX, now;
        struct timespec wait, *timeout = NULL;
        int i;

        proxy.turn_ns = now_ns();
        for (i = 0; i < CONNECTIONS_MAX; i++) {
            if (connection[i].fd[0] >= 0) {
                connection_run(&connection[i]);
            }
            connection_poll(&connection[i], p_connections + 2 * i, &wake_ns);
        }
        for (i = 0; i < CLIENTS_MAX; i++) {
            set_poll(&p_clients[i], client[i].fd, POLLIN);
        }
        set_poll(&p[0], proxy.listen_fd, POLLIN);
        set_poll(&p[1], proxy.control_fd, POLLIN);
        if (wake_ns != UINT64_MAX) {
            now = now_ns();
            wake_ns = wake_ns > now ? wake_ns - now : 0;
            wait.tv_sec = wake_ns / 1000000000;
            wait.tv_nsec = wake_ns % 1000000000;
            timeout = &wait;
        }
        if (ppoll(p, FDS_MAX, timeout, NULL) < 0) {
            continue;
        }
        for (i = 0; i < CONNECTIONS_MAX; i++) {
            connection_polled(&connection[i], p_connections + 2 * i);
        }
        for (i = 0; i < CLIENTS_MAX; i++) {
            if (p_clients[i].revents) {
                client_read(&client[i]);
            }
        }
        if (p[1].revents) {
            client_accept();
        }
        if (p[0].revents && proxy.listen_fd >= 0) {
            connection_accept();
        }
    }
}

/* --send: be a client of another proxy. */
static int send_line(const char *path, const char *line)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 10 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[COMMAND_MAX];
    ssize_t len;

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        die("%s: %s", path, strerror(errno));
    }
    dprintf(fd, "%s\n", line);
    len = read(fd, answer, sizeof(answer) - 1);
    if (len <= 0) {
        die("%s: no answer", path);
    }
    answer[len] = '\0';
    fputs(answer, stdout);
    return strncmp(answer, "ok", 2) == 0 ? 0 : 1;
}

static void open_control(void)
{
    char text[sizeof("unix:") + sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct sockaddr_storage addr;
    socklen_t len;

    snprintf(text, sizeof(text), "unix:%s", proxy.control);
    len = parse_addr(text, &addr);
    proxy.control_fd = listen_at(&addr, &len);
}

int main(int argc, char **argv)
{
    const char *log_path = NULL, *line = NULL, *faults[64];
    struct sockaddr_storage addr;
    int i, faults_given = 0;

    for (i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];

        if (strcmp(argv[i], "--listen") == 0) {
            proxy.listen = value;
        } else if (strcmp(argv[i], "--connect") == 0) {
            proxy.connect = value;
        } else if (strcmp(argv[i], "--log") == 0) {
            log_path = value;
        } else if (strcmp(argv[i], "--control") == 0) {
            proxy.control = value;
        } else if (strcmp(argv[i], "--send") == 0) {
            line = value;
        } else if (strcmp(argv[i], "--at") == 0 && faults_given < 64) {
            faults[faults_given++] = value;
        } else {
            break;
        }
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (i != argc || (line ? !proxy.control
                           : !proxy.listen || !proxy.connect)) {
        fputs(usage, stderr);
        return 2;
    }
    if (line) {
        return send_line(proxy.control, line);
    }

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    for (i = 0; i < CONNECTIONS_MAX; i++) {
        connection[i].fd[0] = connection[i].fd[1] = -1;
    }
    for (i = 0; i < CLIENTS_MAX; i++) {
        client[i].fd = -1;
    }
    if (log_path) {
        proxy.log = fopen(log_path, "we");
        if (!proxy.log) {
            die("%s: %s", log_path, strerror(errno));
        }
        setvbuf(proxy.log, NULL, _IOLBF, BUFSIZ);
    }
    parse_addr(proxy.connect, &addr);   /* refuse a wrong one now */
    proxy.bound_len = parse_addr(proxy.listen, &proxy.bound);
    proxy.listen_fd = listen_at(&proxy.bound, &proxy.bound_len);
    if (proxy.control) {
        open_control();
    }
    for (i = 0; i < faults_given; i++) {
        const char *error = add_fault(faults[i]);

        if (error) {
            die("%s: %s", faults[i], error);
        }
    }
    print_listening();
    loop();
}
