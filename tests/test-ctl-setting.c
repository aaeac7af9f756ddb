/*
 * Fault: a setting's name is mistyped, a value has no unit, another one, or is
 * no number.
 * Invariant: it is refused with what was meant, or what it should look like;
 * a value that is taken comes back from its text as it was.
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

#include "ctl-setting.h"

#define KIB (1ll << 10)
#define MIB (1ll << 20)
#define GIB (1ll << 30)
#define TIB (1ll << 40)

/* @err is of how curlingctl is used, says @part; it is freed. */
static void assert_usage(GError *err, const char *part)
{
    assert_non_null(err);
    assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_USAGE));
    assert_contains(err->message, part);
    assert_clean(err->message);
    g_error_free(err);
}

static const CtlSetting *find(const char *name)
{
    GError *err = NULL;
    const CtlSetting *setting = ctl_setting_find(name, &err);

    if (!setting) {
        fail_msg("%s", err->message);
    }
    return setting;
}

/* ---- Names --------------------------------------------------------------- */

static void test_both_names(void **state)
{
    size_t number = 0;

    (void)state;
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        assert_ptr_equal(find(s->name), s);
        assert_ptr_equal(find(s->qmp), s);
        /* QEMU's name, or that without its unit */
        assert_true(g_str_has_prefix(s->qmp, s->name));
        assert_true(g_str_equal(s->qmp, s->name) ||
                    g_str_equal(s->qmp + strlen(s->name), "-ms") ||
                    g_str_equal(s->qmp + strlen(s->name), "-bytes"));
        assert_true(s->side >= CTL_SIDE_SENDER && s->side <= CTL_SIDE_BOTH);
        assert_int_equal(s->choices != NULL, s->kind == CTL_KIND_CHOICE);
        assert_non_null(s->summary);
        number++;
    }
    assert_int_equal(number, 16);
}

static void test_nearest_name(void **state)
{
    static const char *const pairs[][2] = {
        { "intreval", "interval" }, { "intervall", "interval" },
        { "Interval", "interval" }, { "interva", "interval" },
        { "round", "rounds" }, { "compres", "compress" },
        { "max_bandwidth", "max-bandwidth" }, { "bandwidth", NULL },
        { "max-rounds", "max-round" }, { "on-discconect", "on-disconnect" },
        { "fence-afer", "fence-after" }, { "disk", "disks" },
        { "aply", "apply" },
        { "", NULL }, { "x", NULL }, { "qwertz", NULL }, { "--", NULL },
        { "migrate", NULL }, { "interval=5", "interval" },
        { "\xff\xfe", NULL }, { "\x1b[2J", NULL },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autofree char *meant = pairs[i][1] ?
            g_strdup_printf("did you mean %s?", pairs[i][1]) : NULL;
        GError *err = NULL;

        assert_null(ctl_setting_find(pairs[i][0], &err));
        if (!meant && strstr(err->message, "did you mean")) {
            fail_msg("%s", err->message);
        }
        assert_usage(err, meant ? meant : "get --list");
        assert_null(ctl_setting_find(pairs[i][0], NULL));
    }
}

/* What is far too long to be meant is near to none. */
static void test_long_name_is_near_to_none(void **state)
{
    static const size_t lengths[] = { 39, 40, 41, 100, 190, 191, 200, 205, 300,
                                      100000 };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autofree char *name = g_strnfill(lengths[i], 'x');
        GError *err = NULL;

        assert_null(ctl_setting_find(name, &err));
        if (strstr(err->message, "did you mean")) {
            fail_msg("of %zu letters: %s", lengths[i], err->message);
        }
        assert_true(strlen(err->message) < 200);
        assert_usage(err, "unknown setting xxxx");
    }
}

/* ---- Values -------------------------------------------------------------- */

typedef struct Value {
    const char *name;
    const char *text;
    int64_t number;
    const char *formatted;
} Value;

