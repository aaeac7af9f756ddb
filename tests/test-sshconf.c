/*
 * Fault: a host that ssh(1) reaches, under one name, is another one for
 * curlingctl, or a line of ~/.ssh/config is misread.
 * Invariant: what is read of it is what ssh(1) reads; what would lead
 * elsewhere, or is wrong, is an error that says where it stands.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "ctl-sshconf.h"

/* Instead of the user's name, and of the two folders, in what is expected */
#define ME "ME"
#define DEFAULT_KEYS "~/.ssh/id_ed25519 ~/.ssh/id_ecdsa ~/.ssh/id_rsa"
#define ETC_HOSTS "/etc/ssh_known_hosts /etc/ssh_known_hosts2"

typedef struct Case {
    const char *name;
    const char *config;         /* ~/.ssh/config; NULL: there is none */
    const char *system;         /* /etc/ssh/ssh_config */
    const char *host;           /* NULL: "web1" */
    const char *user;           /* of the endpoint */
    int port;
    /* What is expected; NULL: anything */
    const char *target;         /* user@hostname:port */
    const char *identities;
    const char *known_hosts;
    const char *only;           /* "yes" or "no" */
    const char *error;          /* a part of it */
} Case;

static char *dir;
static char *home;
static char *etc;

static void write_file(const char *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);

    assert_int_equal(g_mkdir_with_parents(parent, 0700), 0);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(g_chmod(path, 0600), 0);
}

static void remove_file(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    g_unlink(path);
}

/* With "~" and "/etc" for the two folders */
static char *shorten(const char *text)
{
    g_autoptr(GString) shorter = g_string_new(text);

    g_string_replace(shorter, home, "~", 0);
    g_string_replace(shorter, etc, "/etc", 0);
    return g_strdup(shorter->str);
}

static char *list(char **paths)
{
    g_autofree char *joined = g_strjoinv(" ", paths);

    return shorten(joined);
}

static void expect_text(const Case *c, const char *what, const char *got,
                        const char *expected)
{
    if (expected && strcmp(got, expected)) {
        fail_msg("%s: the %s: got '%s', expected '%s'", c->name, what, got,
                 expected);
    }
}

static void check(const Case *c, const CtlSshConf *conf)
{
    g_autofree char *identities = list(conf->identities);
    g_autofree char *known_hosts = list(conf->known_hosts);
    bool is_me = !strcmp(conf->user, g_get_user_name());
    g_autofree char *target =
        g_strdup_printf("%s@%s:%d", is_me ? ME : conf->user, conf->hostname,
                        conf->port);

    expect_text(c, "target", target, c->target);
    expect_text(c, "identities", identities, c->identities);
    expect_text(c, "known hosts", known_hosts, c->known_hosts);
    expect_text(c, "IdentitiesOnly", conf->identities_only ? "yes" : "no",
                c->only);
}

static void run(const Case *c)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(CtlSshConf) conf = NULL;
    g_autofree char *message = NULL;

    remove_file(home, ".ssh/config");
    remove_file(etc, "ssh_config");
    if (c->config) {
        write_file(home, ".ssh/config", c->config);
    }
    if (c->system) {
        write_file(etc, "ssh_config", c->system);
    }
    conf = ctl_sshconf_read(home, etc, c->host ? c->host : "web1", c->user,
                            c->port, &err);
    message = err ? shorten(err->message) : NULL;
    if (c->error) {
        if (!err || !strstr(message, c->error)) {
            fail_msg("%s: got '%s', expected an error: '%s'", c->name,
                     err ? message : "no error", c->error);
        }
        assert_null(conf);
        assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_FAILED));
        return;
    }
    if (err) {
        fail_msg("%s: got an error: '%s'", c->name, message);
    }
    check(c, conf);
}

static void run_all(const Case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        run(&cases[i]);
    }
}

#define RUN_ALL(cases) run_all(cases, G_N_ELEMENTS(cases))

