/*
 * Fault: a QMP server that is slow, silent, gone, somebody else, or says
 * more, less or something other than it was asked for.
 * Invariant: the right answer, or before the deadline is long over one
 * sentence that names the endpoint and the reason, and does nothing to a
 * terminal; never does one end that stalls keep another one from being heard.
 *
 * A peer is a thread that follows a script.  It never sleeps: what is to come
 * after another thing waits until that has happened.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include "ctl-assert.h"
#include <glib/gstdio.h>
#include <linux/sockios.h>

#include "ctl-pair.h"
#include "ctl-qmp.h"
#include "ctl-reader.h"
#include "ctl-pairsconf.h"
#include "ctl-verdict.h"

/* A deadline that is to pass, one that is not, and how much later than the
 * first one a busy machine may be */
#define SOON_MS 150
#define LATE_MS 60000
#define PATIENCE_MS 20000

static char *folder;

static CtlDeadline soon(void)
{
    return ctl_deadline_in(SOON_MS);
}

static CtlDeadline late(void)
{
    return ctl_deadline_in(LATE_MS);
}

/* ---- A peer -------------------------------------------------------------- */

typedef enum StepKind {
    STEP_END,                   /* close it */
    STEP_SAY,
    STEP_TRICKLE,               /* octet by octet, each when the one before it
                                 * was read */
    STEP_HEAR,                  /* a question, which is this command */
    STEP_ARGUMENTS,             /* it had these */
    STEP_ANSWER,                /* to the question heard last: returns this */
    STEP_REFUSE,                /* likewise: the error object */
    STEP_LONG_ANSWER,           /* likewise: a text of this length */
    STEP_FLOOD,                 /* say it again and again until nobody hears */
    STEP_CLOSE,                 /* nothing more comes; go on */
    STEP_RESET,                 /* close it while something is unread */
    STEP_STALL,                 /* until the other side has closed */
    STEP_DONE,                  /* when all was read: set the flag, go on */
    STEP_AWAIT,                 /* until peer_let_go() */
    STEP_SIGNAL,                /* SIGINT for this process */
    STEP_NEXT,                  /* close it, and serve another one */
} StepKind;

typedef struct Step {
    StepKind kind;
    const char *text;
    size_t len;
} Step;

#define SAY(bytes) { STEP_SAY, bytes, sizeof(bytes) - 1 }
#define TRICKLE(bytes) { STEP_TRICKLE, bytes, sizeof(bytes) - 1 }
#define HEAR(command) { STEP_HEAR, command, 0 }
#define ARGUMENTS(json) { STEP_ARGUMENTS, json, 0 }
#define ANSWER(json) { STEP_ANSWER, json, 0 }
#define REFUSE(json) { STEP_REFUSE, json, 0 }
#define LONG_ANSWER(bytes) { STEP_LONG_ANSWER, NULL, bytes }
#define FLOOD(bytes) { STEP_FLOOD, bytes, sizeof(bytes) - 1 }
#define CLOSE { STEP_CLOSE, NULL, 0 }
#define RESET { STEP_RESET, NULL, 0 }
#define STALL { STEP_STALL, NULL, 0 }
#define DONE { STEP_DONE, NULL, 0 }
#define AWAIT { STEP_AWAIT, NULL, 0 }
#define SIGNAL { STEP_SIGNAL, NULL, 0 }
#define NEXT { STEP_NEXT, NULL, 0 }
#define END { STEP_END, NULL, 0 }

#define VERSION \
    "{\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}, " \
    "\"package\": \"Curling\"}, \"capabilities\": [\"oob\"]}"
#define GREETING "{\"QMP\": " VERSION "}\r\n"
#define GREET SAY(GREETING), HEAR("qmp_capabilities"), ANSWER("{}")
#define EVENT(name) \
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"" \
    name "\", \"data\": {\"a\": 1}}\r\n"

typedef struct Peer {
    const Step *steps;
    CtlEndpoint *endpoint;
    int listener;
    int fd;
    pthread_t thread;
    bool joined;
    long long id;               /* of the question heard last */
    char line[4096];            /* and the question */
    char *problem;              /* of its thread; the first one */
    gint done;                  /* atomic: steps DONE so far */
    gint let_go;                /* atomic */
} Peer;