static const Value values[] = {
    /* Times: milliseconds */
    { "interval", "50ms", 50, "50ms" },
    { "interval", "50 ms", 50, "50ms" },
    { "interval", "0", 0, "0" },
    { "interval", "0ms", 0, "0" },
    { "interval", "0.0", 0, "0" },
    { "interval", "1s", 1000, "1s" },
    { "interval", "1000ms", 1000, "1s" },
    { "interval", "1.5s", 1500, "1500ms" },
    { "interval", "0.1s", 100, "100ms" },
    { "interval", "0.001s", 1, "1ms" },
    { "interval", "1min", 60000, "1min" },
    { "interval", "90s", 90000, "90s" },
    { "interval", "120s", 120000, "2min" },
    { "interval", "2h", 7200000, "2h" },
    { "interval", "0.5h", 1800000, "30min" },
    { "interval", "007ms", 7, "7ms" },
    { "interval", "5MS", 5, "5ms" },
    { "interval-ms", "50", 50, "50ms" },
    { "interval-ms", "50ms", 50, "50ms" },
    { "interval-ms", "2s", 2000, "2s" },
    { "fence-after-ms", "3600000", 3600000, "1h" },
    { "stall", "1193h", 4294800000, "1193h" },
    /* Sizes: octets */
    { "max-round", "0", 0, "0" },
    { "max-round", "1B", 1, "1B" },
    { "max-round", "1KiB", KIB, "1KiB" },
    { "max-round", "1kB", 1000, "1kB" },
    { "max-round", "512MiB", 512 * MIB, "512MiB" },
    { "max-round", "1024MiB", GIB, "1GiB" },
    { "max-round", "2GiB", 2 * GIB, "2GiB" },
    { "max-round", "1.5GiB", GIB + GIB / 2, "1536MiB" },
    { "max-round", "1TiB", TIB, "1TiB" },
    { "max-round", "100MB", 100000000, "100MB" },
    { "max-round", "3GB", 3000000000, "3GB" },
    { "max-round", "1TB", 1000000000000, "1TB" },
    { "max-round", "4097B", 4097, "4097B" },
    { "max-round-bytes", "4096", 4096, "4KiB" },
    { "max-round-bytes", "4096B", 4096, "4KiB" },
    { "delta-cache", "64 MiB", 64 * MIB, "64MiB" },
    /* Rates: octets per second */
    { "max-bandwidth", "0", 0, "0" },
    { "max-bandwidth", "1Gbit", 125000000, "1Gbit/s" },
    { "max-bandwidth", "1Gbit/s", 125000000, "1Gbit/s" },
    { "max-bandwidth", "1gbit/s", 125000000, "1Gbit/s" },
    { "max-bandwidth", "100Mbit", 12500000, "100Mbit/s" },
    { "max-bandwidth", "2.5Gbit", 312500000, "2500Mbit/s" },
    { "max-bandwidth", "8kbit/s", 1000, "1kB/s" },
    { "max-bandwidth", "50MiB/s", 50 * MIB, "50MiB/s" },
    { "max-bandwidth", "50MiB", 50 * MIB, "50MiB/s" },
    { "max-bandwidth", "1GB/s", 1000000000, "1GB/s" },
    { "max-bandwidth", "1Tbit/s", 125000000000, "1Tbit/s" },
    { "max-bandwidth", "7B/s", 7, "7B/s" },
};

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        const Value *v = &values[i];
        const CtlSetting *setting = find(v->name);
        g_autoptr(CtlJson) value = NULL;
        g_autofree char *formatted = NULL;
        GError *err = NULL;

        value = ctl_setting_parse(setting, v->name, v->text, &err);
        if (!value) {
            fail_msg("%s=%s: %s", v->name, v->text, err->message);
        }
        if (ctl_json_int(value, NULL, -1) != v->number) {
            fail_msg("%s=%s is %lld", v->name, v->text,
                     (long long)ctl_json_int(value, NULL, -1));
        }
        formatted = ctl_setting_format(setting, value);
        assert_string_equal(formatted, v->formatted);
    }
}

