/*
 * curlingctl proxy: join stdin and stdout with a UNIX socket
 *
 * It runs on the far side of SSH: a QMP socket there appears here.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ctl-endpoint.h"
#include "ctl-options.h"

typedef struct Pipe {
    int from;
    int to;
    char bytes[65536];
    size_t begin;
    size_t end;
    bool at_end;                /* nothing more comes from @from */
    bool closed;                /* and @to was told so, or is gone */
} Pipe;

static bool is_empty(const Pipe *p)
{
    return p->begin == p->end;
}

static void pull(Pipe *p)
{
    ssize_t got = read(p->from, p->bytes, sizeof(p->bytes));

    if (got > 0) {
        p->begin = 0;
        p->end = got;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        p->at_end = true;
    }
}

static void push(Pipe *p)
{
    ssize_t put = write(p->to, p->bytes + p->begin, p->end - p->begin);

    if (put > 0) {
        p->begin += put;
    } else if (put < 0 && errno != EAGAIN && errno != EINTR) {
        p->at_end = true;
        p->closed = true;
    }
}

/* @in goes to the socket, @out comes from it.  Returns when the socket has
 * ended, or nobody hears any more what it says. */
static void join(Pipe *in, Pipe *out)
{
    while (!out->closed) {
        struct pollfd fds[4] = {
            { in->at_end || !is_empty(in) ? -1 : in->from, POLLIN, 0 },
            { is_empty(in) ? -1 : in->to, POLLOUT, 0 },
            { out->at_end || !is_empty(out) ? -1 : out->from, POLLIN, 0 },
            /* These tell that nobody listens: POLLERR, POLLHUP. */
            { out->to, is_empty(out) ? 0 : POLLOUT, 0 },
        };

        if (poll(fds, 4, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return;
        }
        if (fds[0].revents) {
            pull(in);
        }
        if (fds[2].revents) {
            pull(out);
        }
        if (!is_empty(in) && !in->closed) {
            push(in);
        }
        if (!is_empty(out)) {
            push(out);
        }
        if (in->at_end && !in->closed && is_empty(in)) {
            shutdown(in->to, SHUT_WR);
            in->closed = true;
        }
        if ((out->at_end && is_empty(out)) ||
            (fds[3].revents & (POLLERR | POLLHUP))) {
            return;
        }
    }
}

int ctl_proxy_main(int argc, char **argv)
{
    static Pipe in;
    static Pipe out;
    g_autoptr(CtlEndpoint) endpoint = NULL;
    g_autofree char *text = NULL;
    GError *err = NULL;
    CtlLink *link;
    int fd;

    if (!ctl_options_parse("PATH is a UNIX socket; \"ssh host curlingctl proxy "
                           "PATH\" makes one of another\nhost's appear here.",
                           NULL, false, &argc, &argv, &err)) {
        return ctl_fail(NULL, err);
    }
    if (argc != 1) {
        ctl_complain(NULL, "proxy takes one argument, the path of a UNIX "
                     "socket");
        return CTL_EXIT_USAGE;
    }
    text = g_strconcat("unix:", argv[0], NULL);
    endpoint = ctl_endpoint_parse(text, &err);
    if (!endpoint) {
        return ctl_fail(NULL, err);
    }
    link = ctl_link_open(endpoint);
    fd = ctl_link_wait(link, ctl_deadline(), &err);
    if (fd < 0) {
        ctl_link_close(link);
        if (!g_error_matches(err, CTL_ERROR, CTL_ERROR_LOST)) {
            /* Nor did it fail: the wait's sentence names nothing. */
            g_prefix_error(&err, "%s: ", text);
        }
        return ctl_fail(NULL, err);
    }
    /* From here on it waits for others, as long as they like. */
    ctl_interrupt_end();
    in.from = STDIN_FILENO;
    in.to = fd;
    out.from = fd;
    out.to = STDOUT_FILENO;
    join(&in, &out);
    ctl_link_close(link);
    return CTL_EXIT_OK;
}
