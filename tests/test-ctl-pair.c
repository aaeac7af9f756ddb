/*
 * Fault: an endpoint or pairs.conf is mistyped, an end of a pair does not
 * answer, both have swapped their roles.
 * Invariant: what is wrong is refused with what was meant; how the pair stands
 * is never told better than what both ends said.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include "ctl-assert.h"
#include <glib/gstdio.h>

#include "ctl-pair.h"
#include "ctl-pairsconf.h"
#include "ctl-verdict.h"

/* @err has a sentence that says @part; it is freed. */
static void assert_error(GError *err, int code, const char *part)
{
    assert_non_null(err);
    assert_contains(err->message, part);
    assert_true(g_error_matches(err, CTL_ERROR, code));
    assert_clean(err->message);
    g_error_free(err);
}

/* ---- Endpoints ----------------------------------------------------------- */

#define HUNDRED \
    "/23456789/123456789/123456789/123456789/123456789" \
    "/123456789/123456789/123456789/123456789/123456789/"

typedef struct Good {
    const char *text;
    CtlEndpointKind kind;
    const char *user;
    const char *host;
    int port;
    const char *path;
} Good;

static const Good good[] = {
    { "unix:/run/a.qmp", CTL_ENDPOINT_UNIX, NULL, NULL, 0, "/run/a.qmp" },
    { "unix:a.qmp", CTL_ENDPOINT_UNIX, NULL, NULL, 0, "a.qmp" },
    { "unix:/run/with space:colon@at", CTL_ENDPOINT_UNIX, NULL, NULL, 0,
      "/run/with space:colon@at" },
    { "unix:" HUNDRED "1234567", CTL_ENDPOINT_UNIX, NULL, NULL, 0,
      HUNDRED "1234567" },
    { "tcp:host:4444", CTL_ENDPOINT_TCP, NULL, "host", 4444, NULL },
    { "tcp:10.0.0.1:1", CTL_ENDPOINT_TCP, NULL, "10.0.0.1", 1, NULL },
    { "tcp:host:65535", CTL_ENDPOINT_TCP, NULL, "host", 65535, NULL },
    { "tcp:[::1]:4444", CTL_ENDPOINT_TCP, NULL, "::1", 4444, NULL },
    { "tcp:[fe80::1%eth0]:4444", CTL_ENDPOINT_TCP, NULL, "fe80::1%eth0", 4444,
      NULL },
    { "tcp:[2001:db8::7]:22", CTL_ENDPOINT_TCP, NULL, "2001:db8::7", 22,
      NULL },
    { "ssh://host/run/a.qmp", CTL_ENDPOINT_SSH, NULL, "host", 0,
      "/run/a.qmp" },
    { "ssh://user@host/run/a.qmp", CTL_ENDPOINT_SSH, "user", "host", 0,
      "/run/a.qmp" },
    { "ssh://host:2222/run/a.qmp", CTL_ENDPOINT_SSH, NULL, "host", 2222,
      "/run/a.qmp" },
    { "ssh://user@host:2222/a", CTL_ENDPOINT_SSH, "user", "host", 2222, "/a" },
    { "ssh://[::1]/a", CTL_ENDPOINT_SSH, NULL, "::1", 0, "/a" },
    { "ssh://u@[fe80::1%eth0]:22/a/b", CTL_ENDPOINT_SSH, "u", "fe80::1%eth0",
      22, "/a/b" },
    { "ssh://u@realm@host/a", CTL_ENDPOINT_SSH, "u@realm", "host", 0, "/a" },
    { "ssh://host/a@b:c", CTL_ENDPOINT_SSH, NULL, "host", 0, "/a@b:c" },
    { "ssh://host/it's $(here)", CTL_ENDPOINT_SSH, NULL, "host", 0,
      "/it's $(here)" },
    { "ssh://host/" HUNDRED HUNDRED, CTL_ENDPOINT_SSH, NULL, "host", 0,
      "/" HUNDRED HUNDRED },
};

static void test_good_endpoints(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        const Good *g = &good[i];
        GError *err = NULL;
        g_autoptr(CtlEndpoint) endpoint = ctl_endpoint_parse(g->text, &err);

        if (!endpoint) {
            fail_msg("%s", err->message);
        }
        assert_string_equal(endpoint->text, g->text);
        assert_int_equal(endpoint->kind, g->kind);
        assert_int_equal(endpoint->port, g->port);
        if (g_strcmp0(endpoint->user, g->user) ||
            g_strcmp0(endpoint->host, g->host) ||
            g_strcmp0(endpoint->path, g->path)) {
            fail_msg("%s is %s, %s, %s", g->text, endpoint->user,
                     endpoint->host, endpoint->path);
        }
    }
}

