/*
 * From a host's name to an SSH session whose user is logged in
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ctl-sshkeys.h"
#include "ctl-sshlogin.h"

/* A host that is gone is found out after about so long. */
#define DEAD_AFTER_MS 25000
#define PROBE_AFTER_S 10
#define PROBE_EACH_S 5
/* And one that has said that it closes a connection does so within this. */
#define CLOSING_MS 100

static bool fail(GError **err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static bool fail(GError **err, const char *fmt, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    g_set_error_literal(err, CTL_ERROR, CTL_ERROR_LOST, text);
    return false;
}

static void enter(CtlSshLogin *login, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static void enter(CtlSshLogin *login, const char *fmt, ...)
{
    va_list args;
    g_autofree char *doing = NULL;

    va_start(args, fmt);
    doing = g_strdup_vprintf(fmt, args);
    va_end(args);
    login->stage(login->opaque, doing);
}

char *ctl_sshlogin_target(const CtlSshLogin *login)
{
    return login->conf->port == 22 ?
           g_strdup_printf("%s@%s", login->conf->user, login->host) :
           g_strdup_printf("-p %d %s@%s", login->conf->port,
                           login->conf->user, login->host);
}

/* ---- Working and waiting ------------------------------------------------ */

#define STOP_MS 500

/* Whoever works may read, who stops that writes. */
static pthread_rwlock_t working = PTHREAD_RWLOCK_INITIALIZER;

void ctl_sshlogin_work(void)
{
    pthread_rwlock_rdlock(&working);
}

void ctl_sshlogin_rest(void)
{
    pthread_rwlock_unlock(&working);
}

void ctl_sshlogin_stop(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += STOP_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_rwlock_timedwrlock(&working, &until);
}

/* Wait for @events of the socket.  1: they are there; 0: it is @deadline. */
static int wait_until(const CtlSshLogin *login, short events,
                      CtlDeadline deadline)
{
    struct pollfd pfd = { .fd = login->sock, .events = events };

    for (;;) {
        int64_t left_us = deadline - g_get_monotonic_time();
        int ret;

        if (left_us <= 0) {
            return 0;
        }
        ctl_sshlogin_rest();
        ret = poll(&pfd, 1, MIN(left_us / 1000 + 1, INT_MAX));
        ctl_sshlogin_work();
        if (ret > 0) {
            return 1;
        }
    }
}

/* After LIBSSH2_ERROR_EAGAIN: until it may go on.  @what: for a sentence. */
static bool wait_session(const CtlSshLogin *login, const char *what,
                         GError **err)
{
    int blocked = libssh2_session_block_directions(login->session);
    short events = blocked & LIBSSH2_SESSION_BLOCK_OUTBOUND ?
                   POLLIN | POLLOUT : POLLIN;

    return wait_until(login, events, login->deadline) ||
           fail(err, "%s took too long to answer %s", login->host, what);
}

/* What libssh2 says of its last error; freed by the caller. */
static char *last_error(const CtlSshLogin *login)
{
    char *text = NULL;

    libssh2_session_last_error(login->session, &text, NULL, 0);
    return ctl_quote(text && *text ? text : "no reason given", 200);
}

/* ---- TCP ---------------------------------------------------------------- */

static bool look_up(CtlSshLogin *login, struct addrinfo **addresses,
                    GError **err)
{
    const char *name = login->conf->hostname;
    g_autofree char *port = g_strdup_printf("%d", login->conf->port);
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV,
    };
    int error;
    int ret;

    enter(login, "looking up the address of %s", name);
    ctl_sshlogin_rest();
    ret = getaddrinfo(name, port, &hints, addresses);
    error = errno;
    ctl_sshlogin_work();
    if (ret) {
        return fail(err, "the address of %s is not found: %s", name,
                    ret == EAI_SYSTEM ? g_strerror(error) : gai_strerror(ret));
    }
    return true;
}

/* 0 or an errno */
static int connect_to(CtlSshLogin *login, const struct addrinfo *address,
                      CtlDeadline deadline)
{
    int error = 0;
    socklen_t len = sizeof(error);

    login->sock = socket(address->ai_family,
                         address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                         address->ai_protocol);
    if (login->sock < 0) {
        return errno;
    }
    if (connect(login->sock, address->ai_addr, address->ai_addrlen) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        error = errno;
    } else if (!wait_until(login, POLLOUT, deadline)) {
        error = ETIMEDOUT;
    } else {
        getsockopt(login->sock, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    if (error) {
        close(login->sock);
        login->sock = -1;
    }
    return error;
}

static char *describe_address(const struct addrinfo *address)
{
    char text[NI_MAXHOST];

    return g_strdup(getnameinfo(address->ai_addr, address->ai_addrlen, text,
                                sizeof(text), NULL, 0, NI_NUMERICHOST) ?
                    "?" : text);
}

/* libssh2's own keep-alive would not do: 1.10 spoils a session when the socket
 * takes only a part of it. */
static void keep_alive(int sock)
{
    const struct { int level, name, value; } options[] = {
        { IPPROTO_TCP, TCP_NODELAY, 1 },
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER_S },
        { IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EACH_S },
        { IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_AFTER_MS },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        setsockopt(sock, options[i].level, options[i].name, &options[i].value,
                   sizeof(options[i].value));
    }
}

/* Each of the host's addresses in turn, with an equal share of the time that
 * is left. */
static bool connect_any(CtlSshLogin *login, const struct addrinfo *addresses,
                        GError **err)
{
    int port = login->conf->port;
    g_autofree char *text = NULL;
    int n_left = 0;
    int error = 0;

    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        n_left++;
    }
    for (; addresses; addresses = addresses->ai_next, n_left--) {
        int64_t now = g_get_monotonic_time();

        g_free(text);
        text = describe_address(addresses);
        enter(login, "connecting to %s port %d", text, port);
        error = connect_to(login, addresses,
                           now + (login->deadline - now) / n_left);
        if (!error) {
            keep_alive(login->sock);
            return true;
        }
    }
    return fail(err, "cannot connect to %s (%s port %d): %s%s", login->host,
                text, port, g_strerror(error),
                error == ECONNREFUSED ? "; does sshd run there?" : "");
}

static bool connect_host(CtlSshLogin *login, GError **err)
{
    struct addrinfo *addresses = NULL;
    bool ok = look_up(login, &addresses, err) &&
              connect_any(login, addresses, err);

    if (addresses) {
        freeaddrinfo(addresses);
    }
    return ok;
}

/* ---- The host's key ----------------------------------------------------- */

/* An algorithm to sign with, and the type of the keys that do so */
typedef struct Algorithm {
    const char *name;
    const char *type;
} Algorithm;

/* In the order in which they are liked */
static const Algorithm algorithms[] = {
    { "ssh-ed25519", "ssh-ed25519" },
    { "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256" },
    { "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384" },
    { "ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521" },
    { "rsa-sha2-512", "ssh-rsa" },
    { "rsa-sha2-256", "ssh-rsa" },
    { "ssh-rsa", "ssh-rsa" },
};

static bool has_algorithm(const CtlSshLogin *login, const char *name)
{
    const char **names = NULL;
    int n = libssh2_session_supported_algs(login->session,
                                           LIBSSH2_METHOD_HOSTKEY, &names);
    bool found = false;

    for (int i = 0; i < n; i++) {
        found |= !strcmp(names[i], name);
    }
    if (n > 0) {
        libssh2_free(login->session, names);
    }
    return found;
}

/* libssh2 1.10 has RSA with SHA-1 only, which no sshd of today accepts. */
static bool has_rsa(const CtlSshLogin *login)
{
    return has_algorithm(login, "rsa-sha2-512") ||
           has_algorithm(login, "rsa-sha2-256");
}

static void append_name(GString *list, const char *name)
{
    g_string_append_printf(list, "%s%s", list->len ? "," : "", name);
}

/* Ask for a key that is known, or a host that has others as well would look
 * as if its key had changed. */
static bool prefer_known(const CtlSshLogin *login, const GPtrArray *known,
                         GError **err)
{
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *text = NULL;

    for (int wanted = 1; wanted >= 0; wanted--) {
        for (size_t i = 0; i < G_N_ELEMENTS(algorithms); i++) {
            if (ctl_sshkeys_knows_type(known, algorithms[i].type) == wanted &&
                has_algorithm(login, algorithms[i].name)) {
                append_name(names, algorithms[i].name);
            }
        }
    }
    if (libssh2_session_method_pref(login->session, LIBSSH2_METHOD_HOSTKEY,
                                    names->str)) {
        text = last_error(login);
        return fail(err, "%s: %s", login->host, text);
    }
    return true;
}

/* Is there a key in @known that can be asked for? */
static bool can_check(const CtlSshLogin *login, const GPtrArray *known)
{
    for (size_t i = 0; i < G_N_ELEMENTS(algorithms); i++) {
        bool is_sha1 = !strcmp(algorithms[i].name, "ssh-rsa");

        if (!is_sha1 && has_algorithm(login, algorithms[i].name) &&
            ctl_sshkeys_knows_type(known, algorithms[i].type)) {
            return true;
        }
    }
    return false;
}

static bool fail_unknown(const CtlSshLogin *login, GError **err)
{
    g_autofree char *target = ctl_sshlogin_target(login);

    return fail(err, "the host key of %s is not known; check it and accept it "
                "with: ssh %s", login->host, target);
}

static bool fail_changed(const CtlSshLogin *login, const GPtrArray *known,
                         const CtlSshHostKey *line, GError **err)
{
    g_autofree char *target = ctl_sshlogin_target(login);
    g_autofree char *name = line->any_port ?
                            g_strdup(login->conf->hostname) :
                            ctl_sshkeys_name(login->conf->hostname,
                                             login->conf->port);

    if (!can_check(login, known)) {
        return fail(err, "of %s only a key of type %s is known, which cannot "
                    "be checked here; let ssh learn its other keys with: ssh "
                    "-o UpdateHostKeys=yes %s", login->host, line->type,
                    target);
    }
    return fail(err, "the host key of %s is not the one in %s, line %d: "
                "somebody may listen in, or the host was set up anew; if you "
                "know why, remove the old key with: ssh-keygen -f '%s' -R "
                "'%s'", login->host, line->file, line->line, line->file,
                name);
}

static bool check_host_key(CtlSshLogin *login, const GPtrArray *known,
                           GError **err)
{
    const CtlSshHostKey *line = NULL;
    g_autoptr(GBytes) key = NULL;
    const char *bytes;
    size_t len;
    int type;

    bytes = libssh2_session_hostkey(login->session, &len, &type);
    key = g_bytes_new(bytes, bytes ? len : 0);
    switch (ctl_sshkeys_judge(known, key, &line)) {
    case CTL_SSH_KNOWN:
        return true;
    case CTL_SSH_UNKNOWN:
        return fail_unknown(login, err);
    case CTL_SSH_CHANGED:
        return fail_changed(login, known, line, err);
    case CTL_SSH_REVOKED:
        return fail(err, "the host key of %s is revoked in %s, line %d: do "
                    "not trust what has it", login->host, line->file,
                    line->line);
    }
    g_assert_not_reached();
}

static bool shake_hands(CtlSshLogin *login, GError **err)
{
    g_autoptr(GPtrArray) known = ctl_sshkeys_known(login->conf->known_hosts,
                                                   login->conf->hostname,
                                                   login->conf->port);
    g_autofree char *text = NULL;
    int ret;

    enter(login, "waiting for the SSH server of %s", login->host);
    login->session = libssh2_session_init();
    if (!login->session) {
        return fail(err, "%s: no memory for an SSH session", login->host);
    }
    libssh2_session_set_blocking(login->session, 0);
    if (!prefer_known(login, known, err)) {
        return false;
    }
    while ((ret = libssh2_session_handshake(login->session, login->sock)) ==
           LIBSSH2_ERROR_EAGAIN) {
        if (!wait_session(login, "as an SSH server; is it one?", err)) {
            return false;
        }
    }
    if (ret == LIBSSH2_ERROR_BANNER_RECV) {
        return fail(err, "what listens at %s, port %d, closed the connection "
                    "and said nothing that an SSH server would say",
                    login->host, login->conf->port);
    }
    if (ret) {
        text = last_error(login);
        return fail(err, "no SSH handshake with %s, port %d: %s", login->host,
                    login->conf->port, text);
    }
    return check_host_key(login, known, err);
}

/* ---- The user's key ----------------------------------------------------- */

typedef enum Outcome {
    LOGGED_IN,
    NOT_YET,                    /* another key may do */
    FAILED,                     /* @err is set */
} Outcome;

typedef struct Keyring {
    CtlSshLogin *login;
    GPtrArray *identities;      /* of CtlSshIdentity */
    GPtrArray *tried;           /* GBytes of public keys */
    GString *names;             /* of what was tried */
    GString *hints;             /* what could be done */
    unsigned int n_agent;       /* keys of the agent that were tried */
    bool rsa_refused;
} Keyring;

static bool is_same_key(const void *a, const void *b)
{
    return a && b && g_bytes_equal(a, b);
}

static bool was_tried(const Keyring *ring, const GBytes *key)
{
    for (guint i = 0; key && i < ring->tried->len; i++) {
        if (is_same_key(ring->tried->pdata[i], key)) {
            return true;
        }
    }
    return false;
}

static void note_tried(Keyring *ring, GBytes *key)
{
    g_autofree char *type = key ? ctl_sshkeys_type(key) : NULL;

    if (key) {
        g_ptr_array_add(ring->tried, g_bytes_ref(key));
    }
    if (g_strcmp0(type, "ssh-rsa") == 0 && !has_rsa(ring->login)) {
        ring->rsa_refused = true;
    }
}

static void hint(Keyring *ring, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void hint(Keyring *ring, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_string_append(ring->hints, "; ");
    g_string_append_vprintf(ring->hints, fmt, args);
    va_end(args);
}

/* libssh2 may take it for the refusal of a key. */
static bool was_closed(const CtlSshLogin *login)
{
    struct pollfd pfd = { .fd = login->sock, .events = POLLRDHUP };

    return poll(&pfd, 1, CLOSING_MS) > 0;
}

/* What came of a try */
static Outcome judge_try(const Keyring *ring, int ret, GError **err)
{
    const CtlSshLogin *login = ring->login;

    if (ret == 0) {
        return LOGGED_IN;
    }
    if (ret == LIBSSH2_ERROR_AUTHENTICATION_FAILED || !was_closed(login)) {
        return NOT_YET;
    }
    if (ring->tried->len > 1) {
        fail(err, "%s closed the connection after some keys were tried, as it "
             "lets only so many be: name the right one in ~/.ssh/config, with "
             "IdentityFile and IdentitiesOnly", login->host);
    } else {
        fail(err, "%s closed the connection when a key was tried",
             login->host);
    }
    return FAILED;
}

static Outcome try_agent_key(Keyring *ring, LIBSSH2_AGENT *agent,
                             struct libssh2_agent_publickey *entry,
                             GBytes *key, GError **err)
{
    CtlSshLogin *login = ring->login;
    g_autofree char *comment = ctl_quote(entry->comment, 60);
    Outcome outcome;
    int ret;

    enter(login, "waiting for the SSH agent to sign with its key \"%s\"",
          comment);
    note_tried(ring, key);
    ring->n_agent++;
    while ((ret = libssh2_agent_userauth(agent, login->conf->user, entry)) ==
           LIBSSH2_ERROR_EAGAIN) {
        if (!wait_session(login, "to a key", err)) {
            return FAILED;
        }
    }
    outcome = judge_try(ring, ret, err);
    if (outcome == NOT_YET && ret != LIBSSH2_ERROR_AUTHENTICATION_FAILED) {
        hint(ring, "the agent gives no good signature with its key \"%s\"",
             comment);
    }
    return outcome;
}

/* The agent's keys in its order: those that are @wanted (NULL: all). */
static Outcome try_agent_keys(Keyring *ring, LIBSSH2_AGENT *agent,
                              const GBytes *wanted, GError **err)
{
    struct libssh2_agent_publickey *entry = NULL;
    struct libssh2_agent_publickey *before = NULL;
    Outcome outcome = NOT_YET;

    while (outcome == NOT_YET &&
           libssh2_agent_get_identity(agent, &entry, before) == 0) {
        g_autoptr(GBytes) key = g_bytes_new(entry->blob, entry->blob_len);

        before = entry;
        if (!was_tried(ring, key) && (!wanted || is_same_key(wanted, key))) {
            outcome = try_agent_key(ring, agent, entry, key, err);
        }
    }
    return outcome;
}

/* First those that were asked for, as a server has only so much patience. */
static Outcome try_agent_list(Keyring *ring, LIBSSH2_AGENT *agent,
                              GError **err)
{
    Outcome outcome = NOT_YET;

    for (guint i = 0; outcome == NOT_YET && i < ring->identities->len; i++) {
        const CtlSshIdentity *identity = ring->identities->pdata[i];

        if (identity->key) {
            outcome = try_agent_keys(ring, agent, identity->key, err);
        }
    }
    if (outcome == NOT_YET && !ring->login->conf->identities_only) {
        outcome = try_agent_keys(ring, agent, NULL, err);
    }
    return outcome;
}

static Outcome try_agent(Keyring *ring, GError **err)
{
    CtlSshLogin *login = ring->login;
    const char *socket_name = g_getenv("SSH_AUTH_SOCK");
    LIBSSH2_AGENT *agent;
    Outcome outcome = NOT_YET;

    if (!socket_name || !*socket_name) {
        return NOT_YET;
    }
    enter(login, "waiting for the SSH agent at %s", socket_name);
    agent = libssh2_agent_init(login->session);
    if (!agent || libssh2_agent_connect(agent) ||
        libssh2_agent_list_identities(agent)) {
        hint(ring, "no SSH agent answers at %s (SSH_AUTH_SOCK)", socket_name);
    } else {
        outcome = try_agent_list(ring, agent, err);
    }
    if (agent) {
        libssh2_agent_disconnect(agent);
        libssh2_agent_free(agent);
    }
    if (ring->n_agent) {
        g_string_append_printf(ring->names, ring->n_agent == 1 ?
                               "a key of the agent" : "%u keys of the agent",
                               ring->n_agent);
    }
    return outcome;
}

static Outcome try_file(Keyring *ring, const CtlSshIdentity *identity,
                        GError **err)
{
    CtlSshLogin *login = ring->login;
    const char *user = login->conf->user;
    int ret;

    enter(login, "waiting for the answer of %s to the key in %s", login->host,
          identity->path);
    note_tried(ring, identity->key);
    append_name(ring->names, identity->path);
    /* A passphrase of none at all would be asked for, in some formats. */
    while ((ret = libssh2_userauth_publickey_fromfile_ex(
                      login->session, user, strlen(user), NULL,
                      identity->path, "")) == LIBSSH2_ERROR_EAGAIN) {
        if (!wait_session(login, "to a key", err)) {
            return FAILED;
        }
    }
    if (ret == LIBSSH2_ERROR_FILE) {
        hint(ring, "%s is no key that can be used here", identity->path);
    }
    return judge_try(ring, ret, err);
}

/* A file, unless the agent had its key. */
static Outcome try_identity(Keyring *ring, const CtlSshIdentity *identity,
                            GError **err)
{
    if (was_tried(ring, identity->key)) {
        return NOT_YET;
    }
    switch (identity->state) {
    case CTL_SSH_IDENTITY_USABLE:
        return try_file(ring, identity, err);
    case CTL_SSH_IDENTITY_LOCKED:
        hint(ring, "%s needs a passphrase: add it to the agent with: ssh-add "
             "%s", identity->path, identity->path);
        break;
    case CTL_SSH_IDENTITY_PUBLIC:
        hint(ring, "the agent does not have the key of %s", identity->path);
        break;
    case CTL_SSH_IDENTITY_ABSENT:
        if (ring->login->conf->identities_given) {
            hint(ring, "%s is not there", identity->path);
        }
        break;
    case CTL_SSH_IDENTITY_BAD:
        hint(ring, "%s %s", identity->path, identity->problem);
        break;
    }
    return NOT_YET;
}

static void fail_keys(const Keyring *ring, GError **err)
{
    const CtlSshLogin *login = ring->login;
    g_autofree char *target = ctl_sshlogin_target(login);
    g_auto(GStrv) names = g_strsplit(ring->names->str, ",", 0);
    g_autofree char *list = g_strjoinv(", ", names);

    if (ring->rsa_refused) {
        fail(err, "%s does not let %s in with %s: it may accept no RSA key "
             "from here: use an ed25519 key%s", login->host,
             login->conf->user, list, ring->hints->str);
    } else if (*list) {
        fail(err, "%s does not let %s in with %s: bring the key there with: "
             "ssh-copy-id %s%s", login->host, login->conf->user, list, target,
             ring->hints->str);
    } else {
        fail(err, "there is no key to log in to %s with, as %s%s%s",
             login->host, login->conf->user,
             ring->hints->len ? "" : ": make one with: ssh-keygen -t ed25519 "
             "&& ssh-copy-id ",
             ring->hints->len ? ring->hints->str : target);
    }
}

static Outcome try_all(Keyring *ring, GError **err)
{
    char *const *path = ring->login->conf->identities;
    Outcome outcome;

    for (; *path; path++) {
        g_ptr_array_add(ring->identities, ctl_sshkeys_identity(*path));
    }
    outcome = try_agent(ring, err);
    for (guint i = 0; outcome == NOT_YET && i < ring->identities->len; i++) {
        outcome = try_identity(ring, ring->identities->pdata[i], err);
    }
    if (outcome == NOT_YET) {
        fail_keys(ring, err);
    }
    return outcome;
}

/* Ask how the user could log in.  LOGGED_IN: he needs no key at all. */
static Outcome ask_methods(CtlSshLogin *login, GError **err)
{
    const char *user = login->conf->user;
    g_autofree char *text = NULL;
    g_auto(GStrv) methods = NULL;
    char *list;

    enter(login, "waiting for the SSH server of %s", login->host);
    while (!(list = libssh2_userauth_list(login->session, user,
                                          strlen(user)))) {
        if (libssh2_userauth_authenticated(login->session)) {
            return LOGGED_IN;
        }
        if (libssh2_session_last_errno(login->session) !=
            LIBSSH2_ERROR_EAGAIN) {
            text = last_error(login);
            fail(err, "%s does not say how %s can log in: %s", login->host,
                 user, text);
            return FAILED;
        }
        if (!wait_session(login, "how to log in", err)) {
            return FAILED;
        }
    }
    methods = g_strsplit(list, ",", 0);
    if (g_strv_contains((const char *const *)methods, "publickey")) {
        return NOT_YET;
    }
    text = ctl_quote(list, 100);
    fail(err, "%s lets %s in with no key, only with: %s", login->host, user,
         text);
    return FAILED;
}

static void free_identity(void *opaque)
{
    ctl_sshkeys_identity_free(opaque);
}

static bool log_in(CtlSshLogin *login, GError **err)
{
    g_autoptr(GPtrArray) identities =
        g_ptr_array_new_with_free_func(free_identity);
    g_autoptr(GPtrArray) tried =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GString) names = g_string_new(NULL);
    g_autoptr(GString) hints = g_string_new(NULL);
    Keyring ring = {
        .login = login, .identities = identities, .tried = tried,
        .names = names, .hints = hints,
    };
    Outcome outcome = ask_methods(login, err);

    if (outcome == NOT_YET) {
        outcome = try_all(&ring, err);
    }
    return outcome == LOGGED_IN;
}

/* ---- The whole ---------------------------------------------------------- */

bool ctl_sshlogin(CtlSshLogin *login, GError **err)
{
    login->session = NULL;
    login->sock = -1;
    return connect_host(login, err) && shake_hands(login, err) &&
           log_in(login, err);
}

void ctl_sshlogin_end(CtlSshLogin *login)
{
    if (login->sock >= 0) {
        shutdown(login->sock, SHUT_RDWR);
    }
    if (login->session) {
        /* With the socket shut down it has nothing left to wait for. */
        for (int tries = 0; tries < 100; tries++) {
            if (libssh2_session_free(login->session) !=
                LIBSSH2_ERROR_EAGAIN) {
                break;
            }
        }
    }
    if (login->sock >= 0) {
        close(login->sock);
    }
    login->session = NULL;
    login->sock = -1;
}
