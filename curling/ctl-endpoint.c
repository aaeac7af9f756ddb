/*
 * Where a QEMU's QMP socket is, and a connection to it
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "ctl-endpoint.h"
#include "ctl-ssh.h"

/* A UNIX socket whose queue is full is tried again so often. */
#define RETRY_MS 50

/* ---- Their names -------------------------------------------------------- */

static CtlEndpoint *fail_parse(CtlEndpoint *endpoint, GError **err,
                               const char *why)
{
    g_autofree char *quoted = ctl_quote(endpoint->text, 100);

    g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "\"%s\" is no endpoint: %s",
                quoted, why);
    ctl_endpoint_free(endpoint);
    return NULL;
}

/* "host", "host:port" or "[host]:port" into @host and, if there is one,
 * @port.  False: it is none of these. */
static bool parse_host_port(const char *text, char **host, int *port)
{
    const char *end = *text == '[' ? strchr(text, ']') : strrchr(text, ':');
    guint64 number;

    if (*text == '[') {
        if (!end || end == text + 1) {
            return false;
        }
        *host = g_strndup(text + 1, end - text - 1);
        end++;
    } else {
        if (!end) {
            end = text + strlen(text);
        }
        *host = g_strndup(text, end - text);
        if (!**host || strchr(*host, ':')) {
            return false;
        }
    }
    if (*end == '\0') {
        return true;
    }
    if (*end != ':' || !g_ascii_string_to_unsigned(end + 1, 10, 1, 65535,
                                                   &number, NULL)) {
        return false;
    }
    *port = number;
    return true;
}

static CtlEndpoint *parse_ssh(CtlEndpoint *endpoint, const char *rest,
                              GError **err)
{
    const char *slash = strchr(rest, '/');
    g_autofree char *authority = NULL;
    const char *host;
    char *at;

    if (!slash || !slash[1]) {
        return fail_parse(endpoint, err, "the path of the socket is missing, "
                          "as in ssh://host/run/web1.qmp");
    }
    endpoint->path = g_strdup(slash);
    authority = g_strndup(rest, slash - rest);
    at = strrchr(authority, '@');
    host = authority;
    if (at) {
        *at = '\0';
        host = at + 1;
        endpoint->user = g_strdup(authority);
    }
    if (!parse_host_port(host, &endpoint->host, &endpoint->port) ||
        (at && !*authority)) {
        return fail_parse(endpoint, err, "expected "
                          "ssh://[user@]host[:port]/path/of/socket");
    }
    if (endpoint->host[0] == '-' || (at && *authority == '-')) {
        return fail_parse(endpoint, err, "a name begins with \"-\"");
    }
    return endpoint;
}

CtlEndpoint *ctl_endpoint_parse(const char *text, GError **err)
{
    CtlEndpoint *endpoint = g_new0(CtlEndpoint, 1);
    g_autofree char *clean = NULL;
    const char *rest;

    endpoint->text = g_strdup(text);
    clean = ctl_clean(text);
    if (!g_str_equal(clean, text) || strchr(text, '\n')) {
        return fail_parse(endpoint, err, "there are control characters in it");
    }
    if (g_str_has_prefix(text, "unix:")) {
        endpoint->kind = CTL_ENDPOINT_UNIX;
        endpoint->path = g_strdup(text + strlen("unix:"));
        if (!*endpoint->path) {
            return fail_parse(endpoint, err, "the path of the socket is "
                              "missing");
        }
        if (strlen(endpoint->path) >=
            sizeof(((struct sockaddr_un *)0)->sun_path)) {
            return fail_parse(endpoint, err, "a path of a UNIX socket has 107 "
                              "characters at most");
        }
        return endpoint;
    }
    if (g_str_has_prefix(text, "tcp:")) {
        endpoint->kind = CTL_ENDPOINT_TCP;
        if (!parse_host_port(text + strlen("tcp:"), &endpoint->host,
                             &endpoint->port) || !endpoint->port) {
            return fail_parse(endpoint, err, "expected tcp:host:port");
        }
        return endpoint;
    }
    if (g_str_has_prefix(text, "ssh://")) {
        endpoint->kind = CTL_ENDPOINT_SSH;
        rest = text + strlen("ssh://");
        return parse_ssh(endpoint, rest, err);
    }
    return fail_parse(endpoint, err, "expected unix:/path/of/socket, "
                      "tcp:host:port or ssh://[user@]host[:port]/path");
}

void ctl_endpoint_free(CtlEndpoint *endpoint)
{
    if (endpoint) {
        g_free(endpoint->text);
        g_free(endpoint->user);
        g_free(endpoint->host);
        g_free(endpoint->path);
        g_free(endpoint);
    }
}

bool ctl_host_is_loopback(const char *host)
{
    g_autoptr(GInetAddress) address = NULL;

    if (!g_ascii_strcasecmp(host, "localhost")) {
        return true;
    }
    address = g_inet_address_new_from_string(host);
    return address && g_inet_address_get_is_loopback(address);
}

bool ctl_endpoint_is_local(const CtlEndpoint *endpoint)
{
    return !endpoint->host || ctl_host_is_loopback(endpoint->host);
}

bool ctl_endpoint_share_host(const CtlEndpoint *a, const CtlEndpoint *b)
{
    if (ctl_endpoint_is_local(a) || ctl_endpoint_is_local(b)) {
        return ctl_endpoint_is_local(a) && ctl_endpoint_is_local(b);
    }
    return !g_ascii_strcasecmp(a->host, b->host);
}

/* ---- Connections -------------------------------------------------------- */

