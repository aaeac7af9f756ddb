/*
 * Commands on another host, over SSH
 *
 * Theory of operation.  A connection's thread logs in (ctl-sshlogin.c), step
 * by step, and then serves its channels in a loop around poll(), with libssh2
 * in non-blocking mode.  The main thread has one end of a socket pair for each
 * channel, the connection's thread the other:
 *
 *      main thread  <-- socket pair -->  thread  <-- libssh2 -->  sshd
 *
 * Either direction has one small buffer, which is filled again when it is
 * empty, so that who does not read makes the other side wait: through the SSH
 * channel's window there, through the socket pair here.
 *
 * All that both threads look at is under @lock, one of pthread's, as the thread
 * sanitizer cannot see glib's; the main loop is woken when there is something
 * new.  An object lives until both threads have let go.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ctl-ssh.h"
#include "ctl-sshlogin.h"

#define BUFFER_BYTES 32768
#define STDERR_BYTES 500        /* of which so much is kept, the last */
#define MAX_CHANNELS 8          /* of a connection: sshd opens 10 by default */
#define DEFAULT_TIMEOUT_MS 30000
/* From the end of a command's stdout to its own end, and from the end of its
 * stdin until the channel is closed over its head */
#define GRACE_MS 5000

/* What is on its way: it is filled again when all of it has gone. */
typedef struct Buffer {
    size_t at;
    size_t len;
    char bytes[BUFFER_BYTES];
} Buffer;

typedef enum State {
    STATE_OPENING,              /* the channel is asked for */
    STATE_STARTING,             /* the command is asked for */
    STATE_RUNNING,
    STATE_CLOSING,              /* the command has ended, or nobody reads */
    STATE_OVER,
} State;

typedef struct Connection Connection;

struct CtlSshChannel {
    /* Constant */
    Connection *connection;     /* owned: a reference */
    char *command;
    CtlDeadline deadline;       /* it is to run until then */

    /* Under @lock */
    unsigned int refs;
    int fd;                     /* the main thread's end; -1: none */
    GError *err;
    char *last_words;
    bool closed;                /* by ctl_ssh_close() */

    /* Only the connection's thread */
    State state;
    LIBSSH2_CHANNEL *channel;
    int local;                  /* our end */
    Buffer to_host;
    Buffer to_local;
    char stderr_tail[STDERR_BYTES + 1];
    size_t stderr_len;
    bool stderr_cut;
    bool local_eof;             /* nothing more comes from @local */
    bool eof_sent;
    bool unread;                /* nobody wants what the command says */
    bool abandoned;             /* nor the command itself */
    bool asked;                 /* for the command */
    CtlDeadline end_by;         /* with or without a last word */
};

struct Connection {
    /* Constant */
    char *user;                 /* these as given */
    char *host;
    int port;
    int timeout_ms;
    int wake_fd;                /* an eventfd: look at what is under @lock */
    GThread *thread;

    /* Under @lock */
    unsigned int refs;
    GPtrArray *requests;        /* channels that the thread has not seen yet */
    unsigned int n_channels;    /* with those */
    bool retired;               /* takes no more requests */
    bool ended;                 /* the thread does nothing any more */
    char *stage;                /* what it is doing */

    /* Only the thread */
    CtlSshLogin login;
    GPtrArray *channels;        /* a reference to each */
    CtlSshChannel *half_sent;   /* libssh2 has sent a part of its packet */
    bool is_stuck;              /* something waits until the socket is
                                   writable */
};

/* All that is said to be under @lock, of all connections: none is held for
 * longer than it takes to look. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Only the main thread: those whose thread was not seen to end.  A reference
 * each. */
static GPtrArray *connections;

/* ---- Objects ------------------------------------------------------------ */

static void connection_unref_locked(Connection *connection)
{
    if (--connection->refs == 0) {
        g_free(connection->user);
        g_free(connection->host);
        g_free(connection->stage);
        g_ptr_array_unref(connection->requests);
        g_ptr_array_unref(connection->channels);
        close(connection->wake_fd);
        g_free(connection);
    }
}