static void test_choices(void **state)
{
    (void)state;
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        for (const char *const *c = s->choices; c && *c; c++) {
            g_autofree char *upper = g_ascii_strup(*c, -1);
            g_autofree char *longer = g_strconcat(*c, " ", NULL);
            g_autoptr(CtlJson) value = ctl_setting_parse(s, s->name, *c, NULL);
            g_autofree char *formatted = NULL;
            GError *err = NULL;

            assert_non_null(value);
            formatted = ctl_setting_format(s, value);
            assert_string_equal(formatted, *c);
            assert_null(ctl_setting_parse(s, s->name, longer, &err));
            assert_usage(err, *c);
            err = NULL;
            assert_null(ctl_setting_parse(s, s->name, upper, &err));
            assert_usage(err, "it is one of ");
            err = NULL;
            assert_null(ctl_setting_parse(s, s->name, "", &err));
            assert_usage(err, s->name);
        }
    }
}

/* The text of @number is taken again, by either name, and is @number. */
static void assert_comes_back(const CtlSetting *setting, int64_t number)
{
    const char *names[] = { setting->name, setting->qmp };
    g_autoptr(CtlJson) value = ctl_json_new("I", (long long)number);
    g_autofree char *text = ctl_setting_format(setting, value);

    for (size_t i = 0; i < 2; i++) {
        GError *err = NULL;
        g_autoptr(CtlJson) again = ctl_setting_parse(setting, names[i], text,
                                                     &err);

        if (!again) {
            fail_msg("%s=%s, of %lld: %s", names[i], text, (long long)number,
                     err->message);
        }
        if (ctl_json_int(again, NULL, -1) != number) {
            fail_msg("%s: %s, of %lld, is %lld", names[i], text,
                     (long long)number,
                     (long long)ctl_json_int(again, NULL, -1));
        }
    }
}

static void assert_all_come_back(int64_t number)
{
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        if (s->kind == CTL_KIND_TIME && number > 3600000) {
            continue;
        }
        if (s->kind != CTL_KIND_CHOICE) {
            assert_comes_back(s, number);
        }
    }
}

static void test_round_trips(void **state)
{
    static const int64_t factors[] = {
        1, 125, 1000, KIB, 60000, 125000, 1000000, MIB, 3600000, 125000000,
        1000000000, GIB, 125000000000, 1000000000000, TIB,
    };

    (void)state;
    for (int64_t number = 0; number < 2100; number++) {
        assert_all_come_back(number);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(factors); i++) {
        for (int64_t times = 1; times <= 1030; times++) {
            assert_all_come_back(factors[i] * times - 1);
            assert_all_come_back(factors[i] * times);
            assert_all_come_back(factors[i] * times + 1);
        }
    }
    for (int bit = 0; bit < 53; bit++) {
        assert_all_come_back(1ll << bit);
        assert_all_come_back((1ll << bit) + 1);
        assert_all_come_back((1ll << bit) - 1);
    }
}

/* QEMU takes sizes and rates up to 2^63 - 1. */
static void test_largest_numbers_come_back(void **state)
{
    static const int64_t numbers[] = {
        (1ll << 53) + 1, (1ll << 62) + 1, INT64_MAX - 1023, INT64_MAX - 1,
        INT64_MAX,
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        assert_comes_back(find("max-round"), numbers[i]);
        assert_comes_back(find("max-bandwidth"), numbers[i]);
    }
}