static void test_bad_endpoints(void **state)
{
    static const char expected_any[] = "expected unix:/path/of/socket, "
        "tcp:host:port or ssh://[user@]host[:port]/path";
    static const char expected_ssh[] = "expected ssh://[user@]host[:port]/"
        "path/of/socket";
    static const char *const bad[][2] = {
        { "", expected_any },
        { "/run/a.qmp", expected_any },
        { "unix", expected_any },
        { "UNIX:/run/a.qmp", expected_any },
        { "host:4444", expected_any },
        { "http://host/a", expected_any },
        { "ssh:host/a", expected_any },
        { "ssh:/host/a", expected_any },
        { "unix:", "the path of the socket is missing" },
        { "unix:" HUNDRED "12345678", "107 characters at most" },
        { "tcp:", "expected tcp:host:port" },
        { "tcp:host", "expected tcp:host:port" },
        { "tcp:host:", "expected tcp:host:port" },
        { "tcp::4444", "expected tcp:host:port" },
        { "tcp:4444", "expected tcp:host:port" },
        { "tcp:host:0", "expected tcp:host:port" },
        { "tcp:host:65536", "expected tcp:host:port" },
        { "tcp:host:99999999999999999999", "expected tcp:host:port" },
        { "tcp:host:-1", "expected tcp:host:port" },
        { "tcp:host:+1", "expected tcp:host:port" },
        { "tcp:host: 1", "expected tcp:host:port" },
        { "tcp:host:1 ", "expected tcp:host:port" },
        { "tcp:host:0x10", "expected tcp:host:port" },
        { "tcp:host:http", "expected tcp:host:port" },
        { "tcp:::1:4444", "expected tcp:host:port" },
        { "tcp:2001:db8::7:22", "expected tcp:host:port" },
        { "tcp:[::1]", "expected tcp:host:port" },
        { "tcp:[::1]4444", "expected tcp:host:port" },
        { "tcp:[::1:4444", "expected tcp:host:port" },
        { "tcp:[]:4444", "expected tcp:host:port" },
        { "tcp:host:4444,server=on", "expected tcp:host:port" },
        { "ssh://", "the path of the socket is missing" },
        { "ssh://host", "the path of the socket is missing" },
        { "ssh://host/", "the path of the socket is missing" },
        { "ssh://user@host:22", "the path of the socket is missing" },
        { "ssh:///run/a.qmp", expected_ssh },
        { "ssh://@host/a", expected_ssh },
        { "ssh://user@/a", expected_ssh },
        { "ssh://host:/a", expected_ssh },
        { "ssh://host:0/a", expected_ssh },
        { "ssh://host:65536/a", expected_ssh },
        { "ssh://host:22:22/a", expected_ssh },
        { "ssh://::1/a", expected_ssh },
        { "ssh://[::1/a", expected_ssh },
        { "ssh://[::1]x/a", expected_ssh },
        { "ssh://[]/a", expected_ssh },
        { "ssh://:22/a", expected_ssh },
        { "ssh://-oProxyCommand=x/a", "begins with \"-\"" },
        { "ssh://[-oProxyCommand=x]/a", "begins with \"-\"" },
        { "ssh://-l@host/a", "begins with \"-\"" },
        { "ssh://user@-host/a", "begins with \"-\"" },
        { "\x1b[31m\xff", "control characters" },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        GError *err = NULL;

        if (ctl_endpoint_parse(bad[i][0], &err)) {
            fail_msg("%s is taken", bad[i][0]);
        }
        assert_contains(err->message, "is no endpoint: ");
        assert_error(err, CTL_ERROR_USAGE, bad[i][1]);
        assert_null(ctl_endpoint_parse(bad[i][0], NULL));
    }
}

static CtlEndpoint *endpoint_of(const char *text)
{
    GError *err = NULL;
    CtlEndpoint *endpoint = ctl_endpoint_parse(text, &err);

    if (!endpoint) {
        fail_msg("%s", err->message);
    }
    return endpoint;
}