static void channel_unref_locked(CtlSshChannel *channel)
{
    if (--channel->refs == 0) {
        connection_unref_locked(channel->connection);
        g_free(channel->command);
        g_clear_error(&channel->err);
        g_free(channel->last_words);
        if (channel->local >= 0) {
            close(channel->local);
        }
        g_free(channel);
    }
}

static void wake_main(void)
{
    g_main_context_wakeup(NULL);
}

static void wake_thread(Connection *connection)
{
    uint64_t one = 1;

    /* It only fails if it was woken already, very often. */
    if (write(connection->wake_fd, &one, sizeof(one)) < 0) {
        g_assert(errno == EAGAIN);
    }
}

static void set_stage(void *opaque, const char *doing)
{
    Connection *connection = opaque;

    pthread_mutex_lock(&lock);
    g_free(connection->stage);
    connection->stage = g_strdup(doing);
    pthread_mutex_unlock(&lock);
}

/* ---- The end of a channel ----------------------------------------------- */

/* The main thread hears that the command will not run. */
static void refuse_locked(CtlSshChannel *channel, const char *why)
{
    if (!channel->err) {
        g_set_error_literal(&channel->err, CTL_ERROR, CTL_ERROR_LOST, why);
    }
    wake_main();
}

/* Nothing more comes from the command; @words (taken) may be NULL. */
static void finish(CtlSshChannel *channel, char *words)
{
    pthread_mutex_lock(&lock);
    g_free(channel->last_words);
    channel->last_words = words;
    pthread_mutex_unlock(&lock);
    /* Closed it would lose what the main thread has not read yet. */
    shutdown(channel->local, SHUT_RDWR);
    channel->local_eof = true;
    channel->unread = true;
    wake_main();
}

static void keep_stderr(CtlSshChannel *channel, const char *bytes, size_t len)
{
    size_t room = STDERR_BYTES - channel->stderr_len;

    if (len > STDERR_BYTES) {
        bytes += len - STDERR_BYTES;
        len = STDERR_BYTES;
        channel->stderr_cut = true;
    }
    if (len > room) {
        channel->stderr_len -= len - room;
        channel->stderr_cut = true;
        memmove(channel->stderr_tail, channel->stderr_tail + len - room,
                channel->stderr_len);
    }
    memcpy(channel->stderr_tail + channel->stderr_len, bytes, len);
    channel->stderr_len += len;
}

/* What was kept, without the line that lost its beginning: in one line. */
static char *stderr_words(CtlSshChannel *channel)
{
    char *begin = channel->stderr_tail;
    g_autofree char *joined = NULL;
    g_auto(GStrv) lines = NULL;

    for (size_t i = 0; i < channel->stderr_len; i++) {
        if (!channel->stderr_tail[i]) {
            channel->stderr_tail[i] = '?';
        }
    }
    channel->stderr_tail[channel->stderr_len] = 0;
    if (channel->stderr_cut && strchr(begin, '\n') &&
        strchr(begin, '\n')[1]) {
        begin = strchr(begin, '\n') + 1;
    }
    lines = g_strsplit_set(g_strstrip(begin), "\r\n", 0);
    joined = g_strjoinv("\n", lines);
    return ctl_quote(joined, STDERR_BYTES);
}

static char *exit_words(CtlSshChannel *channel)
{
    const char *host = channel->connection->host;
    LIBSSH2_SESSION *session = channel->connection->login.session;
    g_autofree char *name = NULL;
    char *signal_name = NULL;
    size_t len = 0;
    int status;

    libssh2_channel_get_exit_signal(channel->channel, &signal_name, &len,
                                    NULL, NULL, NULL, NULL);
    if (signal_name) {
        name = ctl_quote(signal_name, 20);
        libssh2_free(session, signal_name);
        return g_strdup_printf("the command was ended by SIG%s on %s", name,
                               host);
    }
    status = libssh2_channel_get_exit_status(channel->channel);
    return status ? g_strdup_printf("the command ended with status %d on %s",
                                    status, host) : NULL;
}