static void note(Peer *peer, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void note(Peer *peer, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (!peer->problem) {
        peer->problem = g_strdup_vprintf(fmt, args);
    }
    va_end(args);
}

/* False: nobody hears it. */
static bool say(Peer *peer, const char *bytes, size_t len)
{
    while (len) {
        ssize_t sent = send(peer->fd, bytes, len, MSG_NOSIGNAL);

        if (sent < 0) {
            return false;
        }
        bytes += sent;
        len -= sent;
    }
    return true;
}

/* Wait until the other side has read all. */
static void drain(Peer *peer)
{
    int left = 1;

    while (ioctl(peer->fd, SIOCOUTQ, &left) == 0 && left > 0) {
        sched_yield();
    }
}

static void trickle(Peer *peer, const Step *step)
{
    for (size_t i = 0; i < step->len; i++) {
        if (!say(peer, step->text + i, 1)) {
            note(peer, "closed at octet %zu of %s", i, step->text);
            return;
        }
        drain(peer);
    }
}

static void hear(Peer *peer, const Step *step)
{
    CtlJson *said;
    size_t len = 0;

    while (len < sizeof(peer->line) - 1 &&
           recv(peer->fd, peer->line + len, 1, 0) == 1 &&
           peer->line[len] != '\n') {
        len++;
    }
    peer->line[len] = '\0';
    said = ctl_json_parse(peer->line, len, NULL);
    if (g_strcmp0(ctl_json_text(said, "execute", NULL), step->text)) {
        note(peer, "heard \"%s\" instead of %s", peer->line, step->text);
    }
    peer->id = ctl_json_int(said, "id", -99);
    ctl_json_free(said);
}

static void check_arguments(Peer *peer, const Step *step)
{
    CtlJson *said = ctl_json_parse(peer->line, strlen(peer->line), NULL);
    CtlJson *expected = ctl_json_parse(step->text, strlen(step->text), NULL);

    if (!ctl_json_equal(ctl_json_get(said, "arguments"), expected)) {
        note(peer, "heard %s, expected arguments %s", peer->line, step->text);
    }
    ctl_json_free(said);
    ctl_json_free(expected);
}

static void answer(Peer *peer, const Step *step)
{
    g_autofree char *text =
        g_strdup_printf("{\"%s\": %s, \"id\": %lld}\r\n",
                        step->kind == STEP_REFUSE ? "error" : "return",
                        step->text, peer->id);

    if (!say(peer, text, strlen(text))) {
        note(peer, "nobody hears %s", text);
    }
}

static void answer_at_length(Peer *peer, const Step *step)
{
    g_autofree char *text = g_strnfill(step->len, 'x');
    g_autofree char *head = g_strdup_printf("{\"id\": %lld, \"return\": \"",
                                            peer->id);

    /* Whoever finds it too long may close. */
    if (say(peer, head, strlen(head)) && say(peer, text, step->len)) {
        say(peer, "\"}\r\n", 4);
    }
}

static void stall(Peer *peer)
{
    char bytes[256];

    while (recv(peer->fd, bytes, sizeof(bytes), 0) > 0) {
    }
}

/* With something unread, a UNIX socket's end is a reset to the other side;
 * TCP's is one when it is told so. */
static void reset(Peer *peer)
{
    struct pollfd fd = { .fd = peer->fd, .events = POLLIN };
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    poll(&fd, 1, LATE_MS);
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(peer->fd);
    peer->fd = -1;
}

static void await(Peer *peer)
{
    while (!g_atomic_int_get(&peer->let_go)) {
        sched_yield();
    }
}

static bool accept_one(Peer *peer)
{
    struct timeval patience = { .tv_sec = LATE_MS / 1000 };
    struct pollfd fd = { .fd = peer->listener, .events = POLLIN };

    if (poll(&fd, 1, LATE_MS) != 1) {
        note(peer, "nobody connects");
        return false;
    }
    peer->fd = accept(peer->listener, NULL, NULL);
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return true;
}

/* False: it was the last one. */
static bool take_step(Peer *peer, const Step *step)
{
    switch (step->kind) {
    case STEP_SAY:
        if (!say(peer, step->text, step->len)) {
            note(peer, "nobody hears %s", step->text);
        }
        break;
    case STEP_TRICKLE:
        trickle(peer, step);
        break;
    case STEP_HEAR:
        hear(peer, step);
        break;
    case STEP_ARGUMENTS:
        check_arguments(peer, step);
        break;
    case STEP_ANSWER:
    case STEP_REFUSE:
        answer(peer, step);
        break;
    case STEP_LONG_ANSWER:
        answer_at_length(peer, step);
        break;
    case STEP_FLOOD:
        while (say(peer, step->text, step->len)) {
        }
        break;
    case STEP_CLOSE:
        shutdown(peer->fd, SHUT_WR);
        break;
    case STEP_RESET:
        reset(peer);
        break;
    case STEP_STALL:
        stall(peer);
        break;
    case STEP_DONE:
        drain(peer);
        g_atomic_int_inc(&peer->done);
        g_main_context_wakeup(NULL);
        break;
    case STEP_AWAIT:
        await(peer);
        break;
    case STEP_SIGNAL:
        kill(getpid(), SIGINT);
        break;
    case STEP_NEXT:
        close(peer->fd);
        peer->fd = -1;
        return accept_one(peer);
    case STEP_END:
        return false;
    }
    return true;
}

static void *follow_script(void *opaque)
{
    Peer *peer = opaque;
    const Step *step = peer->steps;

    if (accept_one(peer)) {
        while (!peer->problem && take_step(peer, step)) {
            step++;
        }
    }
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    return NULL;
}

static CtlEndpoint *endpoint_of(const char *text)
{
    CtlEndpoint *endpoint = ctl_endpoint_parse(text, NULL);

    assert_non_null(endpoint);
    return endpoint;
}

/* A socket that listens; *@endpoint names it.  NULL for @name: TCP. */
static int listen_at(const char *name, int backlog, CtlEndpoint **endpoint)
{
    int fd = socket(name ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *text = NULL;

    assert_true(fd >= 0);
    if (name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder,
                   name);
        unlink(address.sun_path);
        assert_int_equal(bind(fd, (struct sockaddr *)&address,
                              sizeof(address)), 0);
        text = g_strconcat("unix:", address.sun_path, NULL);
    } else {
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        socklen_t len = sizeof(address);

        assert_int_equal(bind(fd, (struct sockaddr *)&address,
                              sizeof(address)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len),
                         0);
        text = g_strdup_printf("tcp:127.0.0.1:%d", ntohs(address.sin_port));
    }
    assert_int_equal(listen(fd, backlog), 0);
    *endpoint = endpoint_of(text);
    return fd;
}

static Peer *peer_new(const char *name, const Step *steps)
{
    Peer *peer = g_new0(Peer, 1);

    peer->steps = steps;
    peer->fd = -1;
    peer->listener = listen_at(name, 5, &peer->endpoint);
    assert_int_equal(pthread_create(&peer->thread, NULL, follow_script, peer),
                     0);
    return peer;
}

/* Wait for the end of its script. */
static void peer_join(Peer *peer)
{
    if (!peer->joined) {
        pthread_join(peer->thread, NULL);
        peer->joined = true;
    }
}

/* The same; it came there without a problem. */
static void peer_end(Peer *peer)
{
    peer_join(peer);
    close(peer->listener);
    if (peer->problem) {
        fail_msg("the peer at %s: %s", peer->endpoint->text, peer->problem);
    }
    if (peer->endpoint->path) {
        unlink(peer->endpoint->path);
    }
    ctl_endpoint_free(peer->endpoint);
    g_free(peer);
}

static void peer_let_go(Peer *peer)
{
    g_atomic_int_set(&peer->let_go, 1);
}

static bool is_done(void *opaque)
{
    Peer *peer = opaque;

    return g_atomic_int_get(&peer->done) > 0;
}

/* ---- What is expected ---------------------------------------------------- */

/* A sentence of @code that names @endpoint and says @part; @err is freed. */
static void assert_error(GError *err, const CtlEndpoint *endpoint, int code,
                         const char *part)
{
    g_autofree char *begin = g_strconcat(endpoint->text, ": ", NULL);

    assert_non_null(err);
    if (!g_str_has_prefix(err->message, begin)) {
        fail_msg("\"%s\" does not begin with \"%s\"", err->message, begin);
    }
    assert_contains(err->message, part);
    assert_int_equal(err->code, code);
    assert_true(err->domain == CTL_ERROR);
    assert_clean(err->message);
    g_error_free(err);
}

static CtlJson *call(CtlQmp *qmp, const char *command)
{
    GError *err = NULL;
    CtlJson *answered = ctl_qmp_call(qmp, late(), &err, command, NULL);

    if (!answered) {
        fail_msg("%s: %s", command, err->message);
    }
    return answered;
}

static void assert_answer(CtlQmp *qmp, const char *command, const char *json)
{
    g_autoptr(CtlJson) answered = call(qmp, command);
    g_autofree char *text = ctl_json_dump(answered);

    assert_string_equal(text, json);
}

static bool has_answer(void *opaque)
{
    return ctl_qmp_has_answer(opaque);
}

static void assert_ready(CtlQmp *qmp)
{
    GError *err = NULL;

    if (!ctl_qmp_wait_ready(qmp, late(), &err)) {
        fail_msg("%s", err->message);
    }
}

/* ---- Answers ------------------------------------------------------------- */

static const Step script_greeting[] = {
    GREET, HEAR("query-status"), ANSWER("{\"status\": \"running\"}"),
    HEAR("query-name"), ANSWER("{}"), STALL, END
};

static void check_greeting_and_answers(const char *name)
{
    Peer *peer = peer_new(name, script_greeting);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);

    assert_null(ctl_qmp_greeting(qmp));
    assert_ready(qmp);
    assert_int_equal(ctl_json_int(ctl_qmp_greeting(qmp), "version.qemu.major",
                                  0), 10);
    assert_answer(qmp, "query-status", "{\"status\":\"running\"}");
    assert_answer(qmp, "query-name", "{}");
    assert_false(ctl_qmp_has_failed(qmp, NULL));
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_greeting_and_answers(void **state)
{
    (void)state;
    check_greeting_and_answers("qmp");
}

static void test_greeting_and_answers_over_tcp(void **state)
{
    (void)state;
    check_greeting_and_answers(NULL);
}

/* Asked before anything was heard; nothing is lost, or asked twice */
static void test_question_before_the_greeting(void **state)
{
    static const Step script[] = {
        AWAIT, GREET, HEAR("query-name"), ANSWER("7"),
        HEAR("query-status"), ANSWER("8"), STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    g_autoptr(CtlJson) answered = NULL;

    (void)state;
    ctl_qmp_ask(qmp, "query-name", NULL);
    assert_false(ctl_qmp_has_answer(qmp));
    peer_let_go(peer);
    assert_true(ctl_wait(has_answer, qmp, late(), NULL));
    answered = ctl_qmp_take_answer(qmp, NULL);
    assert_int_equal(ctl_json_int(answered, NULL, 0), 7);
    assert_answer(qmp, "query-status", "8");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_arguments_arrive(void **state)
{
    static const Step script[] = {
        GREET, HEAR("curling-set"),
        ARGUMENTS("{\"a\": \"\\u0007\\\"\\n\", \"n\": -7, \"b\": true}"),
        ANSWER("{}"), HEAR("curling-set"), ARGUMENTS("{\"x\": [1]}"),
        ANSWER("{}"), STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;
    CtlJson *answered;

    (void)state;
    answered = ctl_qmp_call(qmp, late(), &err, "curling-set",
                            "{s:s, s:I, s:b}", "a", "\x07\"\n", "n", -7ll,
                            "b", 1);
    assert_non_null(answered);
    ctl_json_free(answered);
    /* Nothing is asked with what is no UTF-8, and nothing is broken by it. */
    assert_null(ctl_qmp_call(qmp, late(), &err, "curling-set", "{s:s}", "a",
                             "\xff"));
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_USAGE));
    assert_contains(err->message, "no UTF-8");
    g_clear_error(&err);
    answered = ctl_qmp_call_json(qmp, late(), &err, "curling-set",
                                 ctl_json_new("{s:[i]}", "x", 1));
    assert_non_null(answered);
    ctl_json_free(answered);
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void collect(const CtlJson *event, void *opaque)
{
    g_string_append(opaque, ctl_json_text(event, "event", "?"));
    g_string_append_c(opaque, ' ');
}

static const Step script_events[] = {
    SAY(GREETING), SAY(EVENT("ONE")), HEAR("qmp_capabilities"),
    SAY(EVENT("TWO")), ANSWER("{}"), SAY(EVENT("THREE")),
    HEAR("query-status"), SAY(EVENT("FOUR") EVENT("FIVE")), ANSWER("{}"),
    SAY(EVENT("SIX")), HEAR("query-name"), ANSWER("1"), STALL, END
};

static void test_events_in_between(void **state)
{
    Peer *peer = peer_new("qmp", script_events);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    g_autoptr(GString) events = g_string_new(NULL);

    (void)state;
    ctl_qmp_on_event(qmp, collect, events);
    assert_answer(qmp, "query-status", "{}");
    assert_answer(qmp, "query-name", "1");
    assert_string_equal(events->str, "ONE TWO THREE FOUR FIVE SIX ");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_events_that_nobody_wants(void **state)
{
    Peer *peer = peer_new("qmp", script_events);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);

    (void)state;
    assert_answer(qmp, "query-status", "{}");
    assert_answer(qmp, "query-name", "1");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* QMP has numbers up to 2^64 - 1: a Windows guest's crash tells addresses. */
static void test_event_with_a_large_number(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"),
        SAY("{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"pause\", "
            "\"info\": {\"type\": \"hyper-v\", \"arg1\": 18446735293831475712, "
            "\"arg2\": 0}}, \"timestamp\": {\"seconds\": 1, \"microseconds\": "
            "2}}\r\n"),
        ANSWER("{}"), STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    g_autoptr(GString) events = g_string_new(NULL);

    (void)state;
    ctl_qmp_on_event(qmp, collect, events);
    assert_answer(qmp, "query-status", "{}");
    assert_string_equal(events->str, "GUEST_PANICKED ");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_pretty_printed(void **state)
{
    static const Step script[] = {
        SAY("{\r\n    \"QMP\": {\r\n        \"version\": {\r\n            "
            "\"package\": \"\"\r\n        },\r\n        \"capabilities\": [\r\n"
            "        ]\r\n    }\r\n}\r\n"),
        HEAR("qmp_capabilities"),
        SAY("{\r\n    \"return\": {\r\n    },\r\n    \"id\": 0\r\n}\r\n"),
        HEAR("query-status"),
        SAY("{\r\n    \"return\": {\r\n        \"text\": \"}\\n{\",\r\n"),
        DONE,
        SAY("        \"running\": true\r\n    },\r\n    \"id\": 1\r\n}\r\n"),
        STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);

    (void)state;
    assert_answer(qmp, "query-status",
                  "{\"text\":\"}\\n{\",\"running\":true}");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_octet_by_octet(void **state)
{
    static const Step script[] = {
        TRICKLE(GREETING), HEAR("qmp_capabilities"),
        TRICKLE("{\"return\": {}, \"id\": 0}\r\n"), HEAR("query-status"),
        TRICKLE(EVENT("ONE") "{\"return\": \"\xe2\x82\xac\", \"id\": 1}"),
        STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    g_autoptr(GString) events = g_string_new(NULL);

    (void)state;
    ctl_qmp_on_event(qmp, collect, events);
    assert_answer(qmp, "query-status", "\"\\u20AC\"");
    assert_string_equal(events->str, "ONE ");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* QEMU's own errors: the connection is as good as before. */
static void test_refusals(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-curling"),
        REFUSE("{\"class\": \"CommandNotFound\", \"desc\": \"The command "
               "query-curling has not been found\"}"),
        HEAR("curling-failover"),
        REFUSE("{\"class\": \"GenericError\", \"desc\": \"no whole round\"}"),
        HEAR("a"), REFUSE("{\"class\": \"GenericError\", \"desc\": "
                          "\"\\u001b[31mred\\u0007\\r\\nnext\\u009b1m "
                          "\\u202eend\"}"),
        HEAR("b"), REFUSE("{}"), HEAR("c"), REFUSE("\"text\""),
        HEAR("d"), REFUSE("{\"class\": 3, \"desc\": 4}"),
        HEAR("e"), ANSWER("null"), STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;

    (void)state;
    assert_null(ctl_qmp_call(qmp, late(), &err, "query-curling", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_NO_COMMAND,
                 "The command query-curling has not been found");
    err = NULL;
    assert_null(ctl_qmp_call(qmp, late(), &err, "curling-failover", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_REFUSED, "no whole round");
    err = NULL;
    assert_null(ctl_qmp_call(qmp, late(), &err, "a", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_REFUSED, "[31mred");
    for (const char *const *c = (const char *const[]){ "b", "c", "d", NULL };
         *c; c++) {
        err = NULL;
        assert_null(ctl_qmp_call(qmp, late(), &err, *c, NULL));
        assert_error(err, peer->endpoint, CTL_ERROR_REFUSED,
                     "an error without words");
    }
    assert_answer(qmp, "e", "null");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* ---- What is no QMP ------------------------------------------------------ */

typedef struct Failure {
    const char *name;
    Step steps[8];
    int code;
    const char *part;
} Failure;

/* Of the first question, with a deadline that does not pass */
static const Failure failures[] = {
    { "closes at once", { END }, CTL_ERROR_LOST,
      "before QEMU greeted; is this a QMP socket?" },
    { "closes in the greeting", { SAY("{\"QMP\": {"), END }, CTL_ERROR_LOST,
      "in the middle of an answer" },
    { "closes after the greeting", { SAY(GREETING), HEAR("qmp_capabilities"),
      END }, CTL_ERROR_LOST, "QEMU has closed the connection, or has ended" },
    { "ends for the question", { GREET, HEAR("query-status"), END },
      CTL_ERROR_LOST, "QEMU has closed the connection, or has ended" },
    { "closes in an answer", { GREET, HEAR("query-status"),
      SAY("{\"return\": {\"a"), END }, CTL_ERROR_LOST,
      "closed in the middle of an answer" },
    { "closes one way in an answer", { GREET, HEAR("query-status"),
      SAY("{\"return\": {\"a"), CLOSE, STALL, END }, CTL_ERROR_LOST,
      "closed in the middle of an answer" },
    { "resets after the greeting", { SAY(GREETING), RESET, END },
      CTL_ERROR_LOST, "QEMU has closed the connection, or has ended" },
    { "resets for the question", { GREET, RESET, END }, CTL_ERROR_LOST,
      "QEMU has closed the connection, or has ended" },
    { "HTTP", { SAY("HTTP/1.1 400 Bad Request\r\n\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "no QMP socket: it says \"HTTP/1.1 400 Bad" },
    { "SSH", { SAY("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "no QMP socket: it says \"SSH-2.0-OpenSSH" },
    { "HMP", { SAY("QEMU 10.0.13 monitor - type 'help' for more\r\n(qemu) "),
      STALL, END }, CTL_ERROR_BAD_PEER, "it says \"QEMU 10.0.13 monitor" },
    { "a serial console", { SAY("\r\n\x1b[2J\x1b]0;x\x07login: "), STALL, END },
      CTL_ERROR_BAD_PEER, "no QMP socket: it says " },
    { "binary", { SAY("\0\x01\xff\xfe\x80{\0}"), STALL, END },
      CTL_ERROR_BAD_PEER, "no QMP socket: it says " },
    { "an array", { SAY("[1]\r\n"), STALL, END }, CTL_ERROR_BAD_PEER,
      "where a JSON object should begin" },
    { "JSON that is no greeting", { SAY("{\"hello\": 1}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "its first word is not QEMU's greeting" },
    { "an event for a greeting", { SAY(EVENT("STOP")), STALL, END },
      CTL_ERROR_BAD_PEER, "its first word is not QEMU's greeting" },
    { "a greeting of 3", { SAY("{\"QMP\": 3}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "its first word is not QEMU's greeting" },
    { "an empty greeting", { SAY("{\"QMP\": {}}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "its first word is not QEMU's greeting" },
    { "the guest agent", { SAY("{\"error\": {\"class\": \"GenericError\", "
      "\"desc\": \"x\"}}\r\n"), STALL, END }, CTL_ERROR_BAD_PEER,
      "its first word is not QEMU's greeting" },
    { "only looks like JSON", { SAY("{]\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, ": no JSON: " },
    { "no JSON with escapes", { SAY("{\x1b}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, ": no JSON: " },
    { "no JSON later", { GREET, HEAR("query-status"),
      SAY("{\"return\": }\r\n"), STALL, END }, CTL_ERROR_BAD_PEER,
      ": no JSON: " },
    { "invalid UTF-8", { GREET, HEAR("query-status"),
      SAY("{\"return\": \"\xff\xfe\", \"id\": 1}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, ": no JSON: " },
    { "words after an answer", { GREET, HEAR("query-status"),
      SAY("{\"return\": {}, \"id\": 1} bye"), STALL, END }, CTL_ERROR_BAD_PEER,
      "it says \"bye\"" },
    { "capabilities are refused", { SAY(GREETING), HEAR("qmp_capabilities"),
      REFUSE("{\"class\": \"GenericError\", \"desc\": \"no\"}"), STALL, END },
      CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "another greeting", { GREET, SAY(GREETING), STALL, END },
      CTL_ERROR_BAD_PEER, "neither an answer nor an event" },
    { "an answer before the question", { SAY(GREETING),
      HEAR("qmp_capabilities"), SAY("{\"return\": {}, \"id\": 1}\r\n"), STALL,
      END }, CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "wrong id", { GREET, HEAR("query-status"),
      SAY("{\"return\": {}, \"id\": 2}\r\n"), STALL, END }, CTL_ERROR_BAD_PEER,
      "nobody asked for" },
    { "no id", { GREET, HEAR("query-status"), SAY("{\"return\": {}}\r\n"),
      STALL, END }, CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "a text for an id", { GREET, HEAR("query-status"),
      SAY("{\"return\": {}, \"id\": \"1\"}\r\n"), STALL, END },
      CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "an error of nothing", { GREET, HEAR("query-status"),
      SAY("{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\r\n"),
      STALL, END }, CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "two answers", { GREET, HEAR("query-status"),
      SAY("{\"return\": {}, \"id\": 1}\r\n{\"return\": {}, \"id\": 1}\r\n"),
      STALL, END }, CTL_ERROR_BAD_PEER, "nobody asked for" },
    { "neither this nor that", { GREET, HEAR("query-status"),
      SAY("{\"id\": 1}\r\n"), STALL, END }, CTL_ERROR_BAD_PEER,
      "neither an answer nor an event" },
    { "10 MB", { GREET, HEAR("query-status"), LONG_ANSWER(10000000), END },
      CTL_ERROR_BAD_PEER, "more than 8 MiB" },
    { "no end of spaces and no object", { FLOOD("        x"), END },
      CTL_ERROR_BAD_PEER, "where a JSON object should begin" },
    { "no end of braces", { FLOOD("{\"a\":"), END }, CTL_ERROR_BAD_PEER,
      "1025 levels deep" },
    { "an endless text", { SAY("{\""), FLOOD("}]xxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
      END }, CTL_ERROR_BAD_PEER, "more than 8 MiB" },
    { "an endless array", { SAY("{\"a\": ["), FLOOD("{\"b\": [1, 2, "
      "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]}, "), END },
      CTL_ERROR_BAD_PEER, "more than 8 MiB" },
};

static void check_failure(const Failure *failure, const char *name)
{
    Peer *peer = peer_new(name, failure->steps);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;

    alarm(120);
    if (ctl_qmp_call(qmp, late(), &err, "query-status", NULL)) {
        fail_msg("%s: an answer", failure->name);
    }
    print_message("%s: %s\n", failure->name, err->message);
    assert_error(err, peer->endpoint, failure->code, failure->part);
    /* And so it stays. */
    err = NULL;
    assert_true(ctl_qmp_has_failed(qmp, &err));
    assert_error(err, peer->endpoint, failure->code, failure->part);
    err = NULL;
    assert_null(ctl_qmp_call(qmp, late(), &err, "query-status", NULL));
    assert_error(err, peer->endpoint, failure->code, failure->part);
    assert_false(ctl_qmp_wait_ready(qmp, late(), NULL));
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_failures(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
        check_failure(&failures[i], "qmp");
    }
}

static void test_failures_over_tcp(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
        check_failure(&failures[i], NULL);
    }
}

static unsigned int open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int number = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        number++;
    }
    closedir(dir);
    return number;
}

static void test_nothing_is_left_open(void **state)
{
    unsigned int before = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        check_failure(&failures[i % 8], i % 2 ? NULL : "qmp");
        /* glib opens its own with the first of each kind. */
        if (i == 3) {
            before = open_files();
        }
    }
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    assert_int_equal(open_files(), before);
}

/* An answer that QEMU gave before it ended is not lost, as that to quit. */
static void test_answer_and_then_the_end(void **state)
{
    static const Step script[] = {
        GREET, HEAR("quit"), ANSWER("{}"), END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;

    (void)state;
    assert_answer(qmp, "quit", "{}");
    assert_null(ctl_qmp_call(qmp, late(), &err, "query-status", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_LOST,
                 "QEMU has closed the connection, or has ended");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* ---- Long ones ----------------------------------------------------------- */

static void test_4_mb(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-qmp-schema"), LONG_ANSWER(4000000),
        HEAR("query-status"), ANSWER("{}"), STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    g_autoptr(CtlJson) answered = NULL;

    (void)state;
    answered = call(qmp, "query-qmp-schema");
    assert_int_equal(strlen(ctl_json_text(answered, NULL, "")), 4000000);
    assert_answer(qmp, "query-status", "{}");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void check_depth(unsigned int depth, bool taken)
{
    GString *nested = g_string_new(NULL);
    Step script[] = {
        GREET, HEAR("query-status"), { STEP_ANSWER, NULL, 0 }, STALL, END
    };
    g_autoptr(CtlQmp) qmp = NULL;
    g_autoptr(CtlJson) answered = NULL;
    GError *err = NULL;
    Peer *peer;

    /* The answer's own braces are a level as well. */
    for (unsigned int i = 1; i < depth; i++) {
        g_string_prepend_c(nested, '[');
        g_string_append_c(nested, ']');
    }
    script[G_N_ELEMENTS(script) - 3].text = nested->str;
    peer = peer_new("qmp", script);
    qmp = ctl_qmp_open(peer->endpoint);
    answered = ctl_qmp_call(qmp, late(), &err, "query-status", NULL);
    assert_int_equal(answered != NULL, taken);
    if (!taken) {
        assert_error(err, peer->endpoint, CTL_ERROR_BAD_PEER, "levels deep");
    }
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
    g_string_free(nested, TRUE);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    check_depth(CTL_READER_MAX_DEPTH, true);
    check_depth(CTL_READER_MAX_DEPTH + 1, false);
}

/* ---- Deadlines ----------------------------------------------------------- */

/* @began is when the deadline was set. */
static void assert_soon(int64_t began)
{
    assert_true(g_get_monotonic_time() - began <
                (SOON_MS + PATIENCE_MS) * 1000);
}

static void test_no_greeting(void **state)
{
    static const Step script[] = { STALL, END };
    int64_t began = g_get_monotonic_time();
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;

    (void)state;
    assert_false(ctl_qmp_wait_ready(qmp, soon(), &err));
    assert_soon(began);
    assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT,
                 "no greeting: a QMP socket serves one client at a time");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

static void test_no_answer(void **state)
{
    static const Step script[] = { GREET, HEAR("query-status"), STALL, END };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    int64_t began;
    GError *err = NULL;

    (void)state;
    assert_ready(qmp);
    began = g_get_monotonic_time();
    assert_null(ctl_qmp_call(qmp, soon(), &err, "query-status", NULL));
    assert_soon(began);
    assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT,
                 "no answer to query-status: QEMU hangs, or needs more time "
                 "(--timeout)");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* The deadline is set when the half has arrived, as ctl_qmp_call() would have
 * it with one that is later. */
static void test_half_an_answer(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), SAY("{\"return\": {\"status\": \"ru"),
        DONE, STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
    GError *why = NULL;
    GError *err = NULL;

    (void)state;
    ctl_qmp_ask(qmp, "query-status", NULL);
    assert_ready(qmp);
    assert_true(ctl_wait(is_done, peer, late(), &err));
    assert_false(ctl_wait(has_answer, qmp, soon(), &why));
    assert_true(g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT));
    ctl_qmp_give_up(qmp, why);
    g_error_free(why);
    assert_true(ctl_qmp_has_failed(qmp, &err));
    assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT,
                 "no end of the answer to query-status");
    err = NULL;
    assert_null(ctl_qmp_take_answer(qmp, &err));
    assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT, "no end of");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* Somebody who talks all the time does not keep the deadline from passing. */
static void test_no_end_of_events(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), FLOOD(EVENT("ONE")), END
    };
    static const Step script_of_spaces[] = {
        GREET, HEAR("query-status"), FLOOD("\r\n"), END
    };
    const Step *scripts[] = { script, script_of_spaces };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        Peer *peer = peer_new("qmp", scripts[i]);
        g_autoptr(CtlQmp) qmp = ctl_qmp_open(peer->endpoint);
        int64_t began;
        GError *err = NULL;

        assert_ready(qmp);
        began = g_get_monotonic_time();
        assert_null(ctl_qmp_call(qmp, soon(), &err, "query-status", NULL));
        assert_soon(began);
        assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT, "query-status");
        ctl_qmp_close(g_steal_pointer(&qmp));
        peer_end(peer);
    }
}

static void test_deadline_that_has_passed(void **state)
{
    Peer *peer = peer_new("qmp", script_greeting);
    CtlQmp *qmp = ctl_qmp_open(peer->endpoint);
    GError *err = NULL;

    (void)state;
    assert_null(ctl_qmp_call(qmp, g_get_monotonic_time() - 1, &err,
                             "query-status", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_TIMEOUT, "");
    ctl_qmp_close(qmp);
    /* The peer's script is for one that stays. */
    peer_join(peer);
    g_clear_pointer(&peer->problem, g_free);
    peer_end(peer);
}

static void test_waiting(void **state)
{
    int64_t began = g_get_monotonic_time();
    GError *err = NULL;

    (void)state;
    assert_true(ctl_deadline_in(0) == CTL_NEVER);
    assert_true(ctl_sleep(20, &err));
    assert_true(g_get_monotonic_time() - began >= 20000);
    assert_false(ctl_wait(NULL, NULL, ctl_deadline_in(20), &err));
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_TIMEOUT));
    g_error_free(err);
}

/* ---- Connections that do not come about ---------------------------------- */

static void assert_no_connection(const char *path, CtlErrorCode code,
                                 const char *part)
{
    g_autofree char *text = g_strconcat("unix:", path, NULL);
    g_autoptr(CtlEndpoint) endpoint = endpoint_of(text);
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(endpoint);
    GError *err = NULL;

    assert_null(ctl_qmp_call(qmp, late(), &err, "query-status", NULL));
    assert_error(err, endpoint, code, part);
    assert_true(ctl_qmp_has_failed(qmp, NULL));
}

static void test_no_socket(void **state)
{
    g_autofree char *path = g_build_filename(folder, "missing", NULL);
    g_autofree char *file = g_build_filename(folder, "file", NULL);
    g_autofree char *inside = g_build_filename(file, "qmp", NULL);

    (void)state;
    assert_no_connection(path, CTL_ERROR_LOST, "there is no such socket; is "
                         "QEMU running, with -qmp unix:");
    assert_true(g_file_set_contents(file, "x", 1, NULL));
    assert_no_connection(file, CTL_ERROR_LOST, "not for QMP");
    assert_no_connection(folder, CTL_ERROR_LOST, "not for QMP");
    assert_no_connection(inside, CTL_ERROR_LOST, g_strerror(ENOTDIR));
    g_unlink(file);
}

static void test_nobody_listens(void **state)
{
    g_autoptr(CtlEndpoint) endpoint = NULL;
    g_autoptr(CtlEndpoint) tcp = NULL;
    g_autoptr(CtlQmp) qmp = NULL;
    GError *err = NULL;

    (void)state;
    close(listen_at("qmp", 1, &endpoint));
    assert_no_connection(endpoint->path, CTL_ERROR_LOST,
                         "nobody serves this socket any more: its QEMU has "
                         "ended");
    g_unlink(endpoint->path);
    close(listen_at(NULL, 1, &tcp));
    qmp = ctl_qmp_open(tcp);
    assert_null(ctl_qmp_call(qmp, late(), &err, "query-status", NULL));
    assert_error(err, tcp, CTL_ERROR_LOST, "Connection refused");
}

static void test_socket_of_datagrams(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    (void)state;
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/qmp", folder);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
    assert_no_connection(address.sun_path, CTL_ERROR_LOST,
                         g_strerror(EPROTOTYPE));
    close(fd);
    unlink(address.sun_path);
}

/* As root, as another user than that. */
static void test_no_permission(void **state)
{
    g_autoptr(CtlEndpoint) endpoint = NULL;
    int fd = listen_at("qmp", 1, &endpoint);
    bool is_root = geteuid() == 0;

    (void)state;
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(endpoint->path, 0), 0);
    if (is_root && seteuid(65534) < 0) {
        close(fd);
        unlink(endpoint->path);
        skip();
    }
    assert_no_connection(endpoint->path, CTL_ERROR_LOST, "permission denied; "
                         "run curlingctl as a user who may write to the "
                         "socket");
    if (is_root) {
        assert_int_equal(seteuid(0), 0);
    }
    close(fd);
    unlink(endpoint->path);
}

/* Connect until the queue is full; the number of connections in @fds, of
 * @max. */
static size_t fill_queue(const CtlEndpoint *endpoint, int *fds, size_t max)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t number = 0;

    g_strlcpy(address.sun_path, endpoint->path, sizeof(address.sun_path));
    while (number < max) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
            assert_int_equal(errno, EAGAIN);
            close(fd);
            return number;
        }
        fds[number++] = fd;
    }
    fail_msg("the queue has no end");
    return 0;
}

static void test_full_queue(void **state)
{
    g_autoptr(CtlEndpoint) endpoint = NULL;
    int listener = listen_at("qmp", 0, &endpoint);
    int fds[16];
    size_t number = fill_queue(endpoint, fds, G_N_ELEMENTS(fds));
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(endpoint);
    GError *err = NULL;

    (void)state;
    assert_false(ctl_qmp_wait_ready(qmp, soon(), &err));
    assert_error(err, endpoint, CTL_ERROR_TIMEOUT, "others wait for this "
                 "socket already, which serves one client at a time");
    for (size_t i = 0; i < number; i++) {
        close(fds[i]);
    }
    close(listener);
    unlink(endpoint->path);
}

/* Who was first goes, and it is our turn. */
static void test_full_queue_that_empties(void **state)
{
    g_autoptr(CtlEndpoint) endpoint = NULL;
    int listener = listen_at("qmp", 0, &endpoint);
    int fds[16];
    size_t number = fill_queue(endpoint, fds, G_N_ELEMENTS(fds));
    g_autoptr(CtlQmp) qmp = ctl_qmp_open(endpoint);
    GError *err = NULL;
    Peer *peer;

    (void)state;
    assert_false(ctl_qmp_has_answer(qmp));
    g_assert_true(ctl_sleep(1, &err));
    for (size_t i = 0; i < number; i++) {
        close(accept(listener, NULL, NULL));
        close(fds[i]);
    }
    peer = g_new0(Peer, 1);
    peer->steps = script_greeting;
    peer->fd = -1;
    peer->listener = listener;
    peer->endpoint = endpoint_of(endpoint->text);
    assert_int_equal(pthread_create(&peer->thread, NULL, follow_script, peer),
                     0);
    assert_answer(qmp, "query-status", "{\"status\":\"running\"}");
    assert_answer(qmp, "query-name", "{}");
    ctl_qmp_close(g_steal_pointer(&qmp));
    peer_end(peer);
}

/* SYNs are dropped where a TCP queue is full: nothing is heard of it. */
static void test_no_connection_over_tcp(void **state)
{
    g_autoptr(CtlEndpoint) endpoint = NULL;
    int listener = listen_at(NULL, 0, &endpoint);
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    g_autoptr(CtlQmp) qmp = NULL;
    int fds[8];
    GError *err = NULL;

    (void)state;
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len),
                     0);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fds[i], (struct sockaddr *)&address, len);
    }
    qmp = ctl_qmp_open(endpoint);
    assert_false(ctl_qmp_wait_ready(qmp, soon(), &err));
    assert_error(err, endpoint, CTL_ERROR_TIMEOUT, "no connection within the "
                 "time of --timeout");
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
    close(listener);
}

/* Closed at each moment of its making; ASan sees who comes too late. */
static void check_close(const CtlEndpoint *endpoint)
{
    for (int turns = 0; turns < 30; turns++) {
        CtlQmp *qmp = ctl_qmp_open(endpoint);

        ctl_qmp_ask(qmp, "query-status", NULL);
        for (int i = 0; i < turns; i++) {
            g_main_context_iteration(NULL, FALSE);
            if (turns % 2) {
                ctl_qmp_has_answer(qmp);
            }
        }
        ctl_qmp_close(qmp);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
    }
}

static void *serve_greetings(void *opaque)
{
    int listener = GPOINTER_TO_INT(opaque);
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        send(fd, GREETING, sizeof(GREETING) - 1, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void test_close_at_any_time(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        g_autoptr(CtlEndpoint) endpoint = NULL;
        int listener = listen_at(i ? NULL : "qmp", 100, &endpoint);
        g_autoptr(CtlEndpoint) by_name = NULL;
        pthread_t thread;

        pthread_create(&thread, NULL, serve_greetings,
                       GINT_TO_POINTER(listener));
        check_close(endpoint);
        if (i) {
            g_autofree char *text = g_strdup_printf("tcp:localhost:%d",
                                                    endpoint->port);

            by_name = endpoint_of(text);
            check_close(by_name);
        }
        shutdown(listener, SHUT_RDWR);
        pthread_join(thread, NULL);
        close(listener);
        if (endpoint->path) {
            unlink(endpoint->path);
        } else {
            /* Nobody listens. */
            check_close(endpoint);
        }
    }
    ctl_qmp_close(NULL);
}

/* ---- Ctrl-C -------------------------------------------------------------- */

static void test_interrupt(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), SIGNAL, STALL, NEXT,
        GREET, HEAR("query-name"), ANSWER("{}"), HEAR("query-status"), SIGNAL,
        STALL, END
    };
    Peer *peer = peer_new("qmp", script);
    CtlQmp *qmp = ctl_qmp_open(peer->endpoint);
    struct sigaction action;
    GError *err = NULL;

    (void)state;
    ctl_interrupt_init();
    assert_null(ctl_qmp_call(qmp, CTL_NEVER, &err, "query-status", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_INTERRUPTED, "interrupted");
    ctl_qmp_close(qmp);
    /* It holds until somebody takes note. */
    err = NULL;
    assert_false(ctl_sleep(LATE_MS, &err));
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_INTERRUPTED));
    g_clear_error(&err);
    ctl_interrupt_clear();
    qmp = ctl_qmp_open(peer->endpoint);
    assert_answer(qmp, "query-name", "{}");
    /* The next one counts again. */
    assert_null(ctl_qmp_call(qmp, CTL_NEVER, &err, "query-status", NULL));
    assert_error(err, peer->endpoint, CTL_ERROR_INTERRUPTED, "interrupted");
    ctl_qmp_close(qmp);
    ctl_interrupt_clear();
    ctl_interrupt_end();
    assert_int_equal(sigaction(SIGINT, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    peer_end(peer);
}

/* ---- Several at once ----------------------------------------------------- */

typedef struct Several {
    CtlQmp *qmps[3];
    size_t number;
} Several;

static bool all_have_answers(void *opaque)
{
    Several *several = opaque;
    bool all = true;

    for (size_t i = 0; i < several->number; i++) {
        all = ctl_qmp_has_answer(several->qmps[i]) && all;
    }
    return all;
}

static void test_one_of_several_stalls(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), ANSWER("\"well\""), STALL, END
    };
    static const Step script_stalled[] = {
        GREET, HEAR("query-status"), STALL, END
    };
    Peer *peers[3] = {
        peer_new("a", script), peer_new("b", script_stalled),
        peer_new("c", script),
    };
    Several several = { .number = 3 };
    GError *why = NULL;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        several.qmps[i] = ctl_qmp_open(peers[i]->endpoint);
        ctl_qmp_ask(several.qmps[i], "query-status", NULL);
    }
    /* The others first, so that it does not depend on the machine */
    for (size_t i = 0; i < 3; i += 2) {
        assert_true(ctl_wait(has_answer, several.qmps[i], late(), NULL));
    }
    assert_ready(several.qmps[1]);
    assert_false(ctl_wait(all_have_answers, &several, soon(), &why));
    for (size_t i = 0; i < 3; i++) {
        g_autoptr(CtlJson) answered = NULL;
        GError *err = NULL;

        if (!ctl_qmp_has_answer(several.qmps[i])) {
            ctl_qmp_give_up(several.qmps[i], why);
        }
        answered = ctl_qmp_take_answer(several.qmps[i], &err);
        if (i == 1) {
            assert_null(answered);
            assert_error(err, peers[i]->endpoint, CTL_ERROR_TIMEOUT,
                         "no answer to query-status");
        } else {
            assert_string_equal(ctl_json_text(answered, NULL, ""), "well");
        }
        ctl_qmp_close(several.qmps[i]);
        peer_end(peers[i]);
    }
    g_error_free(why);
}

/* An answer that came is not lost because others are waited for, and its
 * QEMU ends meanwhile. */
static void test_answer_waits_for_others(void **state)
{
    static const Step script_ends[] = {
        GREET, HEAR("quit"), ANSWER("\"bye\""), END
    };
    static const Step script_late[] = {
        GREET, HEAR("quit"), AWAIT, ANSWER("\"bye\""), STALL, END
    };
    Peer *peers[2] = { peer_new("a", script_ends), peer_new("b", script_late) };
    Several several = { .number = 2 };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        several.qmps[i] = ctl_qmp_open(peers[i]->endpoint);
        ctl_qmp_ask(several.qmps[i], "quit", NULL);
    }
    assert_true(ctl_wait(has_answer, several.qmps[0], late(), NULL));
    /* Now its end is there for sure, and is looked at. */
    peer_join(peers[0]);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    peer_let_go(peers[1]);
    assert_true(ctl_wait(all_have_answers, &several, late(), NULL));
    for (size_t i = 0; i < 2; i++) {
        g_autoptr(CtlJson) answered = NULL;
        GError *err = NULL;

        answered = ctl_qmp_take_answer(several.qmps[i], &err);
        if (err) {
            fail_msg("%s", err->message);
        }
        assert_string_equal(ctl_json_text(answered, NULL, ""), "bye");
        ctl_qmp_close(several.qmps[i]);
    }
    peer_end(peers[0]);
    peer_end(peers[1]);
}

/* ---- Pairs --------------------------------------------------------------- */

#define INFO(role, state) \
    "{\"role\": \"" role "\", \"state\": \"" state "\"}"

#define SAYS_AGAIN(status, info) \
    HEAR("query-status"), ANSWER("{\"status\": \"" status "\"}"), \
    HEAR("query-curling"), ANSWER(info)
#define END_SAYS(status, info) GREET, SAYS_AGAIN(status, info)

static const Step script_sender[] = {
    END_SAYS("running", INFO("sender", "protected")), STALL, END
};
static const Step script_receiver[] = {
    END_SAYS("inmigrate", INFO("receiver", "standby")), STALL, END
};
static const Step script_silent[] = { STALL, END };

static CtlPair *pair_of(const CtlEndpoint *sender, const CtlEndpoint *receiver)
{
    GError *err = NULL;
    CtlPair *pair;

    ctl_sender_option = sender->text;
    ctl_receiver_option = receiver->text;
    pair = ctl_pair_find(NULL, &err);
    ctl_sender_option = NULL;
    ctl_receiver_option = NULL;
    assert_null(err);
    return pair;
}

static void test_pair(void **state)
{
    Peer *sender = peer_new("a", script_sender);
    Peer *receiver = peer_new("b", script_receiver);
    g_autoptr(CtlPair) pair = pair_of(sender->endpoint, receiver->endpoint);
    GError *err = NULL;

    (void)state;
    assert_true(ctl_pair_ask(pair, late(), &err));
    assert_true(ctl_pair_need_both(pair, &err));
    assert_string_equal(ctl_end_state(ctl_pair_sender(pair)), "protected");
    assert_string_equal(ctl_end_role(ctl_pair_receiver(pair)), "receiver");
    assert_string_equal(ctl_json_text(pair->ends[1].status, "status", ""),
                        "inmigrate");
    assert_false(pair->swapped);
    assert_int_equal(ctl_pair_verdict(pair, NULL), CTL_VERDICT_PROTECTED);
    assert_true(ctl_qmp_is_ready(pair->ends[0].qmp));
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(sender);
    peer_end(receiver);
}

/* They stay connected, and what is asked next is asked there, until they are
 * closed. */
static void test_pair_again_and_again(void **state)
{
    static const Step script[] = {
        END_SAYS("running", INFO("sender", "syncing")),
        SAYS_AGAIN("running", INFO("sender", "protected")),
        SAYS_AGAIN("running", INFO("sender", "unprotected")), STALL, NEXT,
        END_SAYS("running", INFO("sender", "stopped")), STALL, END
    };
    static const char *const states[] = {
        "syncing", "protected", "unprotected", "stopped",
    };
    Peer *sender = peer_new("a", script);
    Peer *receiver = peer_new("b", script);
    g_autoptr(CtlPair) pair = pair_of(sender->endpoint, receiver->endpoint);

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
        assert_true(ctl_pair_ask(pair, late(), NULL));
        assert_string_equal(ctl_end_state(&pair->ends[0]), states[i]);
        assert_string_equal(ctl_end_state(&pair->ends[1]), states[i]);
        if (i >= 2) {
            ctl_pair_close(pair);
            assert_null(pair->ends[0].qmp);
            assert_null(pair->ends[1].qmp);
        }
    }
    peer_end(sender);
    peer_end(receiver);
}

/* One of four stalls: the others are heard, and it alone has an error.  All
 * are closed, so that others get their turn, and connected anew for the next
 * question. */
static void test_one_end_stalls(void **state)
{
    static const Step script[] = {
        END_SAYS("running", INFO("sender", "protected")), STALL, NEXT,
        END_SAYS("running", INFO("sender", "protected")), STALL, END
    };
    static const Step script_stalls[] = {
        GREET, HEAR("query-status"), ANSWER("{\"status\": \"running\"}"),
        HEAR("query-curling"), STALL, NEXT,
        END_SAYS("running", INFO("sender", "protected")), STALL, END
    };
    Peer *peers[4] = {
        peer_new("a", script), peer_new("b", script),
        peer_new("c", script_stalls), peer_new("d", script),
    };
    CtlPair *pairs[2] = {
        pair_of(peers[0]->endpoint, peers[1]->endpoint),
        pair_of(peers[2]->endpoint, peers[3]->endpoint),
    };
    int64_t began = g_get_monotonic_time();
    GError *err = NULL;

    (void)state;
    /* More than soon(): four of them have something to say. */
    assert_true(ctl_pair_ask_all(pairs, 2, ctl_deadline_in(1000), &err));
    assert_null(err);
    assert_soon(began);
    for (size_t i = 0; i < 4; i++) {
        CtlEnd *end = &pairs[i / 2]->ends[i % 2];

        assert_int_equal(!end->info, i == 2);
        assert_int_equal(!end->error, i != 2);
        assert_non_null(end->status);
        assert_null(end->qmp);
    }
    assert_false(ctl_pair_need_both(pairs[1], &err));
    assert_error(err, peers[2]->endpoint, CTL_ERROR_TIMEOUT,
                 "no answer to query-curling");
    err = NULL;
    assert_true(ctl_pair_ask_all(pairs, 2, late(), &err));
    for (size_t i = 0; i < 2; i++) {
        assert_true(ctl_pair_need_both(pairs[i], &err));
        ctl_pair_free(pairs[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        peer_end(peers[i]);
    }
}

/* Who asks for one of them does not wait for the other, which is silent; the
 * next question goes to a new connection there. */
static void test_one_is_wanted(void **state)
{
    static const struct {
        CtlWanted wanted;
        Step steps[9];
    } cases[] = {
        { CTL_WANT_SENDER,
          { END_SAYS("running", INFO("sender", "unprotected")), STALL, END } },
        { CTL_WANT_RECEIVER,
          { END_SAYS("inmigrate", INFO("receiver", "suspect")), STALL, END } },
        { CTL_WANT_RECEIVER,
          { END_SAYS("inmigrate", INFO("receiver", "standby")), STALL, END } },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases) * 2; i++) {
        Peer *peer = peer_new("a", cases[i / 2].steps);
        Peer *silent = peer_new("b", script_silent);
        bool is_first = i % 2;
        g_autoptr(CtlPair) pair = is_first ?
            pair_of(peer->endpoint, silent->endpoint) :
            pair_of(silent->endpoint, peer->endpoint);
        CtlEnd *end = &pair->ends[!is_first];
        CtlEnd *other = &pair->ends[is_first];
        CtlWanted wanted = cases[i / 2].wanted;
        GError *err = NULL;

        assert_true(ctl_pair_ask_for(pair, wanted, CTL_NEVER, &err));
        assert_true(ctl_end_need(end, &err));
        assert_ptr_equal(wanted == CTL_WANT_SENDER ? ctl_pair_sender(pair) :
                         ctl_pair_receiver(pair), end);
        assert_false(ctl_end_need(other, &err));
        assert_error(err, silent->endpoint, CTL_ERROR_TIMEOUT,
                     "no answer yet");
        ctl_pair_free(g_steal_pointer(&pair));
        peer_end(peer);
        peer_end(silent);
    }
}

/* Both have to say it where neither is what is wanted. */
static void test_none_is_wanted(void **state)
{
    static const Step script[] = {
        END_SAYS("running", INFO("none", "idle")), STALL, END
    };
    Peer *first = peer_new("a", script);
    Peer *second = peer_new("b", script);
    g_autoptr(CtlPair) pair = pair_of(first->endpoint, second->endpoint);
    GError *err = NULL;

    (void)state;
    assert_true(ctl_pair_ask_for(pair, CTL_WANT_RECEIVER, late(), &err));
    assert_true(ctl_pair_need_both(pair, &err));
    assert_false(pair->swapped);
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(first);
    peer_end(second);
}

static bool is_protected(CtlEnd *end, void *opaque, GError **err)
{
    int *looks = opaque;

    (*looks)++;
    if (g_str_equal(ctl_end_state(end), "failed")) {
        g_set_error_literal(err, CTL_ERROR, CTL_ERROR_FAILED, "it failed");
    }
    return g_str_equal(ctl_end_state(end), "protected");
}

static void check_end_wait(const Step *script, bool stay_open, int looks,
                           int code)
{
    Peer *peer = peer_new("a", script);
    g_autoptr(CtlEndpoint) nobody = endpoint_of("unix:/");
    g_autoptr(CtlPair) pair = pair_of(peer->endpoint, nobody);
    GError *err = NULL;
    int seen = 0;

    assert_int_equal(ctl_end_wait(&pair->ends[0], is_protected, &seen,
                                  stay_open, late(), &err), code < 0);
    assert_int_equal(!err, code < 0);
    assert_true(!err || g_error_matches(err, CTL_ERROR, code));
    g_clear_error(&err);
    assert_int_equal(seen, looks);
    assert_int_equal(!pair->ends[0].qmp, !stay_open);
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(peer);
}

static void test_end_that_is_waited_for(void **state)
{
    static const Step stays[] = {
        END_SAYS("running", INFO("sender", "connecting")),
        SAYS_AGAIN("running", INFO("sender", "syncing")),
        SAYS_AGAIN("running", INFO("sender", "protected")), STALL, END
    };
    static const Step comes_again[] = {
        END_SAYS("running", INFO("sender", "connecting")), STALL, NEXT,
        END_SAYS("running", INFO("sender", "protected")), STALL, END
    };
    static const Step is_lost[] = {
        END_SAYS("running", INFO("sender", "connecting")), NEXT,
        GREET, NEXT, END_SAYS("running", INFO("sender", "protected")), STALL,
        END
    };
    static const Step fails[] = {
        END_SAYS("running", INFO("sender", "connecting")),
        SAYS_AGAIN("running", INFO("sender", "failed")), STALL, END
    };

    (void)state;
    check_end_wait(stays, true, 3, -1);
    check_end_wait(comes_again, false, 2, -1);
    check_end_wait(is_lost, false, 3, -1);
    check_end_wait(fails, true, 2, CTL_ERROR_FAILED);
}

static void test_end_that_is_waited_for_too_long(void **state)
{
    static const Step script[] = {
        END_SAYS("running", INFO("sender", "connecting")), STALL, END
    };
    Peer *peer = peer_new("a", script);
    g_autoptr(CtlEndpoint) nobody = endpoint_of("unix:/");
    g_autoptr(CtlPair) pair = pair_of(peer->endpoint, nobody);
    int64_t began = g_get_monotonic_time();
    GError *err = NULL;
    int seen = 0;

    (void)state;
    /* More than soon(): an answer is to come before that. */
    assert_false(ctl_end_wait(&pair->ends[0], is_protected, &seen, true,
                              ctl_deadline_in(1000), &err));
    assert_soon(began);
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_TIMEOUT));
    g_error_free(err);
    assert_true(seen >= 1);
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(peer);
}

static void test_pair_without_curling(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), ANSWER("{\"status\": \"running\"}"),
        HEAR("query-curling"), REFUSE("{\"class\": \"CommandNotFound\", "
                                      "\"desc\": \"not found\"}"), STALL, END
    };
    Peer *sender = peer_new("a", script);
    Peer *receiver = peer_new("b", script_receiver);
    g_autoptr(CtlPair) pair = pair_of(sender->endpoint, receiver->endpoint);
    g_autofree char *why = NULL;
    GError *err = NULL;

    (void)state;
    assert_true(ctl_pair_ask(pair, late(), &err));
    assert_false(ctl_pair_need_both(pair, &err));
    assert_error(err, sender->endpoint, CTL_ERROR_NO_COMMAND,
                 "this QEMU has no Curling");
    assert_int_equal(ctl_pair_verdict(pair, &why), CTL_VERDICT_UNPROTECTED);
    assert_contains(why, "this QEMU has no Curling");
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(sender);
    peer_end(receiver);
}

static void test_interrupt_while_a_pair_is_asked(void **state)
{
    static const Step script[] = {
        GREET, HEAR("query-status"), SIGNAL, STALL, END
    };
    Peer *sender = peer_new("a", script);
    Peer *receiver = peer_new("b", script_silent);
    g_autoptr(CtlPair) pair = pair_of(sender->endpoint, receiver->endpoint);
    GError *err = NULL;

    (void)state;
    ctl_interrupt_init();
    assert_false(ctl_pair_ask(pair, CTL_NEVER, &err));
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_INTERRUPTED));
    g_error_free(err);
    ctl_interrupt_clear();
    ctl_interrupt_end();
    for (int i = 0; i < 2; i++) {
        assert_true(g_error_matches(pair->ends[i].error, CTL_ERROR,
                                    CTL_ERROR_INTERRUPTED));
    }
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(sender);
    peer_end(receiver);
}

typedef struct Roles {
    const char *name;
    Step first[8];              /* of the one that is called sender */
    Step second[8];
    bool swapped;
    CtlVerdict verdict;
    const char *part;           /* of the reason; NULL: none */
} Roles;

static const Roles roles[] = {
    { "as they are called",
      { END_SAYS("running", INFO("sender", "protected")), END },
      { END_SAYS("inmigrate", INFO("receiver", "standby")), END },
      false, CTL_VERDICT_PROTECTED, NULL },
    { "nobody is anything",
      { END_SAYS("running", INFO("none", "idle")), END },
      { END_SAYS("inmigrate", INFO("none", "idle")), END },
      false, CTL_VERDICT_UNPROTECTED, "nobody protects this guest yet" },
    { "after a takeover",
      { END_SAYS("paused", INFO("sender", "fenced")), END },
      { END_SAYS("running", INFO("receiver", "active")), END },
      false, CTL_VERDICT_FAILED_OVER, "took over" },
    { "after a takeover, the sender is gone", { END },
      { END_SAYS("running", INFO("receiver", "active")), END },
      false, CTL_VERDICT_FAILED_OVER, "took over" },
    { "a new receiver in the old one's place",
      { END_SAYS("inmigrate", INFO("none", "idle")), END },
      { END_SAYS("running", INFO("receiver", "active")), END },
      true, CTL_VERDICT_FAILED_OVER, "nobody protects it yet" },
    { "a new receiver that listens",
      { END_SAYS("inmigrate", INFO("receiver", "listening")), END },
      { END_SAYS("running", INFO("receiver", "active")), END },
      true, CTL_VERDICT_FAILED_OVER, "nobody protects it yet" },
    { "the other way round",
      { END_SAYS("inmigrate", INFO("receiver", "syncing")), END },
      { END_SAYS("running", INFO("sender", "syncing")), END },
      true, CTL_VERDICT_SYNCING, NULL },
    { "the other way round, protected",
      { END_SAYS("inmigrate", INFO("receiver", "standby")), END },
      { END_SAYS("running", INFO("sender", "protected")), END },
      true, CTL_VERDICT_PROTECTED, NULL },
    { "the other way round, the receiver is gone", { END },
      { END_SAYS("running", INFO("sender", "unprotected")), END },
      true, CTL_VERDICT_UNPROTECTED, "goes on trying" },
    /* The one that is called sender says what it is: a receiver, which does
     * not hear its sender. */
    { "the other way round, the sender is gone",
      { END_SAYS("inmigrate", INFO("receiver", "suspect")), END }, { END },
      true, CTL_VERDICT_UNPROTECTED, "curlingctl failover" },
    { "the other way round, the sender does not answer",
      { END_SAYS("inmigrate", INFO("receiver", "standby")), END }, { END },
      true, CTL_VERDICT_UNKNOWN, "" },
    { "the other way round, nothing to start, the sender is gone",
      { END_SAYS("inmigrate", INFO("receiver", "listening")), END }, { END },
      true, CTL_VERDICT_UNPROTECTED, "could start (listening)" },
    { "the other way round, it cannot be loaded, the sender is gone",
      { END_SAYS("inmigrate", INFO("receiver", "failed")), END }, { END },
      true, CTL_VERDICT_UNPROTECTED, "could start (failed)" },
    { "the other way round, half a round, the sender is gone",
      { END_SAYS("inmigrate", INFO("receiver", "syncing")), END }, { END },
      true, CTL_VERDICT_UNKNOWN, "" },
    { "the other way round, the receiver took over",
      { END_SAYS("running", INFO("receiver", "active")), END },
      { END_SAYS("paused", INFO("sender", "fenced")), END },
      true, CTL_VERDICT_FAILED_OVER, "took over" },
    /* It runs the guest, whatever it is called: it is the next sender. */
    { "the other way round, the receiver took over, the sender is gone",
      { END_SAYS("running", INFO("receiver", "active")), END }, { END },
      false, CTL_VERDICT_FAILED_OVER, "nobody protects it yet" },
    { "and back: a new receiver",
      { END_SAYS("running", INFO("receiver", "active")), END },
      { END_SAYS("inmigrate", INFO("receiver", "listening")), END },
      false, CTL_VERDICT_FAILED_OVER, "nobody protects it yet" },
    { "both are gone", { END }, { END }, false, CTL_VERDICT_UNKNOWN, "" },
};

/* Returns whether it is as expected. */
static bool check_roles(const Roles *r)
{
    Peer *first = peer_new("a", r->first);
    Peer *second = peer_new("b", r->second);
    g_autoptr(CtlPair) pair = pair_of(first->endpoint, second->endpoint);
    g_autofree char *why = NULL;
    CtlVerdict verdict;
    bool right;

    assert_true(ctl_pair_ask(pair, late(), NULL));
    verdict = ctl_pair_verdict(pair, &why);
    right = pair->swapped == r->swapped && verdict == r->verdict &&
            !r->part == !why && (!why || strstr(why, r->part));
    if (!right) {
        print_error("%s: swapped %d, %s: %s\n", r->name, pair->swapped,
                    ctl_verdict_word(verdict), why ? why : "(nothing)");
    }
    ctl_pair_free(g_steal_pointer(&pair));
    peer_end(first);
    peer_end(second);
    return right;
}

static void test_roles(void **state)
{
    unsigned int wrong = 0;

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++) {
        wrong += !check_roles(&roles[i]);
    }
    assert_int_equal(wrong, 0);
}

/* ---- Frame --------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    alarm(120);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    alarm(0);
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    folder = g_dir_make_tmp("test-ctl-qmp-XXXXXX", NULL);
    return folder ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    g_rmdir(folder);
    g_free(folder);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_greeting_and_answers),
        CASE(test_greeting_and_answers_over_tcp),
        CASE(test_question_before_the_greeting),
        CASE(test_arguments_arrive),
        CASE(test_events_in_between),
        CASE(test_events_that_nobody_wants),
        CASE(test_event_with_a_large_number),
        CASE(test_pretty_printed),
        CASE(test_octet_by_octet),
        CASE(test_refusals),
        CASE(test_failures),
        CASE(test_failures_over_tcp),
        CASE(test_nothing_is_left_open),
        CASE(test_answer_and_then_the_end),
        CASE(test_4_mb),
        CASE(test_deep_nesting),
        CASE(test_no_greeting),
        CASE(test_no_answer),
        CASE(test_half_an_answer),
        CASE(test_no_end_of_events),
        CASE(test_deadline_that_has_passed),
        CASE(test_waiting),
        CASE(test_no_socket),
        CASE(test_nobody_listens),
        CASE(test_socket_of_datagrams),
        CASE(test_no_permission),
        CASE(test_full_queue),
        CASE(test_full_queue_that_empties),
        CASE(test_no_connection_over_tcp),
        CASE(test_close_at_any_time),
        CASE(test_interrupt),
        CASE(test_one_of_several_stalls),
        CASE(test_answer_waits_for_others),
        CASE(test_pair),
        CASE(test_pair_again_and_again),
        CASE(test_one_end_stalls),
        CASE(test_one_is_wanted),
        CASE(test_none_is_wanted),
        CASE(test_end_that_is_waited_for),
        CASE(test_end_that_is_waited_for_too_long),
        CASE(test_pair_without_curling),
        CASE(test_interrupt_while_a_pair_is_asked),
        CASE(test_roles),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