static void test_share_host(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        bool share;
    } cases[] = {
        { "unix:/a", "unix:/b", true },
        { "unix:/a", "tcp:127.0.0.1:1", true },
        { "unix:/a", "tcp:127.1.2.3:1", true },
        { "unix:/a", "tcp:[::1]:1", true },
        { "unix:/a", "tcp:localhost:1", true },
        { "unix:/a", "tcp:LOCALHOST:1", true },
        { "unix:/a", "ssh://localhost/a", true },
        { "unix:/a", "ssh://u@[::1]:22/a", true },
        { "unix:/a", "tcp:10.0.0.1:1", false },
        { "unix:/a", "ssh://host/a", false },
        { "unix:/a", "tcp:localhost.example:1", false },
        { "tcp:host:1", "tcp:host:2", true },
        { "tcp:host:1", "tcp:HOST:2", true },
        { "tcp:host:1", "ssh://host/a", true },
        { "ssh://u@host/a", "ssh://v@host:22/b", true },
        { "tcp:host:1", "tcp:host2:1", false },
        { "tcp:127.0.0.1:1", "tcp:[::1]:2", true },
        { "tcp:127.0.0.1:1", "tcp:host:1", false },
        { "tcp:[2001:db8::7]:1", "ssh://[2001:db8::7]/a", true },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(CtlEndpoint) a = endpoint_of(cases[i].a);
        g_autoptr(CtlEndpoint) b = endpoint_of(cases[i].b);

        if (ctl_endpoint_share_host(a, b) != cases[i].share ||
            ctl_endpoint_share_host(b, a) != cases[i].share) {
            fail_msg("%s and %s", cases[i].a, cases[i].b);
        }
    }
    ctl_endpoint_free(NULL);
}

/* ---- pairs.conf ---------------------------------------------------------- */

static char *folder;
static char *conf;

static void write_conf(const char *text)
{
    assert_true(g_file_set_contents(conf, text, -1, NULL));
}

static const char one_pair[] =
    "[web1]\n"
    "sender = unix:/run/a.qmp\n"
    "receiver = ssh://root@far/run/b.qmp\n";

static CtlPair *found(const char *name)
{
    GError *err = NULL;
    CtlPair *pair = ctl_pair_find(name, &err);

    if (!pair) {
        fail_msg("%s", err->message);
    }
    return pair;
}

static void test_pair_of_the_file(void **state)
{
    g_autoptr(CtlPair) pair = NULL;

    (void)state;
    write_conf("# A comment\n"
               "[web1]\n"
               "sender = unix:/run/a.qmp\n"
               "receiver = ssh://root@far:2222/run/b.qmp\n"
               "address = 10.0.0.2:7000\n"
               "back-address=10.0.0.1:7000\n"
               "allow-plaintext = true\n"
               "interval = 50ms\n"
               "max-round-bytes = 1073741824\n"
               "on-limit = throttle\n"
               "\n"
               "[db]\n"
               "sender = tcp:host:1\n"
               "receiver = tcp:host:2\n");
    pair = found("web1");
    assert_string_equal(pair->name, "web1");
    assert_string_equal(pair->ends[0].endpoint->text, "unix:/run/a.qmp");
    assert_int_equal(pair->ends[1].endpoint->kind, CTL_ENDPOINT_SSH);
    assert_int_equal(pair->ends[1].endpoint->port, 2222);
    assert_string_equal(pair->address, "10.0.0.2:7000");
    assert_string_equal(pair->back_address, "10.0.0.1:7000");
    assert_true(pair->allow_plaintext);
    assert_int_equal(pair->settings->len, 6);
    assert_string_equal(g_ptr_array_index(pair->settings, 0), "interval");
    assert_string_equal(g_ptr_array_index(pair->settings, 1), "50ms");
    assert_string_equal(g_ptr_array_index(pair->settings, 2),
                        "max-round-bytes");
    assert_string_equal(g_ptr_array_index(pair->settings, 3), "1073741824");
    assert_string_equal(g_ptr_array_index(pair->settings, 4), "on-limit");
    assert_string_equal(g_ptr_array_index(pair->settings, 5), "throttle");
    assert_false(pair->swapped);
    assert_ptr_equal(ctl_pair_sender(pair), &pair->ends[0]);
    assert_ptr_equal(ctl_pair_receiver(pair), &pair->ends[1]);
    ctl_pair_free(g_steal_pointer(&pair));
    pair = found("db");
    assert_null(pair->address);
    assert_null(pair->back_address);
    assert_false(pair->allow_plaintext);
    assert_int_equal(pair->settings->len, 0);
    ctl_pair_free(NULL);
}