static char *last_words_of(CtlSshChannel *channel)
{
    char *words = stderr_words(channel);

    if (*words) {
        return words;
    }
    g_free(words);
    return exit_words(channel);
}

/* ---- What libssh2 is asked ---------------------------------------------- */

/*
 * libssh2 keeps what it could not send of a packet, and what it is asked next
 * has to be the same again.  Only the data of a channel are asked for so;
 * all else is small, and not begun before the socket has room for it.
 */
static bool may_call(Connection *connection)
{
    struct pollfd pfd = { .fd = connection->login.sock, .events = POLLOUT };

    if (!connection->half_sent && poll(&pfd, 1, 0) == 1) {
        errno = 0;              /* for lose() */
        return true;
    }
    connection->is_stuck = true;
    return false;
}

/* Does what libssh2 says concern the one channel only? */
static bool is_harmless(ssize_t ret)
{
    switch (ret) {
    case LIBSSH2_ERROR_CHANNEL_FAILURE:
    case LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED:
    case LIBSSH2_ERROR_CHANNEL_UNKNOWN:
    case LIBSSH2_ERROR_CHANNEL_WINDOW_EXCEEDED:
    case LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED:
    case LIBSSH2_ERROR_CHANNEL_CLOSED:
    case LIBSSH2_ERROR_CHANNEL_EOF_SENT:
        return true;
    }
    return ret >= 0 || ret == LIBSSH2_ERROR_EAGAIN;
}

/* The connection is lost; returns false, for the caller to return. */
static bool lose(Connection *connection, ssize_t ret, GError **err)
{
    int error = errno;
    bool on_socket = ret == LIBSSH2_ERROR_SOCKET_DISCONNECT ||
                     ret == LIBSSH2_ERROR_SOCKET_RECV ||
                     ret == LIBSSH2_ERROR_SOCKET_SEND;
    const char *why = NULL;
    char *text = NULL;

    if (on_socket) {
        why = error && error != EAGAIN ? g_strerror(error) :
              "the host closed it";
    } else {
        libssh2_session_last_error(connection->login.session, &text, NULL, 0);
        why = text && *text ? text : "no reason given";
    }
    g_set_error(err, CTL_ERROR, CTL_ERROR_LOST,
                "the SSH connection to %s was lost: %s", connection->host,
                why);
    return false;
}

/* ---- The steps of a channel --------------------------------------------- */

/*
 * Each of these does a little if it can be done now, and says in @moved
 * whether it did.  False: the connection is lost, @err says why.
 */
typedef bool Step(CtlSshChannel *channel, bool *moved, GError **err);

static void refuse(CtlSshChannel *channel, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static void refuse(CtlSshChannel *channel, const char *fmt, ...)
{
    va_list args;
    g_autofree char *why = NULL;

    va_start(args, fmt);
    why = g_strdup_vprintf(fmt, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    refuse_locked(channel, why);
    pthread_mutex_unlock(&lock);
}

static void retire(Connection *connection)
{
    pthread_mutex_lock(&lock);
    connection->retired = true;
    pthread_mutex_unlock(&lock);
}

/* libssh2 opens one channel at a time. */
static bool is_first_to_open(const CtlSshChannel *channel)
{
    const GPtrArray *all = channel->connection->channels;

    for (guint i = 0; i < all->len; i++) {
        const CtlSshChannel *other = all->pdata[i];

        if (other->state == STATE_OPENING) {
            return other == channel;
        }
    }
    return false;
}

static bool step_open(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    int ret;

    if (!is_first_to_open(channel) || !may_call(connection)) {
        return true;
    }
    channel->channel =
        libssh2_channel_open_session(connection->login.session);
    if (channel->channel) {
        channel->state = STATE_STARTING;
        *moved = true;
        return true;
    }
    ret = libssh2_session_last_errno(connection->login.session);
    if (ret == LIBSSH2_ERROR_EAGAIN) {
        return true;
    }
    if (!is_harmless(ret)) {
        return lose(connection, ret, err);
    }
    /* Another connection may still do. */
    retire(connection);
    refuse(channel, "%s opens no more sessions on this connection: raise "
           "MaxSessions in its sshd_config", connection->host);
    channel->state = STATE_OVER;
    *moved = true;
    return true;
}

/* The command runs: the main thread gets its end of a socket. */
static void begin_running(CtlSshChannel *channel)
{
    int fds[2];

    channel->state = STATE_RUNNING;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   fds)) {
        refuse(channel, "no socket for a command on %s: %s",
               channel->connection->host, g_strerror(errno));
        channel->state = STATE_CLOSING;
        return;
    }
    channel->local = fds[0];
    pthread_mutex_lock(&lock);
    if (channel->closed || channel->err) {
        close(fds[1]);
    } else {
        channel->fd = fds[1];
    }
    pthread_mutex_unlock(&lock);
    wake_main();
}

