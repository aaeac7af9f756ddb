/*
 * What ~/.ssh/config says about a host
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl-sshconf.h"

#define MAX_DEPTH 16            /* of files that include each other */

/* A value that is looked into when all files are read, and where it stood. */
typedef struct Value {
    char *text;
    char *where;
} Value;

typedef struct Reader {
    const char *home;
    const char *etc;
    const char *host;           /* as given */
    CtlSshConf *conf;           /* what is known already */
    GPtrArray *identities;      /* of Value */
    GPtrArray *known_hosts;     /* of Value; NULL: nothing was said */
    bool identities_only_given;
    Value *proxy;               /* what leads there instead, "none" as well */
} Reader;

/* A file that is being read. */
typedef struct Place {
    const char *file;
    int line;
    int depth;
    bool is_user;               /* the user's own file, or included from it */
    bool never;                 /* included where nothing counts */
    bool active;                /* this line counts */
} Place;

typedef bool Take(Reader *reader, Place *place, char **args, GError **err);

static bool read_file(Reader *reader, const char *file, int depth,
                      bool is_user, bool active, GError **err);

static void free_value(void *opaque)
{
    Value *value = opaque;

    if (value) {
        g_free(value->text);
        g_free(value->where);
        g_free(value);
    }
}

static Value *new_value(const Place *place, const char *text)
{
    Value *value = g_new0(Value, 1);

    value->text = g_strdup(text);
    value->where = g_strdup_printf("%s:%d", place->file, place->line);
    return value;
}

static bool fail(GError **err, const Place *place, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

static bool fail(GError **err, const Place *place, const char *fmt, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s:%d: %s", place->file,
                place->line, text);
    return false;
}

/* ---- Words of a line ---------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* Take one word from @at, which moves on: up to a blank that is in no quotes.
 * NULL: its quotes do not end. */
static char *take_word(const char **at)
{
    g_autoptr(GString) word = g_string_new(NULL);
    const char *c = *at;
    char quote = 0;

    for (; *c && (quote || !is_blank(*c)); c++) {
        if (*c == '\\' && (c[1] == '\\' || c[1] == '"' || c[1] == '\'' ||
                           (c[1] == ' ' && !quote))) {
            g_string_append_c(word, *++c);
        } else if (quote ? *c == quote : *c == '"' || *c == '\'') {
            quote = quote ? 0 : *c;
        } else {
            g_string_append_c(word, *c);
        }
    }
    *at = c;
    return quote ? NULL : g_strdup(word->str);
}

/* The words behind the keyword, up to a comment.  NULL: @err. */
static char **take_args(const char *at, const Place *place, GError **err)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);

    for (;;) {
        char *word;

        while (is_blank(*at)) {
            at++;
        }
        if (!*at || *at == '#') {
            break;
        }
        word = take_word(&at);
        if (!word) {
            fail(err, place, "quotes do not end");
            return NULL;
        }
        g_ptr_array_add(words, word);
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_steal(words, NULL);
}

/* ---- Keywords ----------------------------------------------------------- */

/* @host: as given.  A name with ! before it that fits rules all others out. */
static bool fits(char **patterns, const char *host)
{
    bool found = false;

    for (; *patterns; patterns++) {
        bool negated = **patterns == '!';

        if (g_pattern_match_simple(*patterns + negated, host)) {
            if (negated) {
                return false;
            }
            found = true;
        }
    }
    return found;
}

static bool take_host(Reader *reader, Place *place, char **args, GError **err)
{
    (void)err;
    place->active = !place->never && fits(args, reader->host);
    return true;
}

static bool take_match(Reader *reader, Place *place, char **args, GError **err)
{
    (void)reader;
    (void)args;
    (void)err;
    place->active = false;
    return true;
}

static bool take_hostname(Reader *reader, Place *place, char **args,
                          GError **err)
{
    CtlSshConf *conf = reader->conf;
    g_autoptr(GString) name = g_string_new(NULL);

    if (conf->hostname) {
        return true;
    }
    for (const char *c = *args; *c; c++) {
        if (*c != '%') {
            g_string_append_c(name, *c);
        } else if (*++c == 'h') {
            g_string_append(name, reader->host);
        } else if (*c == '%') {
            g_string_append_c(name, '%');
        } else {
            return fail(err, place, "HostName may have %%h and %%%% in it, "
                        "not %%%.1s", c);
        }
    }
    if (name->len == 0) {
        return fail(err, place, "HostName is empty");
    }
    conf->hostname = g_strdup(name->str);
    return true;
}

