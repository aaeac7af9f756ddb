/*
 * What the hosts behind two endpoints are like
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <gio/gunixinputstream.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "ctl-host.h"
#include "ctl-options.h"

#define MEASURE_MS 500
#define MEASURE_WAIT_MS 5000    /* for the connection to be made */
#define SAID_MAX_BYTES (4 << 20)

/* ---- The side that looks: "curlingctl host ..." ------------------------- */

static uint64_t memory_available(void)
{
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL)) {
        return 0;
    }
    line = strstr(text, "MemAvailable:");
    return line ? g_ascii_strtoull(line + strlen("MemAvailable:"), NULL, 10) *
                  1024 : 0;
}

/* The process that listens at the UNIX socket @path; 0 if nobody knows. */
static pid_t server_of(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct ucred peer = { 0 };
    socklen_t len = sizeof(peer);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (fd < 0) {
        return 0;
    }
    /* The kernel says who listens before he accepts. */
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        peer.pid = 0;
    }
    close(fd);
    return peer.pid;
}

/* NULL where it cannot be read. */
static CtlJson *command_line_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *text = NULL;
    gsize len;
    CtlJson *list;

    if (!pid || !g_file_get_contents(path, &text, &len, NULL) || len == 0) {
        return NULL;
    }
    list = ctl_json_new("[]");
    for (gsize at = 0; at < len; at += strlen(text + at) + 1) {
        g_autofree char *valid = g_utf8_make_valid(text + at, -1);

        ctl_json_append(list, ctl_json_new("s", valid));
    }
    return list;
}

static CtlJson *facts_here(const char *path)
{
    CtlJson *facts = ctl_json_new("{s:I, s:I}",
                                  "clock-us", (long long)g_get_real_time(),
                                  "memory-available",
                                  (long long)memory_available());
    CtlJson *command_line = path ? command_line_of(server_of(path)) : NULL;

    if (command_line) {
        ctl_json_set(facts, "command-line", command_line);
    }
    return facts;
}

static int print_json(CtlJson *json)
{
    g_autofree char *text = ctl_json_dump(json);

    printf("%s\n", text);
    ctl_json_free(json);
    return CTL_EXIT_OK;
}

static bool is_ready(int fd, short events, int timeout_ms)
{
    struct pollfd wait = { fd, events, 0 };

    return poll(&wait, 1, timeout_ms) > 0;
}

/* Count what comes until the other side closes. */
static CtlJson *count_bytes(int fd)
{
    static char bytes[1 << 18];
    int64_t began_us = 0;
    int64_t ended_us = 0;
    long long sum = 0;
    ssize_t got = 1;

    while (got > 0 && is_ready(fd, POLLIN, MEASURE_WAIT_MS)) {
        got = recv(fd, bytes, sizeof(bytes), 0);
        ended_us = g_get_monotonic_time();
        if (!began_us) {
            began_us = ended_us;
        } else if (got > 0) {
            sum += got;
        }
        if (began_us && ended_us - began_us > 10 * MEASURE_MS * 1000) {
            break;
        }
    }
    return ctl_json_new("{s:I, s:I}", "bytes", sum, "us",
                        (long long)(ended_us - began_us));
}

/* A socket that listens at a free port of all addresses; -errno. */
static int listen_anywhere(int *port)
{
    struct sockaddr_in6 address = { .sin6_family = AF_INET6 };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int off = 0;

    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off,
                             sizeof(off)) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 ||
        listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        int code = errno;

        if (fd >= 0) {
            close(fd);
        }
        return -code;
    }
    *port = ntohs(address.sin6_port);
    return fd;
}

/* Says the port, takes one connection, says what came. */
static int receive_here(void)
{
    int port = 0;
    int fd = listen_anywhere(&port);
    int peer;
    int status;

    if (fd < 0) {
        ctl_complain(NULL, "no port for a measurement: %s", g_strerror(-fd));
        return CTL_EXIT_ERROR;
    }
    print_json(ctl_json_new("{s:i}", "port", port));
    fflush(stdout);
    peer = is_ready(fd, POLLIN, MEASURE_WAIT_MS) ? accept(fd, NULL, NULL) : -1;
    close(fd);
    if (peer < 0) {
        ctl_complain(NULL, "nobody came to port %d: does a firewall stand "
                     "before it?", port);
        return CTL_EXIT_ERROR;
    }
    status = print_json(count_bytes(peer));
    close(peer);
    return status;
}