static bool step_start(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    int ret;

    if (!may_call(connection)) {
        return true;
    }
    if (channel->abandoned && !channel->asked) {
        channel->state = STATE_CLOSING;
        *moved = true;
        return true;
    }
    channel->asked = true;
    ret = libssh2_channel_exec(channel->channel, channel->command);
    if (ret == LIBSSH2_ERROR_EAGAIN) {
        return true;
    }
    *moved = true;
    if (!ret) {
        begin_running(channel);
    } else if (is_harmless(ret)) {
        refuse(channel, "%s lets %s run no command", connection->host,
               connection->login.conf->user);
        channel->state = STATE_CLOSING;
    } else {
        return lose(connection, ret, err);
    }
    return true;
}

static bool fill_to_host(CtlSshChannel *channel, bool *moved, GError **err)
{
    Buffer *buffer = &channel->to_host;
    ssize_t n;

    (void)err;
    if (channel->local_eof || buffer->len) {
        return true;
    }
    n = recv(channel->local, buffer->bytes, sizeof(buffer->bytes), 0);
    if (n > 0) {
        buffer->at = 0;
        buffer->len = n;
        *moved = true;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        channel->local_eof = true;
        *moved = true;
    }
    return true;
}

static bool drain_to_host(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    LIBSSH2_SESSION *session = connection->login.session;
    Buffer *buffer = &channel->to_host;
    ssize_t n;

    if (!buffer->len ||
        (connection->half_sent != channel && !may_call(connection))) {
        return true;
    }
    errno = 0;
    n = libssh2_channel_write(channel->channel, buffer->bytes + buffer->at,
                              buffer->len);
    connection->half_sent = NULL;
    if (n == LIBSSH2_ERROR_EAGAIN &&
        (libssh2_session_block_directions(session) &
         LIBSSH2_SESSION_BLOCK_OUTBOUND)) {
        connection->half_sent = channel;
        connection->is_stuck = true;
    } else if (n > 0) {
        buffer->at += n;
        buffer->len -= n;
        *moved = true;
    } else if (!is_harmless(n)) {
        return lose(connection, n, err);
    } else if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
        buffer->len = 0;        /* the command takes no more */
        channel->local_eof = true;
    }
    return true;
}

static bool end_to_host(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    int ret;

    if (!channel->local_eof || channel->to_host.len || channel->eof_sent ||
        !may_call(connection)) {
        return true;
    }
    ret = libssh2_channel_send_eof(channel->channel);
    if (ret == LIBSSH2_ERROR_EAGAIN) {
        return true;
    }
    channel->eof_sent = true;
    *moved = true;
    return is_harmless(ret) || lose(connection, ret, err);
}

static bool fill_to_local(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    Buffer *buffer = &channel->to_local;
    ssize_t n;

    if (buffer->len || !may_call(connection)) {
        return true;
    }
    n = libssh2_channel_read(channel->channel, buffer->bytes,
                             sizeof(buffer->bytes));
    if (n > 0) {
        buffer->at = 0;
        buffer->len = channel->unread ? 0 : n;
        *moved = true;
    }
    return is_harmless(n) || lose(connection, n, err);
}