static void test_what_parse_takes_comes_back(void **state)
{
    static const char *const texts[] = {
        "1", "2.5", "0.33", "7.77", "1000", "999.999", "123456", "0.0625",
        "1023.5",
    };
    static const char *const units[] = {
        "h", "min", "s", "ms", "TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB",
        "kB", "B", "Tbit", "Gbit", "Mbit", "kbit", "Tbit/s", "Gbit/s",
        "Mbit/s", "kbit/s", "GiB/s", "MiB/s", "KiB/s", "GB/s", "MB/s", "kB/s",
        "B/s", "",
    };
    unsigned int taken = 0;

    (void)state;
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        for (size_t i = 0; i < G_N_ELEMENTS(texts) *
                               G_N_ELEMENTS(units); i++) {
            g_autofree char *text =
                g_strconcat(texts[i / G_N_ELEMENTS(units)],
                            units[i % G_N_ELEMENTS(units)], NULL);
            g_autoptr(CtlJson) value = ctl_setting_parse(s, s->qmp, text,
                                                         NULL);

            if (value) {
                assert_comes_back(s, ctl_json_int(value, NULL, -1));
                taken++;
            }
        }
    }
    assert_true(taken > 500);
}

typedef struct Refusal {
    const char *name;
    const char *text;
    const char *part;
} Refusal;

static const Refusal refusals[] = {
    { "interval", "", "expected a number such as 50ms or 2s" },
    { "interval", " ", "expected a number" },
    { "interval", "ms", "expected a number" },
    { "interval", "-5ms", "expected a number" },
    { "interval", "+5ms", "expected a number" },
    { "interval", " 5ms", "expected a number" },
    { "interval", ".5s", "expected a number" },
    { "interval", "nan", "expected a number" },
    { "interval", "nanms", "expected a number" },
    { "interval", "inf", "expected a number" },
    { "interval", "infinity", "expected a number" },
    { "interval", "0x10ms", "expected a number" },
    { "interval", "0x10", "expected a number" },
    { "interval", "1e3ms", "expected a number" },
    { "interval", "1e3", "expected a number" },
    { "interval", "1e-3s", "expected a number" },
    { "interval", "1E3s", "expected a number" },
    { "interval", "0x1p3ms", "expected a number" },
    { "interval", "1.5.5s", "expected a number" },
    { "interval", "1,5s", "interval cannot be 1,5s" },
    { "interval", "1'000ms", "interval cannot be" },
    { "interval", "5", "give it a unit, as in 50ms or 2s" },
    { "interval", "5 ", "give it a unit" },
    { "interval", "1e", "interval cannot be 1e" },
    { "interval", "5m", "give it a unit" },
    { "interval", "5sec", "give it a unit" },
    { "interval", "5ms ", "interval cannot be 5ms" },
    { "interval", "5msx", "interval cannot be 5msx" },
    { "interval", "5ms5", "interval cannot be 5ms5" },
    { "interval", "5ms/s", "interval cannot be 5ms/s" },
    { "interval", "5\tms", "interval cannot be 5 ms" },
    { "interval", "5\nms", "interval cannot be 5 ms" },
    { "interval", "5us", "give it a unit" },
    { "interval", "5d", "give it a unit" },
    { "interval", "5MiB", "give it a unit" },
    { "interval", "0junk", "interval cannot be 0junk" },
    { "interval", "0 0", "interval cannot be 0 0" },
    { "interval", "1200h", "cannot be as much as 1200h" },
    { "interval", "4294967296ms", "cannot be as much as" },
    { "interval", "99999999999999999999999999999ms", "cannot be as much as" },
    { "interval-ms", "-50", "interval cannot be -50" },
    { "interval-ms", "4294967296", "cannot be as much as" },
    { "interval-ms", "nan", "expected a number" },
    { "interval-ms", "0x10", "expected a number" },
    { "interval-ms", "1e3", "expected a number" },
    { "interval-ms", "", "expected a number" },
    { "interval-ms", "5x", "give it a unit" },
    { "max-round", "512", "give it a unit, as in 512MiB or 2GiB" },
    { "max-round", "512M", "give it a unit" },
    { "max-round", "1Gbit", "give it a unit" },
    { "max-round", "5MiB/s", "give it a unit" },
    { "max-round", "5ms", "give it a unit" },
    { "max-round", "-1MiB", "expected a number" },
    { "max-round", "8388608TiB", "cannot be as much as" },
    { "max-round", "9223372036854775808B", "cannot be as much as" },
    { "max-round", "99999999999999999999999999TiB", "cannot be as much as" },
    { "max-round-bytes", "9223372036854775808", "cannot be as much as" },
    { "max-round-bytes", "18446744073709551616", "cannot be as much as" },
    { "max-bandwidth", "1G", "give it a unit, as in 1Gbit or 100MiB/s" },
    { "max-bandwidth", "1Gbit/min", "give it a unit" },
    { "max-bandwidth", "1Gbit/s/s", "give it a unit" },
    { "max-bandwidth", "1/s", "give it a unit" },
    { "max-bandwidth", "1Gbps", "give it a unit" },
    { "max-bandwidth", "-1Gbit", "expected a number" },
    { "max-bandwidth", "99999999999999999999Gbit", "cannot be as much as" },
    { "rounds", "deltas", "it is one of delta, full" },
    { "rounds", "delta,full", "rounds cannot be delta,full" },
    { "rounds", "5ms", "it is one of delta, full" },
    { "compress", "gzip", "it is one of none, delta, zstd, auto" },
    { "interval", "5\x1b[31mms", "interval cannot be 5?[31mms" },
    { "interval", "5\xffms", "interval cannot be 5" },
    { "rounds", "\x1b]0;x\x07", "rounds cannot be ?]0;x?" },
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
        const Refusal *r = &refusals[i];
        g_autoptr(CtlJson) value = NULL;
        GError *err = NULL;

        value = ctl_setting_parse(find(r->name), r->name, r->text, &err);
        if (value) {
            g_autofree char *plain = ctl_json_plain(value);

            fail_msg("%s=%s is taken for %s", r->name, r->text, plain);
        }
        assert_usage(err, r->part);
        assert_null(ctl_setting_parse(find(r->name), r->name, r->text, NULL));
    }
}