static void test_only_pair_needs_no_name(void **state)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;

    (void)state;
    write_conf(one_pair);
    pair = found(NULL);
    assert_string_equal(pair->name, "web1");
    write_conf("[b]\nsender=unix:/a\nreceiver=unix:/b\n"
               "[a]\nsender=unix:/a\nreceiver=unix:/b\n");
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "which pair? Name one");
}

static void test_no_such_pair(void **state)
{
    GError *err = NULL;

    (void)state;
    write_conf(one_pair);
    assert_null(ctl_pair_find("wbe1", &err));
    assert_error(err, CTL_ERROR_USAGE, "unknown pair wbe1; did you mean web1?");
    err = NULL;
    assert_null(ctl_pair_find("database", &err));
    assert_contains(err->message, conf);
    assert_error(err, CTL_ERROR_USAGE, "or give --sender and --receiver");
    err = NULL;
    assert_null(ctl_pair_find("\x1b[31m\xff", &err));
    assert_error(err, CTL_ERROR_USAGE, "unknown pair ?[31m");
}

static void test_no_file(void **state)
{
    g_auto(GStrv) names = NULL;
    GError *err = NULL;

    (void)state;
    g_unlink(conf);
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "Give --sender and --receiver");
    err = NULL;
    assert_null(ctl_pair_find("web1", &err));
    assert_error(err, CTL_ERROR_USAGE, "unknown pair web1");
    err = NULL;
    names = ctl_pair_names(&err);
    assert_null(err);
    assert_int_equal(g_strv_length(names), 0);
}

static void test_names(void **state)
{
    g_auto(GStrv) names = NULL;
    GError *err = NULL;

    (void)state;
    /* Whether they are right is another question. */
    write_conf("[b]\nsender=unix:/a\nreceiver=unix:/b\n"
               "[a]\nsender=/a\n[c d]\n[b]\n");
    names = ctl_pair_names(&err);
    assert_null(err);
    assert_int_equal(g_strv_length(names), 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "c d");
}

typedef struct BadConf {
    const char *text;
    const char *part;
} BadConf;

#define WEB1(lines) \
    "[web1]\nsender=unix:/a\nreceiver=unix:/b\n" lines

static const BadConf bad_confs[] = {
    { "[web1]\nreceiver=unix:/b\n", "[web1]: pair web1 has no \"sender\"" },
    { "[web1]\nsender=unix:/b\n", "pair web1 has no \"receiver\"" },
    { "[web1]\n", "pair web1 has no \"sender\"" },
    { "[web1]\nsender=unix:/a\nreceiver=/b\n", "\"/b\" is no endpoint" },
    { "[web1]\nsender=\nreceiver=/b\n", "\"\" is no endpoint" },
    { "[web1]\nsender=unix:/a\nreciever=unix:/b\n",
      "unknown key reciever; did you mean receiver?" },
    { WEB1("adress=10.0.0.1:7000\n"),
      "unknown key adress; did you mean address?" },
    { WEB1("allow-plain-text=true\n"), "did you mean allow-plaintext?" },
    { WEB1("intreval=50ms\n"), "intreval; did you mean interval?" },
    { WEB1("frobnicate=1\n"), "frobnicate" },
    { WEB1("interval=50\n"), "interval cannot be 50; give it a unit" },
    { WEB1("interval=\n"), "interval cannot be" },
    { WEB1("on-limit=panic\n"), "stretch, throttle, unprotect" },
    { WEB1("interval=\xff\n"), "interval" },
    { WEB1("allow-plaintext=perhaps\n"), "allow-plaintext" },
};

/* Each sentence names the file, and the pair in it. */
static void test_bad_pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(bad_confs); i++) {
        GError *err = NULL;

        write_conf(bad_confs[i].text);
        if (ctl_pair_find("web1", &err)) {
            fail_msg("taken: %s", bad_confs[i].text);
        }
        assert_contains(err->message, conf);
        assert_contains(err->message, "[web1]: ");
        assert_error(err, CTL_ERROR_FAILED, bad_confs[i].part);
    }
}

/* A value that glib cannot read is not as good as none. */
static void test_value_that_is_no_text(void **state)
{
    static const char *const lines[] = {
        WEB1("address=\xff\n"), WEB1("back-address=10.0.0.1:7000\xff\n"),
        "[web1]\nsender=unix:/a\xff\nreceiver=unix:/b\n",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        GError *err = NULL;
        g_autoptr(CtlPair) pair = NULL;

        write_conf(lines[i]);
        pair = ctl_pair_find("web1", &err);
        if (pair) {
            fail_msg("line %zu is taken, with address %s, back %s, sender %s",
                     i, pair->address, pair->back_address,
                     pair->ends[0].endpoint->text);
        }
        assert_error(err, CTL_ERROR_FAILED, conf);
    }
}