static bool drain_to_local(CtlSshChannel *channel, bool *moved, GError **err)
{
    Buffer *buffer = &channel->to_local;
    ssize_t n;

    (void)err;
    if (!buffer->len) {
        return true;
    }
    n = send(channel->local, buffer->bytes + buffer->at, buffer->len,
             MSG_NOSIGNAL);
    if (n > 0) {
        buffer->at += n;
        buffer->len -= n;
        *moved = true;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        buffer->len = 0;
        channel->unread = true;
        *moved = true;
    }
    return true;
}

static bool read_stderr(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    char bytes[4096];
    ssize_t n;

    if (!may_call(connection)) {
        return true;
    }
    n = libssh2_channel_read_stderr(channel->channel, bytes, sizeof(bytes));
    if (n > 0) {
        keep_stderr(channel, bytes, n);
        *moved = true;
    }
    return is_harmless(n) || lose(connection, n, err);
}

/* Has the command ended, and was all that it said handed on?  Its exit status
 * comes after the end of its stdout, so that is waited for a little. */
static bool note_end(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    int64_t now = g_get_monotonic_time();
    int ret = LIBSSH2_ERROR_EAGAIN;

    if (channel->to_local.len || !libssh2_channel_eof(channel->channel)) {
        return true;
    }
    channel->end_by = MIN(channel->end_by, ctl_deadline_in(GRACE_MS));
    if (may_call(connection)) {
        ret = libssh2_channel_wait_closed(channel->channel);
    }
    if (!is_harmless(ret)) {
        return lose(connection, ret, err);
    }
    if (ret != LIBSSH2_ERROR_EAGAIN || now >= channel->end_by) {
        finish(channel, last_words_of(channel));
        channel->state = STATE_CLOSING;
        *moved = true;
    }
    return true;
}

static bool step_run(CtlSshChannel *channel, bool *moved, GError **err)
{
    static Step *const steps[] = {
        fill_to_host, drain_to_host, end_to_host, fill_to_local,
        drain_to_local, read_stderr, note_end,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (!steps[i](channel, moved, err)) {
            return false;
        }
    }
    /* Nobody wants it, and it has had its time to end by itself. */
    if (channel->state == STATE_RUNNING && channel->abandoned &&
        g_get_monotonic_time() >= channel->end_by) {
        channel->state = STATE_CLOSING;
        *moved = true;
    }
    return true;
}

static bool step_close(CtlSshChannel *channel, bool *moved, GError **err)
{
    Connection *connection = channel->connection;
    int ret;

    /* What is half sent has to be sent, whoever it was meant for. */
    if (connection->half_sent == channel) {
        return drain_to_host(channel, moved, err);
    }
    if (!may_call(connection)) {
        return true;
    }
    ret = libssh2_channel_free(channel->channel);
    if (ret == LIBSSH2_ERROR_EAGAIN) {
        return true;
    }
    channel->channel = NULL;
    channel->state = STATE_OVER;
    *moved = true;
    return is_harmless(ret) || lose(connection, ret, err);
}

static bool step(CtlSshChannel *channel, bool *moved, GError **err)
{
    switch (channel->state) {
    case STATE_OPENING:
        return step_open(channel, moved, err);
    case STATE_STARTING:
        return step_start(channel, moved, err);
    case STATE_RUNNING:
        return step_run(channel, moved, err);
    case STATE_CLOSING:
        return step_close(channel, moved, err);
    case STATE_OVER:
        return true;
    }
    g_assert_not_reached();
}

/* ---- A connection's loop ------------------------------------------------ */

/* Nobody wants the command any more: its stdin ends, and if it has not done so
 * itself by @end_by, it is left alone. */
static void abandon(CtlSshChannel *channel, CtlDeadline end_by)
{
    channel->abandoned = true;
    channel->unread = true;
    channel->to_local.len = 0;
    channel->end_by = MIN(channel->end_by, end_by);
}

