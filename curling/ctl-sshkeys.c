/*
 * Keys in files, as OpenSSH writes them: known_hosts, and identities
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl-sshkeys.h"

#define MAX_IDENTITY_BYTES (1 << 20)
#define HASH_BYTES 20           /* of SHA-1 */

/* ---- Bytes -------------------------------------------------------------- */

/* What is left to read of some bytes */
typedef struct Rest {
    const guint8 *at;
    size_t len;
} Rest;

static bool take_u32(Rest *rest, uint32_t *value)
{
    if (rest->len < 4) {
        return false;
    }
    *value = (uint32_t)rest->at[0] << 24 | rest->at[1] << 16 |
             rest->at[2] << 8 | rest->at[3];
    rest->at += 4;
    rest->len -= 4;
    return true;
}

/* A length and as many bytes: @part points into @rest. */
static bool take_string(Rest *rest, Rest *part)
{
    uint32_t len;

    if (!take_u32(rest, &len) || len > rest->len) {
        return false;
    }
    *part = (Rest) { rest->at, len };
    rest->at += len;
    rest->len -= len;
    return true;
}

static bool says(Rest part, const char *text)
{
    return part.len == strlen(text) && !memcmp(part.at, text, part.len);
}

char *ctl_sshkeys_type(GBytes *key)
{
    Rest rest;
    Rest type;

    rest.at = g_bytes_get_data(key, &rest.len);
    if (!take_string(&rest, &type) || type.len == 0 || type.len > 64) {
        return NULL;
    }
    for (size_t i = 0; i < type.len; i++) {
        if (!g_ascii_isgraph(type.at[i])) {
            return NULL;
        }
    }
    return g_strndup((const char *)type.at, type.len);
}

/* A public key from its two words in a file; NULL: it is none. */
static GBytes *parse_key(const char *type, const char *base64)
{
    gsize len;
    guchar *bytes = g_base64_decode(base64, &len);
    g_autoptr(GBytes) key = g_bytes_new_take(bytes, len);
    g_autofree char *inside = ctl_sshkeys_type(key);

    return inside && !strcmp(inside, type) ? g_steal_pointer(&key) : NULL;
}

/* ---- Hosts -------------------------------------------------------------- */

char *ctl_sshkeys_name(const char *hostname, int port)
{
    return port == 22 ? g_strdup(hostname) :
           g_strdup_printf("[%s]:%d", hostname, port);
}

/* "|1|salt|hash", both in base64: of the name and nothing else */
static bool hash_fits(const char *hashed, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(hashed, "|", 4);
    g_autofree guchar *salt = NULL;
    g_autofree guchar *hash = NULL;
    g_autoptr(GHmac) hmac = NULL;
    guint8 digest[HASH_BYTES];
    gsize salt_len, hash_len, digest_len = sizeof(digest);

    if (g_strv_length(parts) != 4 || strcmp(parts[1], "1")) {
        return false;
    }
    salt = g_base64_decode(parts[2], &salt_len);
    hash = g_base64_decode(parts[3], &hash_len);
    if (salt_len != HASH_BYTES || hash_len != HASH_BYTES) {
        return false;
    }
    hmac = g_hmac_new(G_CHECKSUM_SHA1, salt, salt_len);
    g_hmac_update(hmac, (const guchar *)name, strlen(name));
    g_hmac_get_digest(hmac, digest, &digest_len);
    return digest_len == hash_len && !memcmp(digest, hash, hash_len);
}

/* @names: with commas between them; *, ? and ! as in ssh(1)'s config. */
static bool names_fit(const char *names, const char *name)
{
    g_auto(GStrv) patterns = NULL;
    g_autofree char *small = NULL;
    bool found = false;

    if (names[0] == '|') {
        return hash_fits(names, name);
    }
    small = g_ascii_strdown(names, -1);
    patterns = g_strsplit(small, ",", 0);
    for (char **pattern = patterns; *pattern; pattern++) {
        bool negated = **pattern == '!';

        if (g_pattern_match_simple(*pattern + negated, name)) {
            if (negated) {
                return false;
            }
            found = true;
        }
    }
    return found;
}

static void free_host_key(void *opaque)
{
    CtlSshHostKey *key = opaque;

    g_free(key->file);
    g_free(key->type);
    g_bytes_unref(key->key);
    g_free(key);
}

typedef struct HostReader {
    const char *hostname;
    const char *name;           /* with the port, if it is not 22 */
    GPtrArray *known;
} HostReader;

