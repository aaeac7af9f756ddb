/*
 * curlingctl: errors, waiting, words
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>
#include "ctl.h"

CtlOptions ctl_options = { .timeout_ms = 30000 };

static bool interrupted;

GQuark ctl_error_quark(void)
{
    return g_quark_from_static_string("curlingctl");
}

CtlExit ctl_exit_worse(CtlExit a, CtlExit b)
{
    static const int badness[] = {
        [CTL_EXIT_OK] = 0,
        [CTL_EXIT_SYNCING] = 1,
        [CTL_EXIT_UNPROTECTED] = 2,
        [CTL_EXIT_FAILED_OVER] = 3,
        [CTL_EXIT_USAGE] = 4,
        [CTL_EXIT_ERROR] = 5,
    };

    return badness[a] > badness[b] ? a : b;
}

/* ---- Waiting ------------------------------------------------------------ */

CtlDeadline ctl_deadline_in(unsigned int ms)
{
    return ms ? g_get_monotonic_time() + (int64_t)ms * 1000 : CTL_NEVER;
}

CtlDeadline ctl_deadline(void)
{
    return ctl_deadline_in(ctl_options.timeout_ms);
}

void ctl_interrupt(void)
{
    interrupted = true;
}

static gboolean note_interrupt(gpointer opaque)
{
    (void)opaque;
    ctl_interrupt();
    return G_SOURCE_CONTINUE;
}

static guint on_int;
static guint on_term;

void ctl_interrupt_init(void)
{
    on_int = g_unix_signal_add(SIGINT, note_interrupt, NULL);
    on_term = g_unix_signal_add(SIGTERM, note_interrupt, NULL);
}

void ctl_interrupt_end(void)
{
    /* glib puts the default back with the last source of a signal. */
    g_clear_handle_id(&on_int, g_source_remove);
    g_clear_handle_id(&on_term, g_source_remove);
}

void ctl_interrupt_clear(void)
{
    interrupted = false;
}

/* It only ends an iteration of the loop. */
static gboolean wake_up(gpointer opaque)
{
    *(guint *)opaque = 0;
    return G_SOURCE_REMOVE;
}

bool ctl_wait_once(CtlDeadline deadline, GError **err)
{
    int64_t left_us = deadline - g_get_monotonic_time();
    guint timer = 0;

    if (!interrupted && left_us > 0) {
        if (deadline != CTL_NEVER) {
            timer = g_timeout_add(MIN(left_us / 1000 + 1, 3600000), wake_up,
                                  &timer);
        }
        g_main_context_iteration(NULL, TRUE);
        if (timer) {
            g_source_remove(timer);
        }
    }
    if (interrupted) {
        g_set_error_literal(err, CTL_ERROR, CTL_ERROR_INTERRUPTED,
                            "interrupted");
    }
    return !interrupted;
}

bool ctl_wait(CtlCondition *holds, void *opaque, CtlDeadline deadline,
              GError **err)
{
    for (;;) {
        if (holds && holds(opaque)) {
            return true;
        }
        if (g_get_monotonic_time() >= deadline && !interrupted) {
            g_set_error_literal(err, CTL_ERROR, CTL_ERROR_TIMEOUT,
                                "it takes too long");
            return false;
        }
        if (!ctl_wait_once(deadline, err)) {
            return false;
        }
    }
}

static gboolean note_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    (void)fd;
    (void)condition;
    *(bool *)opaque = true;
    return G_SOURCE_CONTINUE;
}

static bool is_set(void *opaque)
{
    return *(bool *)opaque;
}

bool ctl_wait_readable(int fd, CtlDeadline deadline, GError **err)
{
    bool readable = false;
    guint source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP, note_readable,
                                 &readable);
    bool waited = ctl_wait(is_set, &readable, deadline, err);

    g_source_remove(source);
    return waited;
}