/* As a file, it is none: all commands say so, whatever they look for. */
static void test_broken_file(void **state)
{
    static const char *const texts[] = {
        "nonsense\n", "sender=unix:/a\n", "[web1\nsender=unix:/a\n", "[]\n",
        "[web1]\nno equals sign\n",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(GStrv) names = NULL;
        GError *err = NULL;

        write_conf(texts[i]);
        assert_null(ctl_pair_find("web1", &err));
        assert_error(err, CTL_ERROR_FAILED, conf);
        err = NULL;
        names = ctl_pair_names(&err);
        assert_int_equal(g_strv_length(names), 0);
        assert_error(err, CTL_ERROR_FAILED, conf);
        err = NULL;
        assert_null(ctl_pair_find(NULL, &err));
        assert_error(err, CTL_ERROR_FAILED, conf);
    }
}

static void test_folder_for_a_file(void **state)
{
    GError *err = NULL;

    (void)state;
    g_setenv("CURLING_PAIRS", folder, TRUE);
    assert_null(ctl_pair_find("web1", &err));
    g_setenv("CURLING_PAIRS", conf, TRUE);
    assert_error(err, CTL_ERROR_FAILED, folder);
}

/* Without CURLING_PAIRS: ~/.config/curling/pairs.conf, then that in /etc */
static void test_file_of_the_user(void **state)
{
    g_autofree char *inside = g_build_filename(folder, "curling", NULL);
    g_autofree char *own = g_build_filename(inside, "pairs.conf", NULL);
    g_autoptr(CtlPair) pair = NULL;

    (void)state;
    write_conf("[other]\nsender=unix:/a\nreceiver=unix:/b\n");
    g_setenv("CURLING_PAIRS", "", TRUE);
    assert_int_equal(g_mkdir(inside, 0700), 0);
    assert_true(g_file_set_contents(own, one_pair, -1, NULL));
    pair = ctl_pair_find("web1", NULL);
    g_unlink(own);
    g_rmdir(inside);
    g_setenv("CURLING_PAIRS", conf, TRUE);
    assert_non_null(pair);
    assert_string_equal(pair->ends[0].endpoint->text, "unix:/run/a.qmp");
}

/* Both, or neither; then no file is looked at. */
static void test_sender_and_receiver_options(void **state)
{
    char sender[] = "unix:/a";
    char receiver[] = "tcp:[::1]:4444";
    char wrong[] = "/a";
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;

    (void)state;
    write_conf("nonsense\n");
    ctl_sender_option = sender;
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "--sender and --receiver go together");
    err = NULL;
    assert_null(ctl_pair_find("web1", &err));
    assert_error(err, CTL_ERROR_USAGE, "not both");
    ctl_receiver_option = receiver;
    err = NULL;
    assert_null(ctl_pair_find("web1", &err));
    assert_error(err, CTL_ERROR_USAGE, "not both");
    pair = found(NULL);
    assert_null(pair->name);
    assert_string_equal(pair->ends[0].endpoint->path, "/a");
    assert_int_equal(pair->ends[1].endpoint->port, 4444);
    assert_int_equal(pair->settings->len, 0);
    ctl_sender_option = NULL;
    err = NULL;
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "--sender and --receiver go together");
    ctl_sender_option = wrong;
    err = NULL;
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "\"/a\" is no endpoint");
    ctl_sender_option = sender;
    ctl_receiver_option = wrong;
    err = NULL;
    assert_null(ctl_pair_find(NULL, &err));
    assert_error(err, CTL_ERROR_USAGE, "\"/a\" is no endpoint");
}

/* ---- Verdicts ------------------------------------------------------------ */

/* What an end says: "role state", and after these "+" and what is lagging, or
 * "!" and the last error.  "-": nothing, it does not answer; "none": it has no
 * Curling.  "@" before it: and its status is inmigrate. */