/* Up to @max words of @line, with blanks between them; the rest is dropped. */
static void split_words(char *line, char **words, size_t max)
{
    char *rest = line;

    for (size_t i = 0; i < max; i++) {
        words[i] = strtok_r(i ? NULL : line, " \t\r\n", &rest);
        if (!words[i]) {
            words[i] = line + strlen(line);
        }
    }
}

/* [@marker] names type key [comment].  A key of an authority that signs other
 * keys is none of the host's. */
static void read_host_line(const HostReader *reader, char *text,
                           const char *file, int line)
{
    char *words[4];
    char **word = words;
    bool revoked, any_port;
    CtlSshHostKey *found;
    GBytes *key;

    split_words(text, words, G_N_ELEMENTS(words));
    revoked = !strcmp(*word, "@revoked");
    word += revoked;
    if (**word == '#' || **word == '@') {
        return;
    }
    any_port = !names_fit(word[0], reader->name);
    if (any_port && !names_fit(word[0], reader->hostname)) {
        return;
    }
    key = parse_key(word[1], word[2]);
    if (!key) {
        return;
    }
    found = g_new0(CtlSshHostKey, 1);
    found->file = g_strdup(file);
    found->line = line;
    found->type = g_strdup(word[1]);
    found->key = key;
    found->revoked = revoked;
    found->any_port = any_port;
    g_ptr_array_add(reader->known, found);
}

static void read_hosts(const HostReader *reader, const char *file)
{
    FILE *stream = fopen(file, "re");
    char *text = NULL;
    size_t size = 0;

    if (!stream) {
        return;
    }
    for (int line = 1; getline(&text, &size, stream) >= 0; line++) {
        read_host_line(reader, text, file, line);
    }
    free(text);
    fclose(stream);
}

/*
 * Where something is known of the port, what is said of the host alone is of
 * another server on it.
 */
static void drop_any_port(GPtrArray *known)
{
    bool exact = false;

    for (guint i = 0; i < known->len; i++) {
        const CtlSshHostKey *entry = known->pdata[i];

        exact |= !entry->any_port && !entry->revoked;
    }
    for (guint i = known->len; exact && i-- > 0;) {
        const CtlSshHostKey *entry = known->pdata[i];

        if (entry->any_port && !entry->revoked) {
            g_ptr_array_remove_index(known, i);
        }
    }
}

GPtrArray *ctl_sshkeys_known(char *const *files, const char *hostname,
                             int port)
{
    g_autofree char *name = ctl_sshkeys_name(hostname, port);
    HostReader reader = {
        .hostname = hostname, .name = name,
        .known = g_ptr_array_new_with_free_func(free_host_key),
    };

    for (; *files; files++) {
        read_hosts(&reader, *files);
    }
    drop_any_port(reader.known);
    return reader.known;
}

/*
 * A line without the port is only of use if its key is the right one: what
 * listens at another port of the host may well have a key of its own.
 */
CtlSshVerdict ctl_sshkeys_judge(const GPtrArray *known, GBytes *key,
                                const CtlSshHostKey **line)
{
    g_autofree char *type = ctl_sshkeys_type(key);
    const CtlSshHostKey *same = NULL;
    const CtlSshHostKey *other = NULL;

    for (guint i = 0; i < known->len; i++) {
        const CtlSshHostKey *entry = known->pdata[i];
        bool equal = g_bytes_equal(entry->key, key);

        if (entry->revoked && equal) {
            *line = entry;
            return CTL_SSH_REVOKED;
        }
        if (entry->revoked) {
            continue;
        }
        if (equal) {
            same = entry;
        } else if (!entry->any_port &&
                   (!other || g_strcmp0(entry->type, type) == 0)) {
            other = entry;
        }
    }
    *line = same ? same : other;
    return same ? CTL_SSH_KNOWN : other ? CTL_SSH_CHANGED : CTL_SSH_UNKNOWN;
}

bool ctl_sshkeys_knows_type(const GPtrArray *known, const char *type)
{
    for (guint i = 0; i < known->len; i++) {
        const CtlSshHostKey *entry = known->pdata[i];

        if (!entry->revoked && !strcmp(entry->type, type)) {
            return true;
        }
    }
    return false;
}

/* ---- Identities --------------------------------------------------------- */

/* The two words of a .pub file; NULL: it is none. */
static GBytes *parse_public(const char *text)
{
    g_autofree char *line = g_strdup(text);
    char *words[2];

    line[strcspn(line, "\r\n")] = 0;
    split_words(line, words, G_N_ELEMENTS(words));
    return parse_key(words[0], words[1]);
}