struct CtlLink {
    const CtlEndpoint *endpoint;
    int fd;
    GError *error;
    GSocketConnection *connection;  /* tcp: owns @fd */
    GCancellable *cancel;
    guint retry;
    CtlSshChannel *channel;         /* ssh: owns @fd */
};

static void fail_link(CtlLink *link, const char *why)
{
    link->error = g_error_new(CTL_ERROR, CTL_ERROR_LOST, "%s: %s",
                              link->endpoint->text, why);
}

static gboolean connect_unix(gpointer opaque)
{
    CtlLink *link = opaque;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int code;

    link->retry = 0;
    g_strlcpy(address.sun_path, link->endpoint->path,
              sizeof(address.sun_path));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address,
                           sizeof(address)) == 0) {
        link->fd = fd;
        return G_SOURCE_REMOVE;
    }
    code = errno;
    if (fd >= 0) {
        close(fd);
    }
    switch (code) {
    case EAGAIN:
        /* It serves somebody, and others wait already. */
        link->retry = g_timeout_add(RETRY_MS, connect_unix, link);
        break;
    case ENOENT:
        fail_link(link, "there is no such socket; is QEMU running, with "
                  "-qmp unix:PATH,server=on,wait=off?");
        break;
    case ECONNREFUSED:
        fail_link(link, "nobody serves this socket any more: its QEMU has "
                  "ended, or the socket is not for QMP");
        break;
    case EACCES:
        fail_link(link, "permission denied; run curlingctl as a user who may "
                  "write to the socket");
        break;
    default:
        fail_link(link, g_strerror(code));
        break;
    }
    return G_SOURCE_REMOVE;
}

static void connected(GObject *client, GAsyncResult *result, gpointer opaque)
{
    CtlLink *link = opaque;
    GError *why = NULL;
    GSocketConnection *connection =
        g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(client), result,
                                               &why);

    if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        /* The link is gone. */
        g_error_free(why);
        return;
    }
    if (!connection) {
        fail_link(link, why->message);
        g_error_free(why);
        return;
    }
    link->connection = connection;
    link->fd = g_socket_get_fd(g_socket_connection_get_socket(connection));
}

const char *ctl_remote_program(void)
{
    const char *program = g_getenv("CURLINGCTL_REMOTE");

    return program && *program ? program : "curlingctl";
}

static CtlLink *link_new(const CtlEndpoint *endpoint)
{
    CtlLink *link = g_new0(CtlLink, 1);

    link->endpoint = endpoint;
    link->fd = -1;
    link->cancel = g_cancellable_new();
    return link;
}

CtlLink *ctl_link_run(const CtlEndpoint *endpoint, const char *command)
{
    CtlLink *link = link_new(endpoint);

    link->channel = ctl_ssh_run(endpoint->user, endpoint->host, endpoint->port,
                                command);
    return link;
}

static CtlLink *open_far_socket(const CtlEndpoint *endpoint)
{
    g_autofree char *path = g_shell_quote(endpoint->path);
    g_autofree char *command = g_strdup_printf("%s proxy %s",
                                               ctl_remote_program(), path);

    return ctl_link_run(endpoint, command);
}

CtlLink *ctl_link_open(const CtlEndpoint *endpoint)
{
    CtlLink *link;

    if (endpoint->kind == CTL_ENDPOINT_SSH) {
        return open_far_socket(endpoint);
    }
    link = link_new(endpoint);
    if (endpoint->kind == CTL_ENDPOINT_UNIX) {
        connect_unix(link);
    } else {
        g_autoptr(GSocketClient) client = g_socket_client_new();

        g_socket_client_connect_to_host_async(client, endpoint->host,
                                              endpoint->port, link->cancel,
                                              connected, link);
    }
    return link;
}

int ctl_link_fd(CtlLink *link, GError **err)
{
    GError *why = NULL;

    if (link->channel && link->fd < 0 && !link->error) {
        link->fd = ctl_ssh_fd(link->channel, &why);
        if (why) {
            fail_link(link, why->message);
            g_error_free(why);
        }
    }
    if (link->error) {
        g_propagate_error(err, g_error_copy(link->error));
    }
    return link->fd;
}

static bool is_connected(void *opaque)
{
    g_autoptr(GError) why = NULL;

    return ctl_link_fd(opaque, &why) >= 0 || why;
}

int ctl_link_wait(CtlLink *link, CtlDeadline deadline, GError **err)
{
    return ctl_wait(is_connected, link, deadline, err) ?
           ctl_link_fd(link, err) : -1;
}

char *ctl_link_delay(CtlLink *link)
{
    g_autofree char *stage = NULL;

    switch (link->endpoint->kind) {
    case CTL_ENDPOINT_UNIX:
        return g_strdup("others wait for this socket already, which serves "
                        "one client at a time; give curlingctl a -qmp socket "
                        "of its own");
    case CTL_ENDPOINT_TCP:
        break;
    case CTL_ENDPOINT_SSH:
        stage = ctl_ssh_stage(link->channel);
        break;
    }
    return g_strdup_printf("no connection within the time of --timeout%s%s",
                           stage ? ": " : "", stage ? stage : "");
}

char *ctl_link_last_words(CtlLink *link)
{
    return link->channel ? ctl_ssh_last_words(link->channel) : NULL;
}

void ctl_link_close(CtlLink *link)
{
    if (!link) {
        return;
    }
    g_cancellable_cancel(link->cancel);
    g_object_unref(link->cancel);
    g_clear_handle_id(&link->retry, g_source_remove);
    if (link->channel) {
        ctl_ssh_close(link->channel);
    } else if (link->connection) {
        g_object_unref(link->connection);
    } else if (link->fd >= 0) {
        close(link->fd);
    }
    g_clear_error(&link->error);
    g_free(link);
}