/* Zero has a meaning of its own: no limit, no lease, as fast as it goes. */
static void test_what_is_not_zero_does_not_become_zero(void **state)
{
    static const char *const texts[][2] = {
        { "interval", "0.4ms" }, { "fence-after", "0.0001s" },
        { "max-round", "0.3B" }, { "max-bandwidth", "0.001kbit" },
        { "interval-ms", "0.2" },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(CtlJson) value = ctl_setting_parse(find(texts[i][0]),
                                                     texts[i][0], texts[i][1],
                                                     NULL);

        if (value && ctl_json_int(value, NULL, -1) == 0) {
            fail_msg("%s=%s is taken for 0", texts[i][0], texts[i][1]);
        }
    }
}

/* From a QEMU that is none */
static void test_format_of_what_is_no_value(void **state)
{
    static const char *const texts[] = {
        "-1", "\"\\u001b[31m\"", "{}", "[]", "null", "true", "1.5",
        "9223372036854775807", "-9223372036854775808",
    };

    (void)state;
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
            g_autoptr(CtlJson) value = ctl_json_parse(texts[i],
                                                      strlen(texts[i]), NULL);
            g_autofree char *text = NULL;

            assert_non_null(value);
            text = ctl_setting_format(s, value);
            assert_non_null(text);
            assert_clean(text);
        }
    }
}

/* ---- Words and exit statuses --------------------------------------------- */

typedef struct Quote {
    const char *text;
    size_t max_chars;
    const char *quoted;
} Quote;

#define EURO "\xe2\x82\xac"

static const Quote quotes[] = {
    { "", 10, "" }, { "abc", 10, "abc" }, { "  a b  ", 10, "a b" },
    { "one\ntwo\tthree", 20, "one two three" }, { "a\n\n", 10, "a" },
    { "\x1b[31mred\x1b[0m", 20, "?[31mred?[0m" },
    { "a\x07" "b\x7f", 10, "a?b?" }, { "a\rb", 10, "a?b" },
    { "a\bb", 10, "a?b" },
    { "\xc2\x9b" "31m", 10, "?31m" },              /* CSI in one */
    { "a\xe2\x80\xae" "b", 10, "a?b" },            /* right to left */
    { "a\xe2\x80\x8b" "b", 10, "a?b" },            /* of no width */
    { "\xc3\xa9" EURO, 10, "\xc3\xa9" EURO },
    { "a\xff" "b", 10, "a\xef\xbf\xbd" "b" },
    { "\xe2\x82", 10, "\xef\xbf\xbd\xef\xbf\xbd" },
    { "exactly ten", 11, "exactly ten" },
    { "exactly ten", 10, "exactly te..." },
    { "exactly ten", 0, "..." }, { "", 0, "" },
    { EURO EURO EURO, 3, EURO EURO EURO },
    { EURO EURO EURO, 2, EURO EURO "..." },
};