/* What is next to the private key at @path */
static GBytes *read_public(const char *path)
{
    g_autofree char *name = g_strconcat(path, ".pub", NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(name, &text, NULL, NULL) ? parse_public(text) :
           NULL;
}

static void set_bad(CtlSshIdentity *identity, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static void set_bad(CtlSshIdentity *identity, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    identity->problem = g_strdup_vprintf(fmt, args);
    va_end(args);
    identity->state = CTL_SSH_IDENTITY_BAD;
}

#define OPENSSH_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define OPENSSH_END "-----END OPENSSH PRIVATE KEY-----"
#define OPENSSH_MAGIC "openssh-key-v1"

/* OpenSSH's own format has the public key outside of what is encrypted. */
static bool read_openssh(CtlSshIdentity *identity, const char *text)
{
    const char *begin = text + strlen(OPENSSH_BEGIN);
    const char *end = strstr(begin, OPENSSH_END);
    g_autofree char *base64 = end ? g_strndup(begin, end - begin) : NULL;
    g_autofree guchar *bytes = NULL;
    Rest rest, cipher, skipped, key;
    uint32_t n_keys;

    if (!base64) {
        return false;
    }
    bytes = g_base64_decode(base64, &rest.len);
    rest.at = bytes;
    if (rest.len < sizeof(OPENSSH_MAGIC) ||
        memcmp(rest.at, OPENSSH_MAGIC, sizeof(OPENSSH_MAGIC))) {
        return false;
    }
    rest.at += sizeof(OPENSSH_MAGIC);
    rest.len -= sizeof(OPENSSH_MAGIC);
    if (!take_string(&rest, &cipher) || !take_string(&rest, &skipped) ||
        !take_string(&rest, &skipped) || !take_u32(&rest, &n_keys) ||
        n_keys != 1 || !take_string(&rest, &key)) {
        return false;
    }
    identity->state = says(cipher, "none") ? CTL_SSH_IDENTITY_USABLE :
                      CTL_SSH_IDENTITY_LOCKED;
    identity->key = g_bytes_new(key.at, key.len);
    return true;
}

static void read_identity(CtlSshIdentity *identity, const char *text)
{
    const char *openssh = strstr(text, OPENSSH_BEGIN);

    if (openssh) {
        if (!read_openssh(identity, openssh)) {
            set_bad(identity, "is damaged");
        }
    } else if (strstr(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") ||
               strstr(text, "Proc-Type: 4,ENCRYPTED")) {
        identity->state = CTL_SSH_IDENTITY_LOCKED;
        identity->key = read_public(identity->path);
    } else if (strstr(text, "PRIVATE KEY-----")) {
        identity->state = CTL_SSH_IDENTITY_USABLE;
        identity->key = read_public(identity->path);
    } else {
        identity->key = parse_public(text);
        identity->state = CTL_SSH_IDENTITY_PUBLIC;
        if (!identity->key) {
            set_bad(identity, "is no key");
        }
    }
}

/* The whole file, with a NUL behind it.  NULL: errno. */
static char *slurp(int fd, struct stat *st)
{
    g_autofree char *text = NULL;
    size_t done = 0;

    if (fstat(fd, st)) {
        return NULL;
    }
    if (!S_ISREG(st->st_mode) || st->st_size > MAX_IDENTITY_BYTES) {
        errno = EINVAL;
        return NULL;
    }
    text = g_malloc0(st->st_size + 1);
    while (done < (size_t)st->st_size) {
        ssize_t n = read(fd, text + done, st->st_size - done);

        if (n < 0 && errno != EINTR) {
            return NULL;
        }
        if (n == 0) {
            break;
        }
        done += n > 0 ? n : 0;
    }
    return g_steal_pointer(&text);
}

CtlSshIdentity *ctl_sshkeys_identity(const char *path)
{
    CtlSshIdentity *identity = g_new0(CtlSshIdentity, 1);
    g_autofree char *text = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    identity->path = g_strdup(path);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        identity->key = read_public(path);
        identity->state = identity->key ? CTL_SSH_IDENTITY_PUBLIC :
                          CTL_SSH_IDENTITY_ABSENT;
        return identity;
    }
    text = fd >= 0 ? slurp(fd, &st) : NULL;
    if (text) {
        read_identity(identity, text);
    } else {
        set_bad(identity, "cannot be read: %s", g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    /* ssh(1) uses no such key, either. */
    if (text && identity->state == CTL_SSH_IDENTITY_USABLE &&
        st.st_uid == getuid() && (st.st_mode & 077)) {
        set_bad(identity, "can be read by others: chmod 600 %s", path);
    }
    return identity;
}

void ctl_sshkeys_identity_free(CtlSshIdentity *identity)
{
    if (identity) {
        g_free(identity->path);
        g_free(identity->problem);
        g_clear_pointer(&identity->key, g_bytes_unref);
        g_free(identity);
    }
}