/* Take what the main thread has asked for meanwhile. */
static void take_requests(Connection *connection)
{
    uint64_t count;

    if (read(connection->wake_fd, &count, sizeof(count)) < 0) {
        g_assert(errno == EAGAIN);
    }
    pthread_mutex_lock(&lock);
    for (guint i = 0; i < connection->requests->len; i++) {
        g_ptr_array_add(connection->channels, connection->requests->pdata[i]);
    }
    g_ptr_array_set_size(connection->requests, 0);
    for (guint i = 0; i < connection->channels->len; i++) {
        CtlSshChannel *channel = connection->channels->pdata[i];

        if (channel->closed && !channel->abandoned) {
            abandon(channel, ctl_deadline_in(GRACE_MS));
        }
    }
    pthread_mutex_unlock(&lock);
}

/* Who waits for a command that does not start hears of it.  What was asked of
 * the host cannot be taken back: it goes on, and nobody else is sent there. */
static void check_deadline(CtlSshChannel *channel, int64_t now)
{
    Connection *connection = channel->connection;

    if (channel->state > STATE_STARTING || now < channel->deadline ||
        channel->abandoned) {
        return;
    }
    retire(connection);
    refuse(channel, "%s took too long to start a command", connection->host);
    abandon(channel, now);
}

static void forget_over(Connection *connection)
{
    for (guint i = connection->channels->len; i-- > 0;) {
        CtlSshChannel *channel = connection->channels->pdata[i];

        if (channel->state == STATE_OVER) {
            g_ptr_array_remove_index(connection->channels, i);
            pthread_mutex_lock(&lock);
            connection->n_channels--;
            channel_unref_locked(channel);
            pthread_mutex_unlock(&lock);
        }
    }
}

/* A step of all channels. */
static bool step_all(Connection *connection, bool *moved, GError **err)
{
    int64_t now = g_get_monotonic_time();

    connection->is_stuck = false;
    for (guint i = 0; i < connection->channels->len; i++) {
        CtlSshChannel *channel = connection->channels->pdata[i];

        check_deadline(channel, now);
        if (!step(channel, moved, err)) {
            return false;
        }
    }
    forget_over(connection);
    return true;
}

/* When something has to be done even if nothing happens */
static CtlDeadline next_deadline(const Connection *connection)
{
    CtlDeadline next = CTL_NEVER;

    for (guint i = 0; i < connection->channels->len; i++) {
        const CtlSshChannel *channel = connection->channels->pdata[i];

        if (channel->state == STATE_RUNNING) {
            next = MIN(next, channel->end_by);
        } else if (channel->state < STATE_RUNNING && !channel->abandoned) {
            next = MIN(next, channel->deadline);
        }
    }
    return next;
}

static struct pollfd poll_local(const CtlSshChannel *channel)
{
    short events = 0;

    if (channel->state == STATE_RUNNING) {
        events |= !channel->local_eof && !channel->to_host.len ? POLLIN : 0;
        events |= channel->to_local.len ? POLLOUT : 0;
    }
    /* Without events, poll() would still return when it is closed. */
    return (struct pollfd) {
        .fd = events ? channel->local : -1, .events = events,
    };
}

/*
 * Until there is something to do.  Without a channel there is nobody to read
 * for, with libssh2, so then only the connection's end counts.  Returns false
 * when that has come.
 */
static bool wait_for_events(Connection *connection, bool moved, GError **err)
{
    guint n = connection->channels->len;
    g_autofree struct pollfd *fds = g_new(struct pollfd, n + 2);
    CtlDeadline next = next_deadline(connection);
    int64_t left_us = next - g_get_monotonic_time();
    int timeout_ms = moved || left_us <= 0 ? 0 : next == CTL_NEVER ? -1 :
                     MIN(left_us / 1000 + 1, INT_MAX);

    fds[0] = (struct pollfd) { .fd = connection->wake_fd, .events = POLLIN };
    fds[1] = (struct pollfd) {
        .fd = connection->login.sock,
        .events = n == 0 ? POLLRDHUP :
                  connection->is_stuck ? POLLOUT : POLLIN,
    };
    for (guint i = 0; i < n; i++) {
        fds[i + 2] = poll_local(connection->channels->pdata[i]);
    }
    ctl_sshlogin_rest();
    poll(fds, n + 2, timeout_ms);
    ctl_sshlogin_work();
    if (n == 0 && (fds[1].revents & (POLLRDHUP | POLLHUP | POLLERR))) {
        errno = 0;
        return lose(connection, LIBSSH2_ERROR_SOCKET_DISCONNECT, err);
    }
    return true;
}