static int send_there(const char *host, int port)
{
    static const char zeros[1 << 18];
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) connection = NULL;
    CtlDeadline end = CTL_NEVER;
    GError *err = NULL;
    int fd;

    g_socket_client_set_timeout(client, MEASURE_WAIT_MS / 1000);
    connection = g_socket_client_connect_to_host(client, host, port, NULL,
                                                 &err);
    if (!connection) {
        return ctl_fail(NULL, err);
    }
    fd = g_socket_get_fd(g_socket_connection_get_socket(connection));
    end = ctl_deadline_in(MEASURE_MS);
    while (g_get_monotonic_time() < end &&
           is_ready(fd, POLLOUT, MEASURE_WAIT_MS) &&
           send(fd, zeros, sizeof(zeros), MSG_NOSIGNAL) > 0) {
    }
    return CTL_EXIT_OK;
}

int ctl_host_main(int argc, char **argv)
{
    guint64 port;

    ctl_interrupt_end();
    if (argc == 3 && g_str_equal(argv[1], "facts")) {
        return print_json(facts_here(argv[2]));
    }
    if (argc == 2 && g_str_equal(argv[1], "receive")) {
        return receive_here();
    }
    if (argc == 4 && g_str_equal(argv[1], "send") &&
        g_ascii_string_to_unsigned(argv[3], 10, 1, 65535, &port, NULL)) {
        return send_there(argv[2], port);
    }
    ctl_complain(NULL, "this is for curlingctl itself");
    return CTL_EXIT_USAGE;
}

/* ---- The side that asks ------------------------------------------------- */

/* A "curlingctl host ..." that runs, here or there. */
typedef struct Helper {
    const CtlEndpoint *endpoint;
    GSubprocess *process;       /* here */
    CtlLink *link;              /* there */
    GString *said;              /* lines that came and were not read yet */
    bool at_end;
    guint source;
} Helper;

static gboolean hear(gint fd, GIOCondition condition, gpointer opaque)
{
    Helper *helper = opaque;
    char bytes[4096];
    ssize_t got = read(fd, bytes, sizeof(bytes));

    (void)condition;
    if (got > 0 && helper->said->len < SAID_MAX_BYTES) {
        g_string_append_len(helper->said, bytes, got);
    } else if (got >= 0 || (errno != EAGAIN && errno != EINTR)) {
        helper->at_end = true;
        helper->source = 0;
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static bool begin_here(Helper *helper, const char *const *args, GError **err)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    GInputStream *out;
    int fd;

    g_ptr_array_add(argv, (gpointer)"/proc/self/exe");
    g_ptr_array_add(argv, (gpointer)"host");
    for (; *args; args++) {
        g_ptr_array_add(argv, (gpointer)*args);
    }
    g_ptr_array_add(argv, NULL);
    helper->process = g_subprocess_newv((const char *const *)argv->pdata,
                                        G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                                        G_SUBPROCESS_FLAGS_STDERR_SILENCE,
                                        err);
    if (!helper->process) {
        return false;
    }
    out = g_subprocess_get_stdout_pipe(helper->process);
    fd = g_unix_input_stream_get_fd(G_UNIX_INPUT_STREAM(out));
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    helper->source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP, hear, helper);
    return true;
}

static bool begin_there(Helper *helper, const char *const *args,
                        CtlDeadline deadline, GError **err)
{
    GString *command = g_string_new(ctl_remote_program());
    int fd;

    g_string_append(command, " host");
    for (; *args; args++) {
        g_autofree char *quoted = g_shell_quote(*args);

        g_string_append_printf(command, " %s", quoted);
    }
    helper->link = ctl_link_run(helper->endpoint, command->str);
    g_string_free(command, TRUE);
    fd = ctl_link_wait(helper->link, deadline, err);
    if (fd < 0) {
        return false;
    }
    helper->source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP, hear, helper);
    return true;
}

static void helper_end(Helper *helper)
{
    g_clear_handle_id(&helper->source, g_source_remove);
    if (helper->process) {
        g_subprocess_force_exit(helper->process);
        g_object_unref(helper->process);
    }
    ctl_link_close(helper->link);
    g_string_free(helper->said, TRUE);
    g_free(helper);
}