bool ctl_sleep(unsigned int ms, GError **err)
{
    GError *why = NULL;

    ctl_wait(NULL, NULL, g_get_monotonic_time() + (int64_t)ms * 1000, &why);
    if (g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
        g_error_free(why);
        return true;
    }
    g_propagate_error(err, why);
    return false;
}

/* ---- Words -------------------------------------------------------------- */

/* How many letters to add, take away, change or swap with the next one, to
 * make @b of @a (Damerau and Levenshtein's, of neighbours only). */
static unsigned int distance(const char *a, const char *b)
{
    enum { MOST = 40 };
    unsigned int cost[MOST + 1][MOST + 1];
    size_t rows = strlen(a);
    size_t columns = strlen(b);

    if (rows > MOST || columns > MOST) {
        return UINT_MAX;
    }
    for (size_t i = 0; i <= rows; i++) {
        for (size_t j = 0; j <= columns; j++) {
            unsigned int least;

            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            least = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            least = MIN(least, cost[i - 1][j] + 1);
            least = MIN(least, cost[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1]) {
                least = MIN(least, cost[i - 2][j - 2] + 1);
            }
            cost[i][j] = least;
        }
    }
    return cost[rows][columns];
}

int ctl_compare_words(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const char *ctl_nearest(const char *name, const char *const *known)
{
    unsigned int least = 3 + strlen(name) / 8;
    const char *nearest = NULL;

    for (; *known; known++) {
        unsigned int far = distance(name, *known);

        if (far < least && far * 2 <= strlen(name)) {
            least = far;
            nearest = *known;
        }
    }
    return nearest;
}

static char *replace_controls(const char *text, size_t max_chars,
                              bool keep_newlines)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_new(NULL);
    size_t chars = 0;

    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar letter = g_utf8_get_char(c);

        if (chars++ == max_chars) {
            g_string_append(clean, "...");
            break;
        }
        if (!g_unichar_isprint(letter) && !(letter == '\n' && keep_newlines)) {
            letter = letter == '\n' || letter == '\t' ? ' ' : '?';
        }
        g_string_append_unichar(clean, letter);
    }
    return g_string_free(clean, FALSE);
}

char *ctl_quote(const char *text, size_t max_chars)
{
    return g_strstrip(replace_controls(text, max_chars, false));
}

char *ctl_clean(const char *text)
{
    return replace_controls(text, SIZE_MAX, true);
}

void ctl_say(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *clean = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    clean = ctl_clean(text);
    fputs(clean, stdout);
}

/* Three digits are enough for a person. */
static char *about(double number, const char *unit)
{
    return g_strdup_printf(number < 9.95 ? "%.1f %s" : "%.0f %s", number,
                           unit);
}

char *ctl_about_time(uint64_t us)
{
    if (us < 1000) {
        return g_strdup_printf("%u us", (unsigned int)us);
    }
    return us < 999500 ? about(us / 1e3, "ms") : us < 600000000 ?
           about(us / 1e6, "s") : about(us / 60e6, "min");
}

char *ctl_about_bytes(uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    double number = bytes / 1024.0;
    size_t i = 0;

    if (bytes < 1024) {
        return g_strdup_printf("%u B", (unsigned int)bytes);
    }
    while (number >= 999.5 && i + 1 < G_N_ELEMENTS(units)) {
        number /= 1024;
        i++;
    }
    return about(number, units[i]);
}

void ctl_complain(const char *name, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *clean = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    clean = ctl_quote(text, 2000);
    /* What was said before comes first. */
    fflush(stdout);
    fprintf(stderr, "curlingctl: %s%s%s\n", name ? name : "", name ? ": " : "",
            clean);
}

int ctl_fail(const char *name, GError *err)
{
    int status = g_error_matches(err, CTL_ERROR, CTL_ERROR_USAGE) ?
                 CTL_EXIT_USAGE : CTL_EXIT_ERROR;

    ctl_complain(name, "%s", err->message);
    g_error_free(err);
    return status;
}