static void test_defaults(void **state)
{
    static const Case cases[] = {
        { .name = "no files", .target = ME "@web1:22",
          .identities = DEFAULT_KEYS, .only = "no",
          .known_hosts = "~/.ssh/known_hosts ~/.ssh/known_hosts2 "
                         ETC_HOSTS },
        { .name = "empty files", .config = "", .system = "",
          .target = ME "@web1:22" },
        { .name = "of the endpoint", .user = "ada", .port = 2222,
          .target = "ada@web1:2222" },
        { .name = "the endpoint comes first", .user = "ada", .port = 2222,
          .config = "User bob\nPort 1\n", .target = "ada@web1:2222" },
        { .name = "small letters", .host = "Web1.EXAMPLE",
          .target = ME "@web1.example:22" },
        { .name = "IPv6", .host = "2001:DB8::1",
          .target = ME "@2001:db8::1:22" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_hosts(void **state)
{
    static const Case cases[] = {
        { .name = "the one", .config = "Host web1\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "another", .config = "Host web2\nPort 1\n",
          .target = ME "@web1:22" },
        { .name = "no prefix", .config = "Host web\nPort 1\n",
          .target = ME "@web1:22" },
        { .name = "one of several", .config = "Host a web1 b\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "a star", .config = "Host w*1\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "a star for nothing", .config = "Host web1*\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "a question mark", .config = "Host we?1\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "one is not none", .config = "Host web1?\nPort 1\n",
          .target = ME "@web1:22" },
        { .name = "not this one", .config = "Host * !web1\nPort 1\n",
          .target = ME "@web1:22" },
        { .name = "not that one", .config = "Host * !web2\nPort 1\n",
          .target = ME "@web1:1" },
        { .name = "only not that one", .config = "Host !web2\nPort 1\n",
          .target = ME "@web1:22" },
        { .name = "as it is written", .host = "Web1",
          .config = "Host web1\nPort 1\nHost Web1\nPort 2\n",
          .target = ME "@web1:2" },
        { .name = "before the first Host", .target = ME "@web1:1",
          .config = "Port 1\nHost web2\nPort 2\n" },
        { .name = "the first counts", .target = "bob@web1:1",
          .config = "Host web1\nPort 1\nHost *\nPort 2\nUser bob\n" },
        { .name = "the name that was given, not HostName",
          .config = "Host web1\nHostName other\nHost other\nPort 1\n",
          .target = ME "@other:22" },
        { .name = "the user's file first", .target = "bob@web1:1",
          .config = "Port 1\n", .system = "Port 2\nUser bob\n" },
        { .name = "a Host ends with its file", .target = ME "@web1:22",
          .config = "Host web1\n", .system = "Host web2\nPort 2\n" },
        { .name = "Match is left out", .target = ME "@web1:3",
          .config = "Match host web1\nPort 1\nMatch all\nPort 2\n"
                    "Host web1\nPort 3\n" },
        { .name = "in Match nothing is wrong", .target = ME "@web1:22",
          .config = "Match host web1\nPort x\nProxyJump y\n" },
        { .name = "nor at another host", .target = ME "@web1:22",
          .config = "Host web2\nPort x\nProxyJump y\nUser a b c\n" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_values(void **state)
{
    static const Case cases[] = {
        { .name = "HostName", .config = "HostName 192.0.2.1\n",
          .target = ME "@192.0.2.1:22" },
        { .name = "HostName %h", .config = "HostName %h.example.org\n",
          .target = ME "@web1.example.org:22" },
        { .name = "HostName %%", .config = "HostName fe80::1%%eth0\n",
          .target = ME "@fe80::1%eth0:22" },
        { .name = "HostName in small letters", .config = "HostName WEB.Example",
          .target = ME "@web.example:22" },
        { .name = "User", .config = "User bob\n", .target = "bob@web1:22" },
        { .name = "IdentitiesOnly", .config = "IdentitiesOnly yes\n",
          .only = "yes" },
        { .name = "IdentitiesOnly, once",
          .config = "IdentitiesOnly no\nIdentitiesOnly yes\n", .only = "no" },
        { .name = "IdentitiesOnly true", .config = "IdentitiesOnly TRUE\n",
          .only = "yes" },
        { .name = "no proxy", .target = ME "@web1:22",
          .config = "ProxyJump none\nProxyCommand none\n" },
        { .name = "no proxy any more", .target = ME "@web1:22",
          .config = "ProxyJump none\nHost *\nProxyCommand nc %h\n" },
        { .name = "what is not known", .target = ME "@web1:1",
          .config = "ForwardAgent yes\nNoSuchWord \"\nPort 1\n" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_paths(void **state)
{
    static const Case cases[] = {
        { .name = "one", .config = "IdentityFile ~/key\n",
          .identities = "~/key" },
        { .name = "they add up", .identities = "~/a /b c",
          .config = "IdentityFile ~/a\nHost web1\nIdentityFile /b\n"
                    "Host web2\nIdentityFile /x\nHost *\nIdentityFile c\n" },
        { .name = "each once", .identities = "~/a",
          .config = "IdentityFile ~/a\nIdentityFile %d/a\n" },
        { .name = "none", .config = "IdentityFile none\n",
          .identities = "" },
        { .name = "signs", .user = "bob", .port = 23,
          .config = "HostName real\n"
                    "IdentityFile %d/%h-%n-%r-%p-100%%\n",
          .identities = "~/real-web1-bob-23-100%" },
        { .name = "what comes later counts in signs",
          .config = "IdentityFile /%r-%h\nUser bob\nHostName real\n",
          .identities = "/bob-real" },
        { .name = "of the environment",
          .config = "IdentityFile ${TEST_SSHCONF}/a$b\n",
          .identities = "/somewhere/a$b" },
        { .name = "known hosts", .known_hosts = "~/k1 /k2 " ETC_HOSTS,
          .config = "UserKnownHostsFile ~/k1 /k2\n"
                    "UserKnownHostsFile /k3\n" },
        { .name = "known hosts by name", .known_hosts = "/k-web1 " ETC_HOSTS,
          .config = "UserKnownHostsFile /k-%h\n" },
        { .name = "no known hosts", .known_hosts = ETC_HOSTS,
          .config = "UserKnownHostsFile none\n" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_syntax(void **state)
{
    static const Case cases[] = {
        { .name = "small letters", .config = "port 1\nUSER bob\n",
          .target = "bob@web1:1" },
        { .name = "blanks", .config = " \t Port \t 1 \t\r\n\n   \n",
          .target = ME "@web1:1" },
        { .name = "equals", .config = "Port=1\nUser = bob\nHostName= x\n",
          .target = "bob@x:1" },
        { .name = "no newline", .config = "Port 1", .target = ME "@web1:1" },
        { .name = "comments", .target = ME "@web1:1",
          .config = "# Port 2\n  # Port 3\n#\nPort 1 # Port 4\n" },
        { .name = "no comment", .config = "User a#b\n",
          .target = "a#b@web1:22" },
        { .name = "quotes", .config = "IdentityFile \"~/a b\" # c\n",
          .identities = "~/a b" },
        { .name = "single quotes", .config = "User 'a \"b'\n",
          .target = "a \"b@web1:22" },
        { .name = "quotes within", .config = "User a\" \"b\n",
          .target = "a b@web1:22" },
        { .name = "backslashes", .config = "User a\\ b\\\"c\\\\d\\e\n",
          .target = "a b\"c\\d\\e@web1:22" },
        { .name = "quoted host", .config = "Host \"web1\"\nPort 1\n",
          .target = ME "@web1:1" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_errors(void **state)
{
    static const Case cases[] = {
        { .name = "the place", .config = "\n# x\nPort 0\n",
          .error = "~/.ssh/config:3: Port is \"0\"" },
        { .name = "the place in the other file", .system = "Port x\n",
          .error = "/etc/ssh_config:1: Port is \"x\"" },
        { .name = "a port too large", .config = "Port 65536\n",
          .error = ":1: Port is \"65536\", expected 1 to 65535" },
        { .name = "a port and more", .config = "Port 22x\n",
          .error = ":1: Port is" },
        { .name = "nothing", .config = "Port\n", .error = ":1: Port of what?" },
        { .name = "nothing but a comment", .config = "User # bob\n",
          .error = ":1: User of what?" },
        { .name = "nothing in quotes", .config = "HostName \"\"\n",
          .error = ":1: HostName is empty" },
        { .name = "too much", .config = "User bob ada\n",
          .error = ":1: \"ada\" is too much after User bob" },
        { .name = "quotes", .config = "User \"bob\n",
          .error = ":1: quotes do not end" },
        { .name = "yes or no", .config = "IdentitiesOnly perhaps\n",
          .error = ":1: IdentitiesOnly is \"perhaps\"" },
        { .name = "a sign in HostName", .config = "HostName %p\n",
          .error = ":1: HostName may have %h" },
        { .name = "half a sign in HostName", .config = "HostName x%\n",
          .error = ":1: HostName may have %h" },
        { .name = "a sign", .config = "\nIdentityFile ~/%C\n",
          .error = "config:2: \"~/%C\" is not understood" },
        { .name = "half a sign", .config = "IdentityFile /a%\n",
          .error = "config:1: \"/a%\" is not understood" },
        { .name = "somebody's home", .config = "IdentityFile ~bob/k\n",
          .error = "config:1: \"~bob/k\" is not understood" },
        { .name = "no such variable",
          .config = "UserKnownHostsFile ${TEST_SSHCONF_NOT}/k\n",
          .error = "config:1: \"${TEST_SSHCONF_NOT}/k\"" },
        { .name = "a jump", .config = "Host web*\n ProxyJump gate\n",
          .error = "~/.ssh/config:2: web1 is only reached through another" },
        { .name = "a proxy", .system = "ProxyCommand nc -X 5 %h %p\n",
          .error = "/etc/ssh_config:1: web1 is only reached through" },
    };

    (void)state;
    RUN_ALL(cases);
}

static void test_include(void **state)
{
    static const Case cases[] = {
        { .name = "beside the config", .config = "Include one\n",
          .target = ME "@web1:1" },
        { .name = "at home", .config = "Include ~/.ssh/one\n",
          .target = ME "@web1:1" },
        { .name = "of the system", .system = "Include sys.d/*.conf\n",
          .target = "carol@web1:22" },
        { .name = "several, in order", .target = "bob@web1:1",
          .config = "Include d/*.conf\n" },
        { .name = "several words", .target = "bob@web1:1",
          .config = "Include one d/2.conf\n" },
        { .name = "none of that name", .target = ME "@web1:5",
          .config = "Include nothing d/*.x\nPort 5\n" },
        { .name = "for a host", .target = ME "@web1:22",
          .config = "Host web2\nInclude one\n" },
        { .name = "for a host, which it cannot change",
          .config = "Host web2\nInclude hosts\nHost web1\nUser bob\n",
          .target = "bob@web1:22" },
        { .name = "a Host within ends with the file", .target = ME "@web1:5",
          .config = "Host web1\nInclude others\nPort 5\n" },
        { .name = "what is included comes first", .target = ME "@web1:1",
          .config = "Include one\nPort 5\n" },
        { .name = "an error within", .config = "Include bad\n",
          .error = "~/.ssh/bad:2: Port is \"x\"" },
        { .name = "itself", .config = "Include config\n",
          .error = "~/.ssh/config:1: more than 16 files include each" },
        { .name = "somebody's home", .config = "Include ~bob/x\n",
          .error = "~/.ssh/config:1: Include ~bob/x" },
        { .name = "a folder", .config = "Include d\n",
          .error = "cannot read ~/.ssh/d" },
    };

    (void)state;
    write_file(home, ".ssh/one", "Port 1\n");
    write_file(home, ".ssh/bad", "\nPort x\n");
    write_file(home, ".ssh/hosts", "Host web1\nPort 1\n");
    write_file(home, ".ssh/others", "Host web2\nPort 1\n");
    write_file(home, ".ssh/d/1.conf", "Port 1\n");
    write_file(home, ".ssh/d/2.conf", "Port 2\nUser bob\n");
    write_file(etc, "sys.d/a.conf", "User carol\n");
    RUN_ALL(cases);
}

/* A file that others can write to says nothing that can be trusted. */
static void test_writable(void **state)
{
    static const Case own = {
        .name = "own", .config = "Port 1\n", .target = ME "@web1:1",
    };
    g_autofree char *path = g_build_filename(home, ".ssh/config", NULL);
    g_autoptr(GError) err = NULL;

    (void)state;
    write_file(home, ".ssh/config", "Port 1\n");
    assert_int_equal(g_chmod(path, 0622), 0);
    assert_null(ctl_sshconf_read(home, etc, "web1", NULL, 0, &err));
    assert_non_null(strstr(err->message, "could be written by others"));
    run(&own);
}

static void test_given(void **state)
{
    static const struct { const char *config; bool given; } cases[] = {
        { "", false },
        { "IdentityFile none\n", true },
        { "IdentityFile ~/.ssh/id_rsa\n", true },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(CtlSshConf) conf = NULL;

        write_file(home, ".ssh/config", cases[i].config);
        conf = ctl_sshconf_read(home, etc, "web1", NULL, 0, NULL);
        assert_non_null(conf);
        assert_int_equal(conf->identities_given, cases[i].given);
    }
}

static int set_up(void **state)
{
    (void)state;
    dir = g_dir_make_tmp("curling-sshconf.XXXXXX", NULL);
    if (!dir) {
        return -1;
    }
    home = g_build_filename(dir, "home", NULL);
    etc = g_build_filename(dir, "etc", NULL);
    g_setenv("TEST_SSHCONF", "/somewhere", TRUE);
    g_unsetenv("TEST_SSHCONF_NOT");
    return g_mkdir(home, 0700) || g_mkdir(etc, 0700);
}

static void remove_tree(const char *path)
{
    GDir *folder = g_dir_open(path, 0, NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    if (folder) {
        g_dir_close(folder);
    }
    g_remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(dir);
    g_free(dir);
    g_free(home);
    g_free(etc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_syntax),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_include),
        cmocka_unit_test(test_writable),
        cmocka_unit_test(test_given),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