static void fill_end(CtlEnd *end, const char *says)
{
    g_auto(GStrv) words = NULL;
    bool waits = *says == '@';

    end->endpoint = endpoint_of("unix:/a");
    says += waits;
    if (g_str_equal(says, "-")) {
        end->error = g_error_new(CTL_ERROR, CTL_ERROR_LOST, "unix:/a: gone");
        return;
    }
    end->status = ctl_json_new("{s:s}", "status", waits ? "inmigrate" :
                               "running");
    if (g_str_equal(says, "none")) {
        end->error = g_error_new(CTL_ERROR, CTL_ERROR_NO_COMMAND,
                                 "unix:/a: The command query-curling has not "
                                 "been found");
        return;
    }
    words = g_strsplit(says, " ", 3);
    end->info = ctl_json_new("{s:s, s:s}", "role", words[0], "state",
                             words[1]);
    if (words[2]) {
        assert_true(*words[2] == '+' || *words[2] == '!');
        ctl_json_set(end->info, *words[2] == '+' ? "lagging" : "last-error",
                     ctl_json_new("s", words[2] + 1));
    }
}

static CtlPair *pair_that_says(const char *first, const char *second,
                               bool swapped)
{
    CtlPair *pair = g_new0(CtlPair, 1);

    fill_end(&pair->ends[0], first);
    fill_end(&pair->ends[1], second);
    pair->swapped = swapped;
    return pair;
}

#define PROTECTED CTL_VERDICT_PROTECTED
#define SYNCING CTL_VERDICT_SYNCING
#define UNPROTECTED CTL_VERDICT_UNPROTECTED
#define OVER CTL_VERDICT_FAILED_OVER
#define UNKNOWN CTL_VERDICT_UNKNOWN

typedef struct Verdict {
    const char *sender;
    const char *receiver;
    CtlVerdict verdict;
    const char *part;           /* of the sentence; NULL: there is none */
} Verdict;

static const Verdict verdicts[] = {
    /* A pair as it should be, from its begin on */
    { "none idle", "none idle", UNPROTECTED, "nobody protects this guest yet" },
    { "none idle", "receiver listening", UNPROTECTED, "nobody protects" },
    { "sender connecting", "receiver listening", SYNCING, NULL },
    { "sender connecting", "receiver failed", SYNCING, NULL },
    { "sender syncing", "receiver syncing", SYNCING, NULL },
    { "sender syncing", "receiver listening", SYNCING, NULL },
    { "sender protected", "receiver standby", PROTECTED, NULL },
    { "sender protected", "receiver syncing", PROTECTED, NULL },
    { "sender stopped", "receiver listening", UNPROTECTED, "on request" },
    /* Something is stuck: on either side */
    { "sender protected +the disk is slow", "receiver standby", UNPROTECTED,
      "the disk is slow" },
    { "sender protected", "receiver listening", UNPROTECTED, "no pair" },
    { "sender protected", "none idle", UNPROTECTED, "no pair" },
    { "sender protected", "sender protected", UNPROTECTED, "no pair" },
    { "sender protected", "receiver standby +its main loop hangs", UNPROTECTED,
      "its main loop hangs" },
    { "sender protected +here", "receiver standby +there", UNPROTECTED,
      "here" },
    { "sender protected +\x1b[31m", "receiver standby", UNPROTECTED,
      "?[31m" },
    /* The receiver is gone */
    { "sender protected", "-", PROTECTED, NULL },
    { "sender protected", "none", PROTECTED, NULL },
    { "sender unprotected", "-", UNPROTECTED, "the sender goes on trying" },
    { "sender unprotected !no route", "-", UNPROTECTED, ": no route" },
    { "sender unprotected !\x1b]0;x\x07", "receiver suspect", UNPROTECTED,
      "?]0;x?" },
    { "sender unprotected", "receiver suspect", UNPROTECTED, "goes on trying" },
    { "sender failed !a disk is writable", "receiver listening", UNPROTECTED,
      "protection has failed: a disk is writable" },
    { "sender failed", "receiver failed", UNPROTECTED,
      "protection has failed" },
    { "sender connecting", "-", SYNCING, NULL },
    { "none idle", "-", UNPROTECTED, "nobody protects" },
    { "sender stopped", "-", UNPROTECTED, "on request" },
    /* The sender is gone */
    { "-", "receiver suspect", UNPROTECTED, "curlingctl failover" },
    { "-", "receiver failed", UNPROTECTED, "no round it could start (failed)" },
    { "-", "receiver listening", UNPROTECTED,
      "no round it could start (listening)" },
    { "-", "receiver standby", UNKNOWN, "unix:/a: gone" },
    { "-", "receiver syncing", UNKNOWN, "unix:/a: gone" },
    { "-", "none idle", UNKNOWN, "unix:/a: gone" },
    { "-", "receiver active", OVER, "the receiver took over" },
    { "-", "-", UNKNOWN, "unix:/a: gone" },
    { "-", "none", UNKNOWN, "unix:/a: gone" },
    /* A sender without Curling */
    { "none", "none", UNPROTECTED, "this QEMU has no Curling" },
    { "none", "-", UNPROTECTED, "this QEMU has no Curling" },
    { "none", "none idle", UNPROTECTED, "this QEMU has no Curling" },
    { "none", "receiver standby", UNPROTECTED, "this QEMU has no Curling" },
    /* After a takeover */
    { "sender fenced", "receiver active", OVER, "took over" },
    { "sender fenced", "-", OVER, "fenced" },
    { "sender fenced", "receiver standby", OVER, "fenced" },
    { "sender fenced", "receiver suspect", OVER, "fenced" },
    { "sender protected", "receiver active", OVER, "took over" },
    { "none idle", "receiver active", OVER, "took over" },
    { "none", "receiver active", OVER, "took over" },
    { "receiver active", "-", OVER, "nobody protects it yet" },
    { "receiver active", "receiver listening", OVER, "nobody protects it" },
    { "receiver active", "sender fenced", OVER, "took" },
    { "receiver active", "none idle", OVER, "nobody protects it yet" },
    { "receiver active", "receiver active", OVER, "took" },
};

