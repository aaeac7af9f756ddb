/*
 * Settings by the names that people use, with units in their values
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ctl-setting.h"

#define CHOICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

const CtlSetting ctl_settings[] = {
    { "interval", "interval-ms", CTL_KIND_TIME, CTL_SIDE_SENDER, NULL,
      "from one round to the next; 0: as fast as it goes" },
    { "rounds", "rounds", CTL_KIND_CHOICE, CTL_SIDE_SENDER,
      CHOICES("delta", "full"), "what rounds carry" },
    { "compress", "compress", CTL_KIND_CHOICE, CTL_SIDE_SENDER,
      CHOICES("none", "delta", "zstd", "auto"), "how rounds are sent" },
    { "max-bandwidth", "max-bandwidth", CTL_KIND_RATE, CTL_SIDE_SENDER, NULL,
      "how much rounds may send; 0: no limit" },
    { "max-round", "max-round-bytes", CTL_KIND_SIZE, CTL_SIDE_BOTH, NULL,
      "memory for rounds; 0: by the guest's size" },
    { "on-limit", "on-limit", CTL_KIND_CHOICE, CTL_SIDE_SENDER,
      CHOICES("stretch", "throttle", "unprotect"),
      "what to do with a guest that writes more" },
    { "delta-cache", "delta-cache-bytes", CTL_KIND_SIZE, CTL_SIDE_SENDER, NULL,
      "memory for pages that deltas are against; 0: a quarter of RAM" },
    { "peer-timeout", "peer-timeout-ms", CTL_KIND_TIME, CTL_SIDE_BOTH, NULL,
      "a peer that is not heard for so long is silent" },
    { "on-disconnect", "on-disconnect", CTL_KIND_CHOICE, CTL_SIDE_RECEIVER,
      CHOICES("takeover", "wait"), "when the sender's process is gone" },
    { "close-grace", "close-grace-ms", CTL_KIND_TIME, CTL_SIDE_RECEIVER, NULL,
      "how long to wait after that" },
    { "on-silence", "on-silence", CTL_KIND_CHOICE, CTL_SIDE_RECEIVER,
      CHOICES("wait", "takeover"), "when nothing is heard" },
    { "fence-after", "fence-after-ms", CTL_KIND_TIME, CTL_SIDE_SENDER, NULL,
      "the lease: the guest stops when not heard so long; 0: none" },
    { "reconnect", "reconnect-ms", CTL_KIND_TIME, CTL_SIDE_SENDER, NULL,
      "the longest time between attempts to reach a lost receiver" },
    { "stall", "stall-ms", CTL_KIND_TIME, CTL_SIDE_BOTH, NULL,
      "what does not move for so long counts as stuck" },
    { "disks", "disks", CTL_KIND_CHOICE, CTL_SIDE_SENDER,
      CHOICES("refuse", "unsafe-ahead"), "what to do about writable disks" },
    { "apply", "apply", CTL_KIND_CHOICE, CTL_SIDE_RECEIVER,
      CHOICES("lazy", "eager"), "when to load device state" },
    { NULL }
};

typedef struct Unit {
    const char *name;
    double factor;
} Unit;

static const Unit times[] = {
    { "h", 3600e3 }, { "min", 60e3 }, { "s", 1e3 }, { "ms", 1 }, { NULL, 0 }
};
static const Unit sizes[] = {
    { "TiB", 0x1p40 }, { "GiB", 0x1p30 }, { "MiB", 0x1p20 }, { "KiB", 0x1p10 },
    { "TB", 1e12 }, { "GB", 1e9 }, { "MB", 1e6 }, { "kB", 1e3 }, { "B", 1 },
    { NULL, 0 }
};
static const Unit rates[] = {
    { "Tbit", 125e9 }, { "Gbit", 125e6 }, { "Mbit", 125e3 },
    { "kbit", 125 }, { "GiB", 0x1p30 }, { "MiB", 0x1p20 }, { "KiB", 0x1p10 },
    { "GB", 1e9 }, { "MB", 1e6 }, { "kB", 1e3 }, { "B", 1 }, { NULL, 0 }
};

static const Unit *units_of(CtlKind kind)
{
    switch (kind) {
    case CTL_KIND_TIME:
        return times;
    case CTL_KIND_SIZE:
        return sizes;
    case CTL_KIND_RATE:
        return rates;
    case CTL_KIND_CHOICE:
        break;
    }
    return NULL;
}

static const char *examples_of(CtlKind kind)
{
    switch (kind) {
    case CTL_KIND_TIME:
        return "50ms or 2s";
    case CTL_KIND_SIZE:
        return "512MiB or 2GiB";
    case CTL_KIND_RATE:
        return "1Gbit or 100MiB/s";
    case CTL_KIND_CHOICE:
        break;
    }
    return NULL;
}

static const CtlSetting *find(const char *name)
{
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        if (g_str_equal(name, s->name) || g_str_equal(name, s->qmp)) {
            return s;
        }
    }
    return NULL;
}

const CtlSetting *ctl_setting_find(const char *name, GError **err)
{
    const CtlSetting *found = find(name);
    const char *names[G_N_ELEMENTS(ctl_settings)] = { NULL };
    g_autofree char *quoted = ctl_quote(name, 40);
    const char *nearest;

    if (found) {
        return found;
    }
    for (size_t i = 0; ctl_settings[i].name; i++) {
        names[i] = ctl_settings[i].name;
    }
    nearest = ctl_nearest(name, names);
    if (nearest) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "unknown setting %s; did "
                    "you mean %s?", quoted, nearest);
    } else {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "unknown setting %s; "
                    "\"curlingctl get --list\" names them all", quoted);
    }
    return NULL;
}

static CtlJson *parse_choice(const CtlSetting *setting, const char *text,
                             GError **err)
{
    g_autofree char *quoted = ctl_quote(text, 40);
    g_autofree char *all = NULL;

    if (g_strv_contains(setting->choices, text)) {
        return ctl_json_new("s", text);
    }
    all = g_strjoinv(", ", (char **)setting->choices);
    g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "%s cannot be %s; it is one "
                "of %s", setting->name, quoted, all);
    return NULL;
}

/* The factor of the unit @text; 0 if it is none.  For rates "/s" may follow,
 * and Mb is none, as it may be bits or octets. */