static bool has_work(Connection *connection)
{
    bool retired;

    pthread_mutex_lock(&lock);
    retired = connection->retired && !connection->requests->len;
    pthread_mutex_unlock(&lock);
    return !retired || connection->channels->len;
}

/* Until the connection is lost: @err. */
static void serve(Connection *connection, GError **err)
{
    bool moved;

    set_stage(connection, "waiting for the command to start");
    do {
        moved = false;
        take_requests(connection);
    } while (step_all(connection, &moved, err) && has_work(connection) &&
             wait_for_events(connection, moved, err));
}

/* Everybody hears of the connection's end. */
static void bury(Connection *connection, const GError *err)
{
    const char *why = err ? err->message : "the SSH connection was closed";

    retire(connection);
    take_requests(connection);
    for (guint i = 0; i < connection->channels->len; i++) {
        CtlSshChannel *channel = connection->channels->pdata[i];

        if (channel->state < STATE_RUNNING) {
            refuse(channel, "%s", why);
        } else if (channel->state == STATE_RUNNING) {
            finish(channel, g_strdup(why));
        }
        channel->state = STATE_OVER;
        channel->channel = NULL;
    }
    forget_over(connection);
}

static void *connection_thread(void *opaque)
{
    Connection *connection = opaque;
    g_autoptr(GError) err = NULL;
    g_autoptr(CtlSshConf) conf = ctl_sshconf_read(g_get_home_dir(), NULL,
                                                  connection->host,
                                                  connection->user,
                                                  connection->port, &err);

    connection->login = (CtlSshLogin) {
        .host = connection->host,
        .conf = conf,
        .deadline = ctl_deadline_in(connection->timeout_ms),
        .stage = set_stage,
        .opaque = connection,
        .sock = -1,
    };
    ctl_sshlogin_work();
    if (conf && ctl_sshlogin(&connection->login, &err)) {
        serve(connection, &err);
    }
    bury(connection, err);
    ctl_sshlogin_end(&connection->login);
    pthread_mutex_lock(&lock);
    connection->ended = true;
    connection_unref_locked(connection);
    pthread_mutex_unlock(&lock);
    ctl_sshlogin_rest();
    return NULL;
}

/* ---- Connections -------------------------------------------------------- */

/* Signals are the main thread's, SIGPIPE of libssh2's agent nobody's. */
static bool start_thread(Connection *connection, GError **err)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    connection->thread = g_thread_try_new("ssh", connection_thread, connection,
                                          err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return connection->thread;
}

/* Forget those that have ended.  With a thread, OpenSSL clears away what it
 * had for it, so it has to be gone before OpenSSL is. */
static void forget_ended_locked(void)
{
    for (guint i = connections->len; i-- > 0;) {
        Connection *connection = connections->pdata[i];

        if (connection->ended) {
            g_thread_join(connection->thread);
            g_ptr_array_remove_index_fast(connections, i);
            connection_unref_locked(connection);
        }
    }
}

static void stop_all(void)
{
    ctl_sshlogin_stop();
    pthread_mutex_lock(&lock);
    forget_ended_locked();
    pthread_mutex_unlock(&lock);
}

static void init(void)
{
    connections = g_ptr_array_new();
    libssh2_init(0);
    /* Of what exit() does, the last one that was registered comes first. */
    atexit(stop_all);
}