static void check_verdict(const Verdict *v, bool swapped)
{
    g_autoptr(CtlPair) pair = swapped ?
        pair_that_says(v->receiver, v->sender, true) :
        pair_that_says(v->sender, v->receiver, false);
    g_autofree char *why = NULL;
    CtlVerdict verdict = ctl_pair_verdict(pair, &why);

    if (verdict != v->verdict) {
        fail_msg("%s, %s: %s (%s)", v->sender, v->receiver,
                 ctl_verdict_word(verdict), why ? why : "no reason");
    }
    if (!v->part != !why || (why && !strstr(why, v->part))) {
        fail_msg("%s, %s: \"%s\" does not say \"%s\"", v->sender, v->receiver,
                 why ? why : "(nothing)", v->part ? v->part : "(nothing)");
    }
    if (why) {
        assert_clean(why);
    }
    assert_int_equal(ctl_pair_verdict(pair, NULL), verdict);
}

/* @pair->swapped is ctl_pair_ask()'s (see test-ctl-qmp); with it the ends have
 * changed their places, and nothing else is different. */
static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(verdicts); i++) {
        check_verdict(&verdicts[i], false);
        check_verdict(&verdicts[i], true);
    }
}

static const char *const everything[] = {
    "-", "none", "none idle", "sender connecting", "sender syncing",
    "sender protected", "sender unprotected", "sender fenced",
    "sender stopped", "sender failed", "receiver listening",
    "receiver syncing", "receiver standby", "receiver suspect",
    "receiver active", "receiver failed", "sender protected +x",
    "receiver standby +x", "x y",
};

/* Protected is what a sender says, and nobody else. */
static void test_nothing_else_is_protected(void **state)
{
    static const char *const fitting[] = {
        "-", "none", "receiver syncing", "receiver standby",
        "receiver suspect", "receiver failed", NULL
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(everything) *
                           G_N_ELEMENTS(everything); i++) {
        const char *a = everything[i / G_N_ELEMENTS(everything)];
        const char *b = everything[i % G_N_ELEMENTS(everything)];
        g_autoptr(CtlPair) pair = pair_that_says(a, b, false);
        g_autofree char *why = NULL;
        CtlVerdict verdict = ctl_pair_verdict(pair, &why);

        if ((verdict == PROTECTED) !=
            (g_str_equal(a, "sender protected") &&
             g_strv_contains(fitting, b))) {
            fail_msg("%s, %s: %s", a, b, ctl_verdict_word(verdict));
        }
        /* What is not well has a reason. */
        if (!why && verdict != PROTECTED && verdict != SYNCING) {
            fail_msg("%s, %s: no reason", a, b);
        }
    }
}

/* Of two that both stand by, nobody goes on trying. */
static void test_reason_fits_who_is_no_sender(void **state)
{
    static const char *const states[] = {
        "receiver listening", "receiver standby", "receiver suspect",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autoptr(CtlPair) pair = pair_that_says(states[i],
                                                 "receiver listening", false);
        g_autofree char *why = NULL;

        assert_int_equal(ctl_pair_verdict(pair, &why), UNPROTECTED);
        if (strstr(why, "goes on trying")) {
            fail_msg("%s: %s", states[i], why);
        }
    }
}