static bool take_user(Reader *reader, Place *place, char **args, GError **err)
{
    if (!**args) {
        return fail(err, place, "User is empty");
    }
    if (!reader->conf->user) {
        reader->conf->user = g_strdup(*args);
    }
    return true;
}

static bool take_port(Reader *reader, Place *place, char **args, GError **err)
{
    guint64 port;

    if (!g_ascii_string_to_unsigned(*args, 10, 1, 65535, &port, NULL)) {
        return fail(err, place, "Port is \"%s\", expected 1 to 65535", *args);
    }
    if (!reader->conf->port) {
        reader->conf->port = port;
    }
    return true;
}

static bool take_identity(Reader *reader, Place *place, char **args,
                          GError **err)
{
    if (!**args) {
        return fail(err, place, "IdentityFile is empty");
    }
    g_ptr_array_add(reader->identities, new_value(place, *args));
    return true;
}

static bool take_identities_only(Reader *reader, Place *place, char **args,
                                 GError **err)
{
    bool yes = !g_ascii_strcasecmp(*args, "yes") ||
               !g_ascii_strcasecmp(*args, "true");

    if (!yes && g_ascii_strcasecmp(*args, "no") &&
        g_ascii_strcasecmp(*args, "false")) {
        return fail(err, place, "IdentitiesOnly is \"%s\", expected yes or no",
                    *args);
    }
    if (!reader->identities_only_given) {
        reader->identities_only_given = true;
        reader->conf->identities_only = yes;
    }
    return true;
}

static bool take_known_hosts(Reader *reader, Place *place, char **args,
                             GError **err)
{
    (void)err;
    if (!reader->known_hosts) {
        reader->known_hosts = g_ptr_array_new_with_free_func(free_value);
        for (; *args; args++) {
            g_ptr_array_add(reader->known_hosts, new_value(place, *args));
        }
    }
    return true;
}

/* Of both, the first that is said counts: "none" after a jump is too late. */
static bool take_proxy(Reader *reader, Place *place, char **args, GError **err)
{
    (void)err;
    if (!reader->proxy) {
        reader->proxy = new_value(place, *args);
    }
    return true;
}

/* A home that is not the user's own is none of ours to look up. */
static char *expand_home(const Reader *reader, const char *path)
{
    if (path[0] != '~') {
        return g_strdup(path);
    }
    return path[1] == '/' || !path[1] ?
           g_strconcat(reader->home, path + 1, NULL) : NULL;
}

static bool include(Reader *reader, Place *place, const char *pattern,
                    GError **err)
{
    g_autofree char *path = expand_home(reader, pattern);
    g_autofree char *full = NULL;
    glob_t found;
    bool ok = true;

    if (!path) {
        return fail(err, place, "Include %s: only ~/ is understood", pattern);
    }
    full = path[0] == '/' ? g_strdup(path) :
           place->is_user ? g_build_filename(reader->home, ".ssh", path, NULL) :
           g_build_filename(reader->etc, path, NULL);
    if (glob(full, 0, NULL, &found)) {
        return true;            /* nothing there, as ssh(1) has it */
    }
    for (size_t i = 0; ok && i < found.gl_pathc; i++) {
        ok = read_file(reader, found.gl_pathv[i], place->depth + 1,
                       place->is_user, place->active, err);
    }
    globfree(&found);
    return ok;
}

static bool take_include(Reader *reader, Place *place, char **args,
                         GError **err)
{
    if (place->depth == MAX_DEPTH) {
        return fail(err, place, "more than %d files include each other",
                    MAX_DEPTH);
    }
    for (; *args; args++) {
        if (!include(reader, place, *args, err)) {
            return false;
        }
    }
    return true;
}

typedef struct Keyword {
    const char *name;
    Take *take;
    bool is_list;               /* more than one word may follow */
    bool always;                /* also where nothing counts */
} Keyword;

static const Keyword keywords[] = {
    { "Host", take_host, true, true },
    { "HostName", take_hostname, false, false },
    { "IdentitiesOnly", take_identities_only, false, false },
    { "IdentityFile", take_identity, false, false },
    { "Include", take_include, true, true },
    { "Match", take_match, true, true },
    { "Port", take_port, false, false },
    { "ProxyCommand", take_proxy, true, false },
    { "ProxyJump", take_proxy, true, false },
    { "User", take_user, false, false },
    { "UserKnownHostsFile", take_known_hosts, true, false },
};

