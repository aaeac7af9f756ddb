/*
 * Fault: another host answers in a host's place, a key is revoked, a file of
 * keys is damaged.
 * Invariant: a host's key is accepted if OpenSSH would accept it, and no other
 * one; a file that is no key is found out, whatever is in it.
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

#include "ctl-sshkeys.h"

/* The type and the number of a key */
#define E(number) "ssh-ed25519", number
#define R(number) "ssh-rsa", number

static char *dir;

static void append_string(GByteArray *bytes, const char *text, size_t len)
{
    const guint8 size[4] = { len >> 24, len >> 16, len >> 8, len };

    g_byte_array_append(bytes, size, sizeof(size));
    g_byte_array_append(bytes, (const guint8 *)text, len);
}

/* As good as a key for who only compares them */
static GBytes *make_key(const char *type, const char *number)
{
    GByteArray *bytes = g_byte_array_new();

    append_string(bytes, type, strlen(type));
    append_string(bytes, number, strlen(number));
    return g_byte_array_free_to_bytes(bytes);
}

/* "ssh-rsa AAAA...", as in a file */
static char *key_text(const char *type, const char *number)
{
    g_autoptr(GBytes) key = make_key(type, number);
    gsize len;
    const guchar *bytes = g_bytes_get_data(key, &len);
    g_autofree char *base64 = g_base64_encode(bytes, len);

    return g_strdup_printf("%s %s", type, base64);
}

static char *write_file(const char *name, const char *text)
{
    char *path = g_build_filename(dir, name, NULL);

    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(g_chmod(path, 0600), 0);
    return path;
}

/* ---- known_hosts --------------------------------------------------------- */

/* Lines in which @E1 and the like stand for keys */
static char *known_text(const char *text)
{
    static const struct { const char *sign, *type, *number; } keys[] = {
        { "@E1", E("1") }, { "@E2", E("2") }, { "@R1", R("1") },
        { "@R2", R("2") },
    };
    g_autoptr(GString) lines = g_string_new(text);

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *key = key_text(keys[i].type, keys[i].number);

        g_string_replace(lines, keys[i].sign, key, 0);
    }
    return g_strdup(lines->str);
}

static GPtrArray *read_known(const char *first, const char *second,
                             const char *host, int port)
{
    g_autofree char *text_1 = known_text(first);
    g_autofree char *text_2 = known_text(second ? second : "");
    g_autofree char *file_1 = write_file("known_hosts", text_1);
    g_autofree char *file_2 = write_file("ssh_known_hosts", text_2);
    char *files[] = { file_1, NULL, NULL, NULL };

    files[1] = second ? file_2 : (char *)"/nonexistent/known_hosts";
    return ctl_sshkeys_known(files, host, port);
}

typedef struct HostCase {
    const char *name;
    const char *known;
    const char *host;           /* NULL: "web1" */
    int port;                   /* 0: 22 */
    const char *type;           /* of the key that the host shows */
    const char *number;
    CtlSshVerdict verdict;
    int line;                   /* 0: none is looked at */
} HostCase;

static void run_host(const HostCase *c)
{
    g_autoptr(GPtrArray) known = read_known(c->known, NULL,
                                            c->host ? c->host : "web1",
                                            c->port ? c->port : 22);
    g_autoptr(GBytes) key = make_key(c->type, c->number);
    const CtlSshHostKey *line = NULL;
    CtlSshVerdict verdict = ctl_sshkeys_judge(known, key, &line);

    if (verdict != c->verdict) {
        fail_msg("%s: got %d, expected %d", c->name, verdict, c->verdict);
    }
    if (c->line && (!line || line->line != c->line)) {
        fail_msg("%s: got line %d, expected %d", c->name,
                 line ? line->line : 0, c->line);
    }
}