static Helper *helper_begin(const CtlEndpoint *endpoint,
                            const char *const *args, CtlDeadline deadline,
                            GError **err)
{
    Helper *helper = g_new0(Helper, 1);

    helper->endpoint = endpoint;
    helper->said = g_string_new(NULL);
    if (endpoint->kind == CTL_ENDPOINT_SSH ?
        begin_there(helper, args, deadline, err) :
        begin_here(helper, args, err)) {
        return helper;
    }
    helper_end(helper);
    return NULL;
}

static bool has_line_or_ended(void *opaque)
{
    const Helper *helper = opaque;

    return helper->at_end || memchr(helper->said->str, '\n',
                                    helper->said->len);
}

/* The next line that @helper says; NULL: @err. */
static CtlJson *helper_line(Helper *helper, CtlDeadline deadline, GError **err)
{
    g_autofree char *words = NULL;
    CtlJson *line;
    char *end;

    if (!ctl_wait(has_line_or_ended, helper, deadline, err)) {
        return NULL;
    }
    end = memchr(helper->said->str, '\n', helper->said->len);
    if (!end) {
        words = helper->link ? ctl_link_last_words(helper->link) : NULL;
        g_set_error(err, CTL_ERROR, CTL_ERROR_LOST, "%s", words ? words :
                    "it ended without an answer");
        return NULL;
    }
    line = ctl_json_parse(helper->said->str, end - helper->said->str, err);
    g_string_erase(helper->said, 0, end + 1 - helper->said->str);
    return line;
}

static bool can_be_looked_at(const CtlEndpoint *endpoint, GError **err)
{
    if (endpoint->kind == CTL_ENDPOINT_TCP &&
        !ctl_endpoint_is_local(endpoint)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "its host cannot be "
                    "looked at over tcp:, only over ssh://");
        return false;
    }
    return true;
}

CtlJson *ctl_host_facts(const CtlEndpoint *endpoint, GError **err)
{
    CtlDeadline deadline = ctl_deadline();
    const char *args[] = { "facts", endpoint->path, NULL };
    int64_t began_us = g_get_monotonic_time();
    Helper *helper;
    CtlJson *facts;

    if (!can_be_looked_at(endpoint, err)) {
        return NULL;
    }
    if (endpoint->kind != CTL_ENDPOINT_SSH) {
        return facts_here(endpoint->path);
    }
    helper = helper_begin(endpoint, args, deadline, err);
    if (!helper) {
        return NULL;
    }
    /* The connection is there already; what counts is from here on. */
    began_us = g_get_monotonic_time();
    facts = helper_line(helper, deadline, err);
    if (facts) {
        int64_t took_us = g_get_monotonic_time() - began_us;

        ctl_json_set(facts, "clock-us",
                     ctl_json_new("I", (long long)(took_us / 2 + ctl_json_int(
                                  facts, "clock-us", 0))));
    }
    helper_end(helper);
    return facts;
}

double ctl_host_measure(const CtlEndpoint *from, const CtlEndpoint *to,
                        const char *host, GError **err)
{
    static const char *const receive[] = { "receive", NULL };
    CtlDeadline deadline = ctl_deadline_in(20 * MEASURE_MS);
    g_autoptr(CtlJson) answer = NULL;
    g_autofree char *port = NULL;
    const char *send_args[] = { "send", host, NULL, NULL };
    Helper *receiver;
    Helper *sender;
    double rate = 0;

    if (!can_be_looked_at(from, err) || !can_be_looked_at(to, err)) {
        return 0;
    }
    receiver = helper_begin(to, receive, deadline, err);
    if (!receiver) {
        return 0;
    }
    answer = helper_line(receiver, deadline, err);
    if (answer) {
        port = g_strdup_printf("%d", (int)ctl_json_int(answer, "port", 0));
        send_args[2] = port;
        sender = helper_begin(from, send_args, deadline, err);
        if (sender) {
            ctl_json_free(answer);
            answer = helper_line(receiver, deadline, err);
            rate = ctl_json_int(answer, "bytes", 0) * 1e6 /
                   MAX(ctl_json_int(answer, "us", 1), 1);
            helper_end(sender);
        }
    }
    helper_end(receiver);
    return rate;
}