static const Keyword *find_keyword(const char *name, size_t len)
{
    for (size_t i = 0; i < G_N_ELEMENTS(keywords); i++) {
        if (strlen(keywords[i].name) == len &&
            !g_ascii_strncasecmp(keywords[i].name, name, len)) {
            return &keywords[i];
        }
    }
    return NULL;
}

/* ---- Files -------------------------------------------------------------- */

static bool read_line(Reader *reader, Place *place, const char *line,
                      GError **err)
{
    const Keyword *keyword;
    g_auto(GStrv) args = NULL;
    size_t len;

    while (is_blank(*line)) {
        line++;
    }
    len = strcspn(line, " \t\r\n\f=");
    keyword = find_keyword(line, len);
    if (!keyword || (!place->active && !keyword->always)) {
        return true;
    }
    line += len;
    while (is_blank(*line)) {
        line++;
    }
    args = take_args(*line == '=' ? line + 1 : line, place, err);
    if (!args) {
        return false;
    }
    if (!args[0]) {
        return fail(err, place, "%s of what?", keyword->name);
    }
    if (args[1] && !keyword->is_list) {
        return fail(err, place, "\"%s\" is too much after %s %s", args[1],
                    keyword->name, args[0]);
    }
    return keyword->take(reader, place, args, err);
}

/* ssh(1) trusts no file that another user could have written, either. */
static bool is_safe(FILE *file, const Place *place, GError **err)
{
    struct stat st;

    if (place->is_user && !fstat(fileno(file), &st) &&
        ((st.st_uid && st.st_uid != getuid()) || (st.st_mode & 022))) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED,
                    "%s could be written by others: chmod go-w %s",
                    place->file, place->file);
        return false;
    }
    return true;
}

static bool read_lines(Reader *reader, Place *place, FILE *file, GError **err)
{
    char *line = NULL;
    size_t size = 0;
    bool ok = true;

    while (ok && getline(&line, &size, file) >= 0) {
        place->line++;
        ok = read_line(reader, place, line, err);
    }
    free(line);
    if (ok && ferror(file)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "cannot read %s: %s",
                    place->file, g_strerror(errno));
        return false;
    }
    return ok;
}

static bool read_file(Reader *reader, const char *file, int depth,
                      bool is_user, bool active, GError **err)
{
    Place place = {
        .file = file, .depth = depth, .is_user = is_user, .active = active,
        .never = !active,
    };
    FILE *stream = fopen(file, "re");
    bool ok;

    if (!stream && (errno == ENOENT || errno == ENOTDIR)) {
        return true;
    }
    if (!stream) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "cannot read %s: %s",
                    file, g_strerror(errno));
        return false;
    }
    ok = is_safe(stream, &place, err) &&
         read_lines(reader, &place, stream, err);
    fclose(stream);
    return ok;
}

/* ---- Paths -------------------------------------------------------------- */

/* What %@letter stands for; NULL: nothing.  Freed by the caller. */
static char *meaning(const Reader *reader, char letter)
{
    switch (letter) {
    case '%':
        return g_strdup("%");
    case 'd':
        return g_strdup(reader->home);
    case 'h':
        return g_strdup(reader->conf->hostname);
    case 'i':
        return g_strdup_printf("%u", (unsigned int)getuid());
    case 'n':
        return g_strdup(reader->host);
    case 'p':
        return g_strdup_printf("%d", reader->conf->port);
    case 'r':
        return g_strdup(reader->conf->user);
    case 'u':
        return g_strdup(g_get_user_name());
    }
    return NULL;
}

/* "${NAME}" at @c, whose closing brace @end is. */
static char *environment(const char *c, const char *end)
{
    g_autofree char *name = g_strndup(c + 2, end - c - 2);

    return g_strdup(g_getenv(name));
}

/* NULL: @err. */
static char *expand_path(const Reader *reader, const Value *value,
                         GError **err)
{
    g_autofree char *path = expand_home(reader, value->text);
    g_autoptr(GString) expanded = g_string_new(NULL);

    for (const char *c = path; c && *c; c++) {
        const char *end = strchr(c, '}');
        g_autofree char *part = NULL;

        if (*c == '%') {
            part = meaning(reader, *++c);
        } else if (*c == '$' && c[1] == '{' && end) {
            part = environment(c, end);
            c = end;
        } else {
            part = g_strndup(c, 1);
        }
        if (!part) {
            g_clear_pointer(&path, g_free);
            break;
        }
        g_string_append(expanded, part);
    }
    if (!path) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED,
                    "%s: \"%s\" is not understood", value->where, value->text);
        return NULL;
    }
    return g_strdup(expanded->str);
}