static Connection *new_connection(const char *user, const char *host, int port)
{
    Connection *connection = g_new0(Connection, 1);

    connection->user = g_strdup(user);
    connection->host = g_strdup(host);
    connection->port = port;
    connection->timeout_ms = ctl_options.timeout_ms > 0 ?
                             ctl_options.timeout_ms : DEFAULT_TIMEOUT_MS;
    connection->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    connection->refs = 1;
    connection->requests = g_ptr_array_new();
    connection->channels = g_ptr_array_new();
    connection->stage = g_strdup("starting");
    return connection;
}

static bool is_for(const Connection *connection, const char *user,
                   const char *host, int port)
{
    return !g_strcmp0(connection->user, user) &&
           !strcmp(connection->host, host) && connection->port == port;
}

/* One that can take another request, or NULL. */
static Connection *find_connection_locked(const char *user, const char *host,
                                          int port)
{
    for (guint i = 0; i < connections->len; i++) {
        Connection *connection = connections->pdata[i];

        if (!connection->retired && connection->n_channels < MAX_CHANNELS &&
            is_for(connection, user, host, port)) {
            return connection;
        }
    }
    return NULL;
}

static void request_locked(Connection *connection, CtlSshChannel *channel)
{
    connection->refs++;
    channel->connection = connection;
    channel->deadline = ctl_deadline_in(connection->timeout_ms);
    channel->refs++;
    g_ptr_array_add(connection->requests, channel);
    connection->n_channels++;
    wake_thread(connection);
}

/* A new one, with @channel as its first request. */
static void connect_locked(CtlSshChannel *channel, const char *user,
                           const char *host, int port)
{
    Connection *connection = new_connection(user, host, port);
    g_autoptr(GError) err = NULL;

    request_locked(connection, channel);
    connection->refs++;
    if (connection->wake_fd >= 0 && start_thread(connection, &err)) {
        g_ptr_array_add(connections, connection);
        return;
    }
    refuse_locked(channel, err ? err->message : g_strerror(errno));
    channel_unref_locked(channel);
    connection_unref_locked(connection);
    connection_unref_locked(connection);
}

/* ---- What the main thread calls ----------------------------------------- */

CtlSshChannel *ctl_ssh_run(const char *user, const char *host, int port,
                           const char *command)
{
    CtlSshChannel *channel = g_new0(CtlSshChannel, 1);
    Connection *connection;

    if (!connections) {
        init();
    }
    channel->command = g_strdup(command);
    channel->refs = 1;
    channel->fd = -1;
    channel->local = -1;
    channel->end_by = CTL_NEVER;
    pthread_mutex_lock(&lock);
    forget_ended_locked();
    connection = find_connection_locked(user, host, port);
    if (connection) {
        request_locked(connection, channel);
    } else {
        connect_locked(channel, user, host, port);
    }
    pthread_mutex_unlock(&lock);
    return channel;
}

int ctl_ssh_fd(CtlSshChannel *channel, GError **err)
{
    int fd;

    pthread_mutex_lock(&lock);
    fd = channel->fd;
    if (channel->err) {
        g_propagate_error(err, g_error_copy(channel->err));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

char *ctl_ssh_stage(CtlSshChannel *channel)
{
    char *stage = NULL;

    pthread_mutex_lock(&lock);
    if (channel->fd < 0 && !channel->err) {
        stage = g_strdup(channel->connection->stage);
    }
    pthread_mutex_unlock(&lock);
    return stage;
}

char *ctl_ssh_last_words(CtlSshChannel *channel)
{
    char *words;

    pthread_mutex_lock(&lock);
    words = g_strdup(channel->last_words);
    pthread_mutex_unlock(&lock);
    return words;
}

void ctl_ssh_close(CtlSshChannel *channel)
{
    if (!channel) {
        return;
    }
    pthread_mutex_lock(&lock);
    channel->closed = true;
    if (channel->fd >= 0) {
        close(channel->fd);
        channel->fd = -1;
    }
    wake_thread(channel->connection);
    channel_unref_locked(channel);
    pthread_mutex_unlock(&lock);
}