static double unit_factor(CtlKind kind, const char *text)
{
    for (const Unit *unit = units_of(kind); unit->name; unit++) {
        size_t len = strlen(unit->name);

        if (!g_ascii_strncasecmp(text, unit->name, len) &&
            (kind != CTL_KIND_RATE || text[len - 1] == unit->name[len - 1]) &&
            (text[len] == '\0' ||
             (kind == CTL_KIND_RATE && g_str_equal(text + len, "/s")))) {
            return unit->factor;
        }
    }
    return 0;
}

static CtlJson *fail_number(const CtlSetting *setting, const char *text,
                            GError **err, const char *why)
{
    g_autofree char *quoted = ctl_quote(*text ? text : "empty", 40);

    g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "%s cannot be %s; %s %s",
                setting->name, quoted, why, examples_of(setting->kind));
    return NULL;
}

static CtlJson *fail_range(const CtlSetting *setting, const char *text,
                           GError **err, bool is_small)
{
    g_autofree char *quoted = ctl_quote(text, 40);

    g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, is_small ?
                "%s cannot be as little as %s" : "%s cannot be as much as %s",
                setting->name, quoted);
    return NULL;
}

/* @digits, some of them behind a point if @is_fraction, times @factor.  False:
 * too large, or so small that nothing is left of it. */
static bool multiply(const char *digits, bool is_fraction, double factor,
                     uint64_t most, uint64_t *product)
{
    double real = g_ascii_strtod(digits, NULL) * factor;

    /* Doubles do not have all large integers. */
    if (!is_fraction) {
        return g_ascii_string_to_unsigned(digits, 10, 0, most / factor,
                                          product, NULL) &&
               g_uint64_checked_mul(product, *product, (uint64_t)factor) &&
               *product <= most;
    }
    *product = real < most ? round(real) : most;
    return real < most && (*product > 0 || real == 0);
}

CtlJson *ctl_setting_parse(const CtlSetting *setting, const char *name,
                           const char *text, GError **err)
{
    bool bare_is_fine = g_str_equal(name, setting->qmp);
    uint64_t most = setting->kind == CTL_KIND_TIME ? UINT32_MAX : INT64_MAX;
    size_t len = strspn(text, "0123456789.");
    g_autofree char *digits = g_strndup(text, len);
    const char *point = strchr(digits, '.');
    const char *unit = text + len + strspn(text + len, " ");
    uint64_t number;
    double factor;

    if (setting->kind == CTL_KIND_CHOICE) {
        return parse_choice(setting, text, err);
    }
    if (!g_ascii_isdigit(*digits) || (point && strchr(point + 1, '.')) ||
        strpbrk(unit, "0123456789")) {
        return fail_number(setting, text, err, "expected a number such as");
    }
    factor = *unit ? unit_factor(setting->kind, unit) :
             bare_is_fine || strspn(digits, "0.") == len ? 1 : 0;
    if (factor == 0) {
        return fail_number(setting, text, err, "give it a unit, as in");
    }
    if (!multiply(digits, point, factor, most, &number)) {
        return fail_range(setting, text, err,
                          g_ascii_strtod(digits, NULL) * factor < 1);
    }
    return ctl_json_new("I", (long long)number);
}

char *ctl_kind_format(CtlKind kind, uint64_t number)
{
    const Unit *best = NULL;
    const char *per_second = kind == CTL_KIND_RATE ? "/s" : "";

    if (number == 0) {
        return g_strdup("0");
    }
    for (const Unit *unit = units_of(kind); unit->name; unit++) {
        uint64_t factor = unit->factor;

        if (number % factor == 0 && (!best || factor > best->factor)) {
            best = unit;
        }
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT "%s%s",
                           (guint64)(number / (uint64_t)best->factor),
                           best->name, per_second);
}

char *ctl_setting_format(const CtlSetting *setting, const CtlJson *value)
{
    if (setting->kind == CTL_KIND_CHOICE) {
        return ctl_json_plain(value);
    }
    return ctl_kind_format(setting->kind, ctl_json_int(value, NULL, 0));
}