/* Add what @values stand for; "none" is for no file. */
static bool expand_paths(const Reader *reader, const GPtrArray *values,
                         GPtrArray *paths, GError **err)
{
    for (guint i = 0; i < values->len; i++) {
        const Value *value = values->pdata[i];
        char *path;

        if (!g_ascii_strcasecmp(value->text, "none")) {
            continue;
        }
        path = expand_path(reader, value, err);
        if (!path) {
            return false;
        }
        if (g_ptr_array_find_with_equal_func(paths, path, g_str_equal, NULL)) {
            g_free(path);
        } else {
            g_ptr_array_add(paths, path);
        }
    }
    return true;
}

static void add_defaults(GPtrArray *paths, const char *dir,
                         const char *const *names)
{
    for (; *names; names++) {
        g_ptr_array_add(paths, g_build_filename(dir, *names, NULL));
    }
}

static char **steal_paths(GPtrArray *paths)
{
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_steal(paths, NULL);
}

static bool set_paths(Reader *reader, GError **err)
{
    static const char *const keys[] = {
        "id_ed25519", "id_ecdsa", "id_rsa", NULL,
    };
    static const char *const users[] = {
        "known_hosts", "known_hosts2", NULL,
    };
    static const char *const systems[] = {
        "ssh_known_hosts", "ssh_known_hosts2", NULL,
    };
    CtlSshConf *conf = reader->conf;
    g_autofree char *dir = g_build_filename(reader->home, ".ssh", NULL);
    g_autoptr(GPtrArray) identities = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func(g_free);

    conf->identities_given = reader->identities->len > 0;
    if (!expand_paths(reader, reader->identities, identities, err) ||
        (reader->known_hosts &&
         !expand_paths(reader, reader->known_hosts, hosts, err))) {
        return false;
    }
    if (!conf->identities_given) {
        add_defaults(identities, dir, keys);
    }
    if (!reader->known_hosts) {
        add_defaults(hosts, dir, users);
    }
    add_defaults(hosts, reader->etc, systems);
    conf->identities = steal_paths(identities);
    conf->known_hosts = steal_paths(hosts);
    return true;
}

/* ---- The whole ---------------------------------------------------------- */

static bool read_files(Reader *reader, GError **err)
{
    g_autofree char *users = g_build_filename(reader->home, ".ssh", "config",
                                              NULL);
    g_autofree char *systems = g_build_filename(reader->etc, "ssh_config",
                                                NULL);

    if (!read_file(reader, users, 0, true, true, err) ||
        !read_file(reader, systems, 0, false, true, err)) {
        return false;
    }
    if (reader->proxy && g_ascii_strcasecmp(reader->proxy->text, "none")) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED,
                    "%s: %s is only reached through another host or program, "
                    "and this is not done here: use an address that can be "
                    "reached, or ssh -L", reader->proxy->where, reader->host);
        return false;
    }
    return true;
}

/* What nobody has said, and all that hangs on it. */
static bool complete(Reader *reader, GError **err)
{
    CtlSshConf *conf = reader->conf;
    char *hostname = g_ascii_strdown(conf->hostname ? conf->hostname :
                                     reader->host, -1);

    g_free(conf->hostname);
    conf->hostname = hostname;
    if (!conf->user) {
        conf->user = g_strdup(g_get_user_name());
    }
    if (!conf->port) {
        conf->port = 22;
    }
    return set_paths(reader, err);
}

CtlSshConf *ctl_sshconf_read(const char *home, const char *etc,
                             const char *host, const char *user, int port,
                             GError **err)
{
    g_autoptr(CtlSshConf) conf = g_new0(CtlSshConf, 1);
    g_autoptr(GPtrArray) identities =
        g_ptr_array_new_with_free_func(free_value);
    Reader reader = {
        .home = home, .etc = etc ? etc : "/etc/ssh", .host = host,
        .conf = conf, .identities = identities,
    };
    bool ok;

    conf->user = g_strdup(user);
    conf->port = port;
    ok = read_files(&reader, err) && complete(&reader, err);
    g_clear_pointer(&reader.known_hosts, g_ptr_array_unref);
    free_value(reader.proxy);
    return ok ? g_steal_pointer(&conf) : NULL;
}

void ctl_sshconf_free(CtlSshConf *conf)
{
    if (conf) {
        g_free(conf->hostname);
        g_free(conf->user);
        g_strfreev(conf->identities);
        g_strfreev(conf->known_hosts);
        g_free(conf);
    }
}