/* "Does not answer" is not said of one that did. */
static void test_reason_of_a_sender_without_curling(void **state)
{
    static const char *const states[] = {
        "receiver listening", "receiver failed", "receiver suspect",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autoptr(CtlPair) pair = pair_that_says("none", states[i], false);
        g_autofree char *why = NULL;

        assert_int_equal(ctl_pair_verdict(pair, &why), UNPROTECTED);
        if (strstr(why, "does not answer")) {
            fail_msg("%s: %s", states[i], why);
        }
    }
}

static void test_words_and_exit_statuses(void **state)
{
    static const struct {
        CtlVerdict verdict;
        const char *word;
        int status;
    } all[] = {
        { PROTECTED, "protected", 0 }, { SYNCING, "syncing", 3 },
        { UNPROTECTED, "not protected", 4 }, { OVER, "failed over", 5 },
        { UNKNOWN, "unknown", 1 },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        assert_string_equal(ctl_verdict_word(all[i].verdict), all[i].word);
        assert_int_equal(ctl_verdict_exit(all[i].verdict), all[i].status);
    }
}

static void test_need(void **state)
{
    g_autoptr(CtlPair) pair = pair_that_says("sender protected", "-", false);
    g_autoptr(CtlPair) old = pair_that_says("none", "receiver standby", false);
    g_autoptr(CtlPair) both = pair_that_says("sender protected",
                                             "receiver standby", false);
    GError *err = NULL;

    (void)state;
    assert_true(ctl_end_need(&pair->ends[0], &err));
    assert_null(err);
    assert_false(ctl_end_need(&pair->ends[1], &err));
    assert_error(err, CTL_ERROR_LOST, "unix:/a: gone");
    err = NULL;
    assert_false(ctl_pair_need_both(pair, &err));
    assert_error(err, CTL_ERROR_LOST, "unix:/a: gone");
    err = NULL;
    assert_false(ctl_pair_need_both(old, &err));
    assert_error(err, CTL_ERROR_NO_COMMAND, "this QEMU has no Curling");
    err = NULL;
    assert_true(ctl_pair_need_both(both, &err));
    assert_null(err);
    assert_string_equal(ctl_end_state(&both->ends[0]), "protected");
    assert_string_equal(ctl_end_role(&both->ends[1]), "receiver");
    assert_string_equal(ctl_end_state(&pair->ends[1]), "");
    assert_string_equal(ctl_end_role(&pair->ends[1]), "");
    assert_string_equal(ctl_pair_role_of(both, &both->ends[0]), "sender");
    assert_string_equal(ctl_pair_role_of(both, &both->ends[1]), "receiver");
    both->swapped = true;
    assert_string_equal(ctl_pair_role_of(both, &both->ends[0]), "receiver");
    assert_ptr_equal(ctl_pair_sender(both), &both->ends[1]);
    assert_ptr_equal(ctl_pair_receiver(both), &both->ends[0]);
}

/* ---- Frame --------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    alarm(120);
    ctl_sender_option = NULL;
    ctl_receiver_option = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ctl_sender_option = NULL;
    ctl_receiver_option = NULL;
    alarm(0);
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    folder = g_dir_make_tmp("test-ctl-pair-XXXXXX", NULL);
    if (!folder) {
        return -1;
    }
    conf = g_build_filename(folder, "pairs.conf", NULL);
    g_setenv("CURLING_PAIRS", conf, TRUE);
    g_setenv("XDG_CONFIG_HOME", folder, TRUE);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    g_unlink(conf);
    g_rmdir(folder);
    g_free(conf);
    g_free(folder);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_good_endpoints),
        CASE(test_bad_endpoints),
        CASE(test_share_host),
        CASE(test_pair_of_the_file),
        CASE(test_only_pair_needs_no_name),
        CASE(test_no_such_pair),
        CASE(test_no_file),
        CASE(test_names),
        CASE(test_bad_pairs),
        CASE(test_value_that_is_no_text),
        CASE(test_broken_file),
        CASE(test_folder_for_a_file),
        CASE(test_file_of_the_user),
        CASE(test_sender_and_receiver_options),
        CASE(test_verdicts),
        CASE(test_nothing_else_is_protected),
        CASE(test_reason_fits_who_is_no_sender),
        CASE(test_reason_of_a_sender_without_curling),
        CASE(test_words_and_exit_statuses),
        CASE(test_need),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