static void test_hosts(void **state)
{
    static const HostCase cases[] = {
        { "nothing", "", NULL, 0, E("1"), CTL_SSH_UNKNOWN, 0 },
        { "known", "web1 @E1\n", NULL, 0, E("1"), CTL_SSH_KNOWN, 1 },
        { "with a comment", "web1 @E1 me@here\n", NULL, 0, E("1"),
          CTL_SSH_KNOWN, 1 },
        { "blanks", "\n \t web1 \t @E1 \r\n", NULL, 0, E("1"), CTL_SSH_KNOWN,
          2 },
        { "another host", "web2 @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN, 0 },
        { "a host whose name is longer", "web11 @E1\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "changed", "web1 @E2\n", NULL, 0, E("1"), CTL_SSH_CHANGED, 1 },
        { "changed its type", "web1 @R1\n", NULL, 0, E("1"), CTL_SSH_CHANGED,
          1 },
        { "the line of the same type", "web1 @R1\nweb1 @E2\n", NULL, 0, E("1"),
          CTL_SSH_CHANGED, 2 },
        { "one of several", "web1 @R1\nweb1 @E2\nweb1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_KNOWN, 3 },
        { "several names", "a,web1,b @E1\n", NULL, 0, E("1"), CTL_SSH_KNOWN,
          1 },
        { "large letters", "WEB1 @E1\n", NULL, 0, E("1"), CTL_SSH_KNOWN, 1 },
        { "a pattern", "w?b* @E1\n", NULL, 0, E("1"), CTL_SSH_KNOWN, 1 },
        { "not this one", "*,!web1 @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN,
          0 },
        { "an address", "web1,192.0.2.1 @E1\n", "192.0.2.1", 0, E("1"),
          CTL_SSH_KNOWN, 1 },
        { "IPv6", "2001:db8::1 @E1\n", "2001:db8::1", 0, E("1"),
          CTL_SSH_KNOWN, 1 },
        { "a comment", "# web1 @E1\n#web1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        run_host(&cases[i]);
    }
}

static void test_ports(void **state)
{
    static const HostCase cases[] = {
        { "the port", "[web1]:2222 @E1\n", NULL, 2222, E("1"), CTL_SSH_KNOWN,
          1 },
        { "another port", "[web1]:2223 @E1\n", NULL, 2222, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "port 22", "[web1]:2222 @E1\n", NULL, 22, E("1"), CTL_SSH_UNKNOWN,
          0 },
        { "changed", "[web1]:2222 @E2\n", NULL, 2222, E("1"), CTL_SSH_CHANGED,
          1 },
        { "IPv6", "[2001:db8::1]:2222 @E1\n", "2001:db8::1", 2222, E("1"),
          CTL_SSH_KNOWN, 1 },
        { "the host's own key", "web1 @E1\n", NULL, 2222, E("1"),
          CTL_SSH_KNOWN, 1 },
        { "not the host's own key", "web1 @E2\n", NULL, 2222, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "the host's own key, but the port's is known",
          "web1 @E1\n[web1]:2222 @E2\n", NULL, 2222, E("1"), CTL_SSH_CHANGED,
          2 },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        run_host(&cases[i]);
    }
}

static void test_markers(void **state)
{
    static const HostCase cases[] = {
        { "revoked", "web1 @E1\n@revoked web1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_REVOKED, 2 },
        { "revoked first", "@revoked * @E1\nweb1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_REVOKED, 1 },
        { "another is revoked", "@revoked * @E2\nweb1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_KNOWN, 2 },
        { "only another is revoked", "@revoked * @E2\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "revoked for the host", "@revoked web1 @E1\n[web1]:2222 @E1\n", NULL,
          2222, E("1"), CTL_SSH_REVOKED, 1 },
        { "revoked elsewhere", "@revoked web2 @E1\nweb1 @E1\n", NULL, 0,
          E("1"), CTL_SSH_KNOWN, 2 },
        { "of an authority", "@cert-authority * @E1\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "what will be", "@later web1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        run_host(&cases[i]);
    }
}

/* The names are as ssh-keygen -H has hashed them. */
static void test_hashed(void **state)
{
#define WEB1 "|1|1Cnw/GCXoVOBdC7SlBgTx0gfuh4=|N/yBd7q395ImwQK7+/Y7npgRMX0="
#define WEB1_2222 \
    "|1|SHFPiksxdw7rT+r2ve9442v3/u8=|m0p/E3nA5IKYgq3Ob0CdgQF55FE="
    static const HostCase cases[] = {
        { "known", WEB1 " @E1\n", NULL, 0, E("1"), CTL_SSH_KNOWN, 1 },
        { "changed", WEB1 " @E2\n", NULL, 0, E("1"), CTL_SSH_CHANGED, 1 },
        { "another", WEB1 " @E1\n", "web2", 0, E("1"), CTL_SSH_UNKNOWN, 0 },
        { "the port", WEB1_2222 " @E1\n", NULL, 2222, E("1"), CTL_SSH_KNOWN,
          1 },
        { "no port", WEB1_2222 " @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN,
          0 },
        { "revoked", "@revoked " WEB1 " @E1\nweb1 @E1\n", NULL, 0, E("1"),
          CTL_SSH_REVOKED, 1 },
        { "another hash", "|2|AAAA|AAAA @E1\n", NULL, 0, E("1"),
          CTL_SSH_UNKNOWN, 0 },
        { "half a hash", "|1|AAAA @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN,
          0 },
        { "an empty hash", "|1|| @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN,
          0 },
        { "a bar", "| @E1\n", NULL, 0, E("1"), CTL_SSH_UNKNOWN, 0 },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        run_host(&cases[i]);
    }
}

/* What is no line of known_hosts is passed over, and the next one read. */
static void test_damaged_hosts(void **state)
{
    static const char *const lines[] = {
        "", " ", "web1", "web1 ssh-ed25519", "web1 ssh-ed25519 ????",
        "web1 ssh-ed25519 AAAA", "web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AA",
        "web1 ssh-ed25519 /////w==", "web1 1024 35 1234567", "@revoked",
        "@revoked web1", "@", "web1 \"", "|1|", "\xff\xfe web1",
        "web1 ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAATE=",    /* ed25519 inside */
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *text = g_strdup_printf("%s\nweb1 @E1\n", lines[i]);

        run_host(&(HostCase) { lines[i], text, NULL, 0, E("1"), CTL_SSH_KNOWN,
                               2 });
    }
}

static void test_files(void **state)
{
    g_autoptr(GPtrArray) known = read_known("web1 @E1", "web1 @R1\n", "web1",
                                            22);
    g_autoptr(GBytes) key = make_key(R("1"));
    const CtlSshHostKey *line = NULL;

    (void)state;
    assert_int_equal(known->len, 2);
    assert_int_equal(ctl_sshkeys_judge(known, key, &line), CTL_SSH_KNOWN);
    assert_true(g_str_has_suffix(line->file, "/ssh_known_hosts"));
    assert_string_equal(line->type, "ssh-rsa");
}

static void test_types(void **state)
{
    g_autoptr(GPtrArray) known = NULL;
    g_autoptr(GPtrArray) at_port = NULL;
    g_autoptr(GPtrArray) nowhere = NULL;

    (void)state;
    known = read_known("web1 @E1\n@revoked web1 @R1\n", NULL, "web1", 22);
    assert_true(ctl_sshkeys_knows_type(known, "ssh-ed25519"));
    assert_false(ctl_sshkeys_knows_type(known, "ssh-rsa"));
    /* What the host has at port 22 is not to be asked for at another. */
    at_port = read_known("web1 @E1\n[web1]:2222 @R1\n", NULL, "web1", 2222);
    assert_false(ctl_sshkeys_knows_type(at_port, "ssh-ed25519"));
    assert_true(ctl_sshkeys_knows_type(at_port, "ssh-rsa"));
    nowhere = read_known("", NULL, "web1", 22);
    assert_false(ctl_sshkeys_knows_type(nowhere, "ssh-rsa"));
}

static void test_names(void **state)
{
    g_autofree char *plain = ctl_sshkeys_name("web1", 22);
    g_autofree char *other = ctl_sshkeys_name("::1", 23);

    (void)state;
    assert_string_equal(plain, "web1");
    assert_string_equal(other, "[::1]:23");
}

/* ---- Identities ---------------------------------------------------------- */

/* A private key in OpenSSH's format, up to its public key; @cut bytes less. */
static char *openssh_text(const char *cipher, GBytes *key, size_t cut)
{
    static const guint8 one[] = { 0, 0, 0, 1 };
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree char *base64 = NULL;
    gsize len;
    const char *public = g_bytes_get_data(key, &len);

    g_byte_array_append(bytes, (const guint8 *)"openssh-key-v1", 15);
    append_string(bytes, cipher, strlen(cipher));
    append_string(bytes, "bcrypt", 6);
    append_string(bytes, "options", 7);
    g_byte_array_append(bytes, one, sizeof(one));
    append_string(bytes, public, len);
    assert_true(cut < bytes->len);
    base64 = g_base64_encode(bytes->data, bytes->len - cut);
    return g_strdup_printf("-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n"
                           "-----END OPENSSH PRIVATE KEY-----\n", base64);
}

static void expect(const char *name, const char *text, const char *public,
                   CtlSshIdentityState state, GBytes *key)
{
    g_autofree char *path = text ? write_file("id", text) :
                            g_build_filename(dir, "absent", NULL);
    g_autofree char *path_public = g_strconcat(path, ".pub", NULL);
    CtlSshIdentity *identity;

    g_unlink(path_public);
    if (public) {
        assert_true(g_file_set_contents(path_public, public, -1, NULL));
    }
    identity = ctl_sshkeys_identity(path);
    assert_string_equal(identity->path, path);
    if (identity->state != state) {
        fail_msg("%s: got %d (%s), expected %d", name, identity->state,
                 identity->problem ? identity->problem : "-", state);
    }
    if (key ? !identity->key || !g_bytes_equal(identity->key, key) :
              identity->key != NULL) {
        fail_msg("%s: not the expected public key", name);
    }
    assert_int_equal(identity->problem != NULL,
                     state == CTL_SSH_IDENTITY_BAD);
    ctl_sshkeys_identity_free(identity);
}

#define PEM(type, inside) \
    "-----BEGIN " type "PRIVATE KEY-----\n" inside \
    "-----END " type "PRIVATE KEY-----\n"
#define PEM_LOCK "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n"

static void test_identities(void **state)
{
    g_autoptr(GBytes) key = make_key(E("1"));
    g_autofree char *public = key_text(E("1"));
    g_autofree char *usable = openssh_text("none", key, 0);
    g_autofree char *locked = openssh_text("aes256-ctr", key, 0);
    g_autofree char *other = key_text(E("2"));

    (void)state;
    expect("usable", usable, NULL, CTL_SSH_IDENTITY_USABLE, key);
    expect("its own public key", usable, other, CTL_SSH_IDENTITY_USABLE, key);
    expect("locked", locked, NULL, CTL_SSH_IDENTITY_LOCKED, key);
    expect("PEM", PEM("RSA ", "AAAA\n"), NULL, CTL_SSH_IDENTITY_USABLE, NULL);
    expect("PKCS8", PEM("", "AAAA\n"), public, CTL_SSH_IDENTITY_USABLE, key);
    expect("PEM, locked", PEM("EC ", PEM_LOCK), public,
           CTL_SSH_IDENTITY_LOCKED, key);
    expect("PKCS8, locked", PEM("ENCRYPTED ", "AAAA\n"), NULL,
           CTL_SSH_IDENTITY_LOCKED, NULL);
    expect("a public key", public, NULL, CTL_SSH_IDENTITY_PUBLIC, key);
    expect("absent", NULL, NULL, CTL_SSH_IDENTITY_ABSENT, NULL);
    expect("only the public one", NULL, public, CTL_SSH_IDENTITY_PUBLIC, key);
    expect("nor is that a key", NULL, "x", CTL_SSH_IDENTITY_ABSENT, NULL);
    expect("empty", "", NULL, CTL_SSH_IDENTITY_BAD, NULL);
    expect("no key", "hello\n", public, CTL_SSH_IDENTITY_BAD, NULL);
}

/* Cut anywhere, it is damaged, and nothing behind its end is looked at. */
static void test_damaged_identities(void **state)
{
    g_autoptr(GBytes) key = make_key(E("1"));
    size_t len = g_bytes_get_size(key) + 15 + 8 + 10 + 11 + 4 + 4;

    (void)state;
    for (size_t cut = 1; cut < len; cut++) {
        g_autofree char *text = openssh_text("none", key, cut);

        expect("cut", text, NULL, CTL_SSH_IDENTITY_BAD, NULL);
    }
}

static void test_permissions(void **state)
{
    g_autoptr(GBytes) key = make_key(E("1"));
    g_autofree char *text = openssh_text("none", key, 0);
    g_autofree char *path = write_file("id", text);
    CtlSshIdentity *identity;

    (void)state;
    assert_int_equal(g_chmod(path, 0640), 0);
    identity = ctl_sshkeys_identity(path);
    assert_int_equal(identity->state, CTL_SSH_IDENTITY_BAD);
    assert_true(g_str_has_prefix(identity->problem, "can be read by others"));
    ctl_sshkeys_identity_free(identity);
    identity = ctl_sshkeys_identity(dir);
    assert_int_equal(identity->state, CTL_SSH_IDENTITY_BAD);
    assert_true(g_str_has_prefix(identity->problem, "cannot be read"));
    ctl_sshkeys_identity_free(identity);
}

static int set_up(void **state)
{
    (void)state;
    dir = g_dir_make_tmp("curling-sshkeys.XXXXXX", NULL);
    return dir ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {
        "known_hosts", "ssh_known_hosts", "id", "id.pub", "absent.pub", "",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);

        g_remove(path);
    }
    g_free(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_markers),
        cmocka_unit_test(test_hashed),
        cmocka_unit_test(test_damaged_hosts),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_damaged_identities),
        cmocka_unit_test(test_permissions),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