static void test_quote(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(quotes); i++) {
        g_autofree char *quoted = ctl_quote(quotes[i].text,
                                            quotes[i].max_chars);

        assert_string_equal(quoted, quotes[i].quoted);
        assert_clean(quoted);
    }
}

static void test_quote_of_every_octet(void **state)
{
    (void)state;
    for (int a = 1; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            char text[] = { (char)a, (char)b, 0 };
            g_autofree char *quoted = ctl_quote(text, 10);

            assert_clean(quoted);
        }
    }
}

static void test_nearest(void **state)
{
    static const char *const known[] = {
        "sender", "receiver", "address", "go", NULL
    };
    static const char *const none[] = { NULL };
    static const char *const texts[][2] = {
        { "sender", "sender" }, { "sneder", "sender" }, { "sendr", "sender" },
        { "reciever", "receiver" }, { "recever", "receiver" },
        { "adress", "address" }, { "addres", "address" }, { "og", "go" },
        { "got", "go" },
        { "", NULL }, { "x", NULL }, { "zzz", NULL }, { "sending", NULL },
        { "xy", NULL }, { "wxyzwxyz", NULL },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *nearest = ctl_nearest(texts[i][0], known);

        if (g_strcmp0(nearest, texts[i][1])) {
            fail_msg("%s: %s", texts[i][0], nearest ? nearest : "none");
        }
        assert_null(ctl_nearest(texts[i][0], none));
    }
}

static void test_exit_statuses(void **state)
{
    static const CtlExit order[] = {
        CTL_EXIT_OK, CTL_EXIT_SYNCING, CTL_EXIT_UNPROTECTED,
        CTL_EXIT_FAILED_OVER, CTL_EXIT_USAGE, CTL_EXIT_ERROR,
    };

    (void)state;
    for (size_t a = 0; a < G_N_ELEMENTS(order); a++) {
        for (size_t b = 0; b < G_N_ELEMENTS(order); b++) {
            assert_int_equal(ctl_exit_worse(order[a], order[b]),
                             order[MAX(a, b)]);
        }
    }
    /* They are what scripts know. */
    assert_int_equal(CTL_EXIT_OK, 0);
    assert_int_equal(CTL_EXIT_ERROR, 1);
    assert_int_equal(CTL_EXIT_USAGE, 2);
    assert_int_equal(CTL_EXIT_SYNCING, 3);
    assert_int_equal(CTL_EXIT_UNPROTECTED, 4);
    assert_int_equal(CTL_EXIT_FAILED_OVER, 5);
}

static int set_alarm(void **state)
{
    (void)state;
    alarm(300);
    return 0;
}

static int stop_alarm(void **state)
{
    (void)state;
    alarm(0);
    return 0;
}

#define CASE(name) \
    cmocka_unit_test_setup_teardown(name, set_alarm, stop_alarm)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_both_names),
        CASE(test_nearest_name),
        CASE(test_long_name_is_near_to_none),
        CASE(test_values),
        CASE(test_choices),
        CASE(test_round_trips),
        CASE(test_largest_numbers_come_back),
        CASE(test_what_parse_takes_comes_back),
        CASE(test_refusals),
        CASE(test_what_is_not_zero_does_not_become_zero),
        CASE(test_format_of_what_is_no_value),
        CASE(test_quote),
        CASE(test_quote_of_every_octet),
        CASE(test_nearest),
        CASE(test_exit_statuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
