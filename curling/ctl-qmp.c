/*
 * Questions to a QEMU over QMP, and its answers
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "ctl-qmp.h"
#include "ctl-reader.h"

typedef enum QmpState {
    QMP_CONNECTING,
    QMP_GREETING,               /* connected; QEMU is to greet */
    QMP_NEGOTIATING,            /* qmp_capabilities is under way */
    QMP_READY,
    QMP_FAILED,
} QmpState;

struct CtlQmp {
    const CtlEndpoint *endpoint;
    CtlLink *link;
    QmpState state;
    int fd;
    guint in;                   /* sources of the main loop */
    guint out;
    CtlReader *reader;
    GString *unsent;
    char *question;             /* the command that is under way */
    GString *early;             /* its text, before QEMU takes commands */
    int64_t last_id;            /* its number; 0 is qmp_capabilities */
    CtlJson *answer;            /* to it */
    CtlJson *greeting;
    CtlQmpEvent *event;
    void *event_opaque;
    GError *error;              /* of QMP_FAILED */
};

static void fail(CtlQmp *qmp, CtlErrorCode code, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

static void fail(CtlQmp *qmp, CtlErrorCode code, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (qmp->state == QMP_FAILED) {
        return;
    }
    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    qmp->error = g_error_new(CTL_ERROR, code, "%s: %s", qmp->endpoint->text,
                             text);
    qmp->state = QMP_FAILED;
    if (code == CTL_ERROR_BAD_PEER) {
        /* Nor was what it said before an answer. */
        ctl_json_free(qmp->answer);
        qmp->answer = NULL;
    }
    g_clear_handle_id(&qmp->in, g_source_remove);
    g_clear_handle_id(&qmp->out, g_source_remove);
}

/* ---- Sending ------------------------------------------------------------ */

static gboolean write_out(gint fd, GIOCondition condition, gpointer opaque)
{
    CtlQmp *qmp = opaque;
    ssize_t sent = send(fd, qmp->unsent->str, qmp->unsent->len, MSG_NOSIGNAL);

    (void)condition;
    if (sent >= 0) {
        g_string_erase(qmp->unsent, 0, sent);
    } else if (errno != EAGAIN && errno != EINTR && errno != EPIPE) {
        /* Of a closed one, the reading side knows more. */
        fail(qmp, CTL_ERROR_LOST, "%s", g_strerror(errno));
        return G_SOURCE_REMOVE;
    }
    if (qmp->unsent->len == 0 || (sent < 0 && errno == EPIPE)) {
        qmp->out = 0;
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void send_out(CtlQmp *qmp, const char *text)
{
    g_string_append(qmp->unsent, text);
    if (!qmp->out) {
        qmp->out = g_unix_fd_add(qmp->fd, G_IO_OUT, write_out, qmp);
    }
}

/* A line; @arguments are taken.  Freed by the caller. */
static char *question_text(const char *command, CtlJson *arguments, int64_t id)
{
    g_autoptr(CtlJson) question = ctl_json_new("{s:s, s:I}", "execute",
                                               command, "id", (long long)id);
    g_autofree char *text = NULL;

    if (arguments) {
        ctl_json_set(question, "arguments", arguments);
    }
    text = ctl_json_dump(question);
    return g_strconcat(text, "\n", NULL);
}

void ctl_qmp_ask(CtlQmp *qmp, const char *command, CtlJson *arguments)
{
    g_autofree char *text = question_text(command, arguments, ++qmp->last_id);

    g_free(qmp->question);
    qmp->question = g_strdup(command);
    ctl_json_free(qmp->answer);
    qmp->answer = NULL;
    if (qmp->state == QMP_READY) {
        send_out(qmp, text);
    } else {
        g_string_assign(qmp->early, text);
    }
}

/* ---- Hearing ------------------------------------------------------------ */

static void hear_greeting(CtlQmp *qmp, CtlJson *said)
{
    g_autofree char *text = NULL;

    if (!ctl_json_get(said, "QMP.version")) {
        fail(qmp, CTL_ERROR_BAD_PEER, "this is no QMP socket: its first word "
             "is not QEMU's greeting");
        return;
    }
    qmp->greeting = ctl_json_ref(ctl_json_get(said, "QMP"));
    qmp->state = QMP_NEGOTIATING;
    text = question_text("qmp_capabilities", NULL, 0);
    send_out(qmp, text);
}

static void hear_answer(CtlQmp *qmp, CtlJson *said)
{
    bool is_error = ctl_json_get(said, "error");
    int64_t id = ctl_json_int(said, "id", -1);

    if (!is_error && !ctl_json_get(said, "return")) {
        fail(qmp, CTL_ERROR_BAD_PEER, "it said something that is neither an "
             "answer nor an event; is this QEMU's QMP socket?");
    } else if (qmp->state == QMP_NEGOTIATING && id == 0 && !is_error) {
        qmp->state = QMP_READY;
        send_out(qmp, qmp->early->str);
    } else if (qmp->state == QMP_READY && id == qmp->last_id && !qmp->answer) {
        qmp->answer = ctl_json_ref(said);
    } else {
        fail(qmp, CTL_ERROR_BAD_PEER, "it gave an answer that nobody asked "
             "for; is this QEMU's QMP socket?");
    }
}

static void hear(CtlQmp *qmp, CtlJson *said)
{
    if (qmp->state == QMP_GREETING) {
        hear_greeting(qmp, said);
    } else if (!ctl_json_get(said, "event")) {
        hear_answer(qmp, said);
    } else if (qmp->event) {
        qmp->event(said, qmp->event_opaque);
    }
}

static void hear_all(CtlQmp *qmp)
{
    while (qmp->state != QMP_FAILED) {
        GError *why = NULL;
        size_t len;
        const char *text = ctl_reader_next(qmp->reader, &len, &why);
        g_autoptr(CtlJson) said = NULL;

        if (text) {
            said = ctl_json_parse(text, len, &why);
        }
        if (why) {
            fail(qmp, CTL_ERROR_BAD_PEER, "%s: %s", qmp->state == QMP_READY ?
                 "what it says cannot be understood" :
                 "this is no QMP socket", why->message);
            g_error_free(why);
        }
        if (!said) {
            return;
        }
        hear(qmp, said);
    }
}

/* The other side has closed. */
static void hear_end(CtlQmp *qmp)
{
    g_autofree char *words = ctl_link_last_words(qmp->link);

    if (words) {
        fail(qmp, CTL_ERROR_LOST, "%s", words);
    } else if (ctl_reader_is_inside(qmp->reader)) {
        fail(qmp, CTL_ERROR_LOST, "the connection was closed in the middle of "
             "an answer");
    } else if (qmp->state == QMP_GREETING) {
        fail(qmp, CTL_ERROR_LOST, "the connection was closed before QEMU "
             "greeted; is this a QMP socket?");
    } else {
        fail(qmp, CTL_ERROR_LOST, "QEMU has closed the connection, or has "
             "ended");
    }
}

static gboolean read_in(gint fd, GIOCondition condition, gpointer opaque)
{
    CtlQmp *qmp = opaque;
    char bytes[65536];
    ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

    (void)condition;
    if (got > 0) {
        ctl_reader_feed(qmp->reader, bytes, got);
        hear_all(qmp);
    } else if (got == 0 || errno == ECONNRESET) {
        hear_end(qmp);
    } else if (errno != EAGAIN && errno != EINTR) {
        fail(qmp, CTL_ERROR_LOST, "%s", g_strerror(errno));
    }
    /* fail() has removed this source already. */
    return G_SOURCE_CONTINUE;
}

/* ---- Its life ----------------------------------------------------------- */

CtlQmp *ctl_qmp_open(const CtlEndpoint *endpoint)
{
    CtlQmp *qmp = g_new0(CtlQmp, 1);

    qmp->endpoint = endpoint;
    qmp->reader = ctl_reader_new();
    qmp->unsent = g_string_new(NULL);
    qmp->early = g_string_new(NULL);
    qmp->link = ctl_link_open(endpoint);
    return qmp;
}

void ctl_qmp_close(CtlQmp *qmp)
{
    if (!qmp) {
        return;
    }
    g_clear_handle_id(&qmp->in, g_source_remove);
    g_clear_handle_id(&qmp->out, g_source_remove);
    ctl_link_close(qmp->link);
    ctl_reader_free(qmp->reader);
    g_string_free(qmp->unsent, TRUE);
    g_string_free(qmp->early, TRUE);
    g_free(qmp->question);
    ctl_json_free(qmp->answer);
    ctl_json_free(qmp->greeting);
    g_clear_error(&qmp->error);
    g_free(qmp);
}

/* Did the connection come about meanwhile? */
static void look_at_link(CtlQmp *qmp)
{
    GError *why = NULL;

    if (qmp->state != QMP_CONNECTING) {
        return;
    }
    qmp->fd = ctl_link_fd(qmp->link, &why);
    if (why) {
        qmp->error = why;
        qmp->state = QMP_FAILED;
    } else if (qmp->fd >= 0) {
        qmp->state = QMP_GREETING;
        qmp->in = g_unix_fd_add(qmp->fd, G_IO_IN | G_IO_HUP, read_in, qmp);
    }
}

static bool is_ready_or_failed(void *opaque)
{
    CtlQmp *qmp = opaque;

    look_at_link(qmp);
    return qmp->state == QMP_READY || qmp->state == QMP_FAILED;
}

bool ctl_qmp_is_ready(CtlQmp *qmp)
{
    return is_ready_or_failed(qmp) && qmp->state == QMP_READY;
}

bool ctl_qmp_has_answer(CtlQmp *qmp)
{
    return is_ready_or_failed(qmp) &&
           (qmp->answer || qmp->state == QMP_FAILED);
}

static bool has_answer(void *opaque)
{
    return ctl_qmp_has_answer(opaque);
}

bool ctl_qmp_has_failed(const CtlQmp *qmp, GError **err)
{
    if (qmp->state == QMP_FAILED) {
        g_propagate_error(err, g_error_copy(qmp->error));
        return true;
    }
    return false;
}

void ctl_qmp_give_up(CtlQmp *qmp, const GError *why)
{
    g_autofree char *delay = NULL;

    if (!g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
        fail(qmp, why->code, "%s", why->message);
        return;
    }
    switch (qmp->state) {
    case QMP_CONNECTING:
        delay = ctl_link_delay(qmp->link);
        fail(qmp, CTL_ERROR_TIMEOUT, "%s", delay);
        break;
    case QMP_GREETING:
    case QMP_NEGOTIATING:
        fail(qmp, CTL_ERROR_TIMEOUT, "no greeting: a QMP socket serves one "
             "client at a time, and another one may have it, or QEMU hangs; "
             "give curlingctl a -qmp socket of its own");
        break;
    case QMP_READY:
        fail(qmp, CTL_ERROR_TIMEOUT, "%s to %s: QEMU hangs, or needs more "
             "time (--timeout)", ctl_reader_is_inside(qmp->reader) ?
             "no end of the answer" : "no answer", qmp->question);
        break;
    case QMP_FAILED:
        break;
    }
}

static bool wait_for(CtlQmp *qmp, CtlCondition *condition,
                     CtlDeadline deadline, GError **err)
{
    GError *why = NULL;

    if (!ctl_wait(condition, qmp, deadline, &why)) {
        ctl_qmp_give_up(qmp, why);
        g_error_free(why);
    }
    return !ctl_qmp_has_failed(qmp, err);
}

bool ctl_qmp_wait_ready(CtlQmp *qmp, CtlDeadline deadline, GError **err)
{
    return wait_for(qmp, is_ready_or_failed, deadline, err);
}

const CtlJson *ctl_qmp_greeting(const CtlQmp *qmp)
{
    return qmp->greeting;
}

void ctl_qmp_on_event(CtlQmp *qmp, CtlQmpEvent *event, void *opaque)
{
    qmp->event = event;
    qmp->event_opaque = opaque;
}

CtlJson *ctl_qmp_take_answer(CtlQmp *qmp, GError **err)
{
    const CtlJson *error = ctl_json_get(qmp->answer, "error");
    g_autofree char *reason = NULL;
    bool unknown;

    /* One that came before the connection failed is one. */
    if (!qmp->answer) {
        ctl_qmp_has_failed(qmp, err);
        return NULL;
    }
    if (!error) {
        return ctl_json_ref(ctl_json_get(qmp->answer, "return"));
    }
    unknown = g_str_equal(ctl_json_text(error, "class", ""),
                          "CommandNotFound");
    reason = ctl_quote(ctl_json_text(error, "desc", "an error without words"),
                       500);
    g_set_error(err, CTL_ERROR, unknown ? CTL_ERROR_NO_COMMAND :
                CTL_ERROR_REFUSED, "%s: %s", qmp->endpoint->text, reason);
    return NULL;
}

CtlJson *ctl_qmp_call_json(CtlQmp *qmp, CtlDeadline deadline, GError **err,
                           const char *command, CtlJson *arguments)
{
    ctl_qmp_ask(qmp, command, arguments);
    wait_for(qmp, has_answer, deadline, NULL);
    return ctl_qmp_take_answer(qmp, err);
}

CtlJson *ctl_qmp_call(CtlQmp *qmp, CtlDeadline deadline, GError **err,
                      const char *command, const char *fmt, ...)
{
    CtlJson *arguments = NULL;
    va_list args;

    if (fmt) {
        va_start(args, fmt);
        arguments = ctl_json_new_list(fmt, args);
        va_end(args);
        if (!arguments) {
            g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "an argument of %s is "
                        "no UTF-8", command);
            return NULL;
        }
    }
    return ctl_qmp_call_json(qmp, deadline, err, command, arguments);
}
