/*
 * curlingctl watch: look on
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl-change.h"
#include "ctl-options.h"
#include "ctl-sample.h"
#include "ctl-screen.h"
#include "ctl-verdict.h"

#define SAMPLES 400             /* as many as the widest window shows */

/* An end that hangs does not hold up the view for longer than this. */
#define LOOK_MS 2000

static char *every;
static char *record;
static int count;

static const GOptionEntry entries[] = {
    { "every", 0, 0, G_OPTION_ARG_STRING, &every,
      "time between two looks (1s; at least 10ms)", "TIME" },
    { "count", 0, 0, G_OPTION_ARG_INT, &count, "end after so many looks",
      "N" },
    { "record", 0, 0, G_OPTION_ARG_FILENAME, &record,
      "add what is seen to FILE, for \"curlingctl history\"", "FILE" },
    { NULL }
};

typedef struct Watch {
    CtlPair *pair;
    int64_t every_ms;
    FILE *record;
    bool on_screen;
    bool looking;               /* answers come in; there is nothing to show */
    GQueue keys;                /* pressed, and not done yet */
    char *word;                 /* what came of the last one */
    CtlSample last;
    size_t number;              /* of samples, SAMPLES at most are kept */
    int64_t figures[CTL_FIGURE__MAX][SAMPLES];
} Watch;

static CtlColour verdict_colour(CtlVerdict verdict)
{
    switch (verdict) {
    case CTL_VERDICT_PROTECTED:
        return CTL_COLOUR_GOOD;
    case CTL_VERDICT_SYNCING:
        return CTL_COLOUR_DOUBTFUL;
    case CTL_VERDICT_UNPROTECTED:
    case CTL_VERDICT_FAILED_OVER:
    case CTL_VERDICT_UNKNOWN:
        break;
    }
    return CTL_COLOUR_BAD;
}

/* ---- The view ----------------------------------------------------------- */

static void draw_ends(Watch *w)
{
    CtlEnd *ends[] = { ctl_pair_sender(w->pair), ctl_pair_receiver(w->pair) };

    for (int i = 0; i < 2; i++) {
        g_autoptr(GError) why = NULL;

        if (ctl_end_need(ends[i], &why)) {
            /* What is cut off is where it is. */
            ctl_screen_line(CTL_COLOUR_PLAIN, " %-9s %s, guest %s, %s",
                            i ? "receiver" : "sender", ctl_end_state(ends[i]),
                            ctl_json_text(ends[i]->status, "status", "?"),
                            ends[i]->endpoint->text);
        } else {
            ctl_screen_line(CTL_COLOUR_BAD, " %-9s %s", i ? "receiver" :
                            "sender", why->message);
        }
    }
    if (w->pair->swapped) {
        ctl_screen_line(CTL_COLOUR_DOUBTFUL, " roles have swapped since the "
                        "pair was configured");
    }
}

static void draw_rounds(Watch *w)
{
    const CtlJson *info = ctl_pair_sender(w->pair)->info;
    g_autofree char *interval =
        ctl_kind_format(CTL_KIND_TIME, ctl_json_int(info, "interval-ms", 0));
    g_autofree char *rate = w->last.rounds_per_s < 0 ? g_strdup("-") :
        g_strdup_printf("%.1f", w->last.rounds_per_s);

    ctl_screen_line(CTL_COLOUR_PLAIN, " %-12s %12" G_GINT64_FORMAT "  %s a "
                    "second; interval %s; %" G_GINT64_FORMAT " discarded",
                    "round", w->last.round, rate, interval,
                    ctl_json_int(info, "rounds-discarded", 0));
}

static void draw_memory(const CtlJson *info)
{
    g_autofree char *now = NULL;
    g_autofree char *limit = NULL;

    if (ctl_json_get(info, "memory-bytes")) {
        now = ctl_about_bytes(ctl_json_int(info, "memory-bytes.now", 0));
        limit = ctl_about_bytes(ctl_json_int(info, "memory-bytes.limit", 0));
        ctl_screen_line(CTL_COLOUR_PLAIN, " %-12s %12s  of %s for rounds",
                        "memory", now, limit);
    }
}

static void draw_percentiles(const CtlJson *info)
{
    g_autofree char *p50 =
        ctl_about_time(ctl_json_int(info, "pause-us.p50", 0));
    g_autofree char *p99 =
        ctl_about_time(ctl_json_int(info, "pause-us.p99", 0));
    g_autofree char *max =
        ctl_about_time(ctl_json_int(info, "pause-us.max", 0));

    if (ctl_json_get(info, "pause-us")) {
        ctl_screen_line(CTL_COLOUR_PLAIN, " %-12s %12s  half of them are "
                        "shorter; p99 %s, longest %s", "pauses", p50, p99,
                        max);
    }
}

static void draw(void *opaque)
{
    Watch *w = opaque;
    const CtlJson *info = ctl_pair_sender(w->pair)->info;
    g_autofree char *why = NULL;
    CtlVerdict verdict = ctl_pair_verdict(w->pair, &why);
    size_t kept = MIN(w->number, SAMPLES);
    const char *error = ctl_json_text(info, "last-error", NULL);

    if (w->looking) {
        /* The window has another size: that is seen in a moment. */
        return;
    }
    ctl_screen_clear();
    ctl_screen_line(verdict_colour(verdict), "%s: %s%s%s",
                    w->pair->name ? w->pair->name : "the pair",
                    ctl_verdict_word(verdict), why ? ": " : "",
                    why ? why : "");
    draw_ends(w);
    ctl_screen_line(CTL_COLOUR_PLAIN, " ");
    draw_rounds(w);
    draw_percentiles(info);
    draw_memory(info);
    ctl_screen_line(CTL_COLOUR_PLAIN, " ");
    for (int i = 0; i < CTL_FIGURE__MAX; i++) {
        g_autofree char *text = ctl_figure_format(i, w->last.figures[i]);

        ctl_screen_graph(ctl_figure_title(i), text,
                         w->figures[i] + SAMPLES - kept, kept);
    }
    ctl_screen_line(CTL_COLOUR_PLAIN, " ");
    if (error) {
        g_autofree char *quoted = ctl_quote(error, 300);

        ctl_screen_line(CTL_COLOUR_DOUBTFUL, " last error: %s", quoted);
    }
    if (w->word) {
        ctl_screen_line(CTL_COLOUR_PLAIN, " %s", w->word);
    }
    ctl_screen_bottom(" q quit   + - interval   c a round now");
    ctl_screen_show();
}

/* Where nobody looks at a terminal: a line. */
static void print_line(Watch *w)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *time = g_date_time_format(now, "%H:%M:%S");

    ctl_say("%s %s round %" G_GINT64_FORMAT, time,
            ctl_verdict_word(w->last.verdict), w->last.round);
    for (int i = 0; i < CTL_FIGURE__MAX; i++) {
        g_autofree char *text = ctl_figure_format(i, w->last.figures[i]);

        ctl_say(", %s %s", ctl_figure_title(i), text);
    }
    ctl_say("\n");
    fflush(stdout);
}

/* ---- Keys --------------------------------------------------------------- */

static void note_key(int key, void *opaque)
{
    Watch *w = opaque;

    if (key == 'q' || key == 'Q') {
        ctl_interrupt();
    } else {
        g_queue_push_tail(&w->keys, GINT_TO_POINTER(key));
    }
}

static bool has_key(void *opaque)
{
    Watch *w = opaque;

    return !g_queue_is_empty(&w->keys);
}

static CtlDeadline look_deadline(void)
{
    return MIN(ctl_deadline(), ctl_deadline_in(LOOK_MS));
}

/* The next longer one of these intervals, or the next shorter one. */
static int64_t step_interval(int64_t ms, bool longer)
{
    static const int64_t steps[] = {
        10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000
    };

    for (size_t i = 0; longer && i < G_N_ELEMENTS(steps); i++) {
        if (steps[i] > ms) {
            return steps[i];
        }
    }
    for (size_t i = G_N_ELEMENTS(steps); !longer && i-- > 0;) {
        if (steps[i] < ms) {
            return steps[i];
        }
    }
    return ms;
}

static char *change_interval(CtlEnd *sender, bool longer, GError **err)
{
    const CtlSetting *setting = ctl_setting_find("interval", NULL);
    int64_t ms = step_interval(ctl_json_int(sender->info, setting->qmp, 100),
                               longer);
    g_autoptr(CtlJson) value = ctl_json_new("I", (long long)ms);
    g_autofree char *now = ctl_change(sender, setting, value, look_deadline(),
                                      err);

    return now ? g_strdup_printf("interval is %s now", now) : NULL;
}

static char *take_round(CtlEnd *sender, GError **err)
{
    g_autoptr(CtlJson) answer = NULL;

    if (!ctl_end_need(sender, err)) {
        return NULL;
    }
    answer = ctl_qmp_call(sender->qmp, look_deadline(), err,
                          "curling-checkpoint", NULL);
    return answer ? g_strdup_printf("round %" G_GINT64_FORMAT " is taken",
                                    ctl_json_int(answer, "round", 0)) : NULL;
}

/* Do what @key says; the sender was asked and is open. */
static void do_key(Watch *w, CtlEnd *sender, int key)
{
    GError *why = NULL;
    char *word = NULL;

    if (key == '+' || key == '-') {
        word = change_interval(sender, key == '+', &why);
    } else if (key == 'c') {
        word = take_round(sender, &why);
    } else {
        return;
    }
    g_free(w->word);
    w->word = word ? word : g_strdup(why->message);
    g_clear_error(&why);
}

/* ------------------------------------------------------------------------- */

static void add_sample(Watch *w)
{
    CtlSample sample = ctl_sample_take(w->pair, w->number ? &w->last : NULL);

    w->last = sample;
    w->number++;
    for (int i = 0; i < CTL_FIGURE__MAX; i++) {
        memmove(w->figures[i], w->figures[i] + 1,
                (SAMPLES - 1) * sizeof(w->figures[i][0]));
        w->figures[i][SAMPLES - 1] = sample.figures[i];
    }
}

static bool add_record(Watch *w, GError **err)
{
    g_autoptr(CtlJson) line = NULL;
    g_autofree char *text = NULL;

    if (!w->record) {
        return true;
    }
    line = ctl_sample_json(&w->last, w->pair->name);
    text = ctl_json_dump(line);
    if (fprintf(w->record, "%s\n", text) < 0 || fflush(w->record) != 0) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s: %s", record,
                    g_strerror(errno));
        return false;
    }
    return true;
}

/* Until the next look is due, or a key asks for one. */
static bool wait_for_next(Watch *w, CtlDeadline next, GError **err)
{
    GError *why = NULL;

    if (ctl_wait(has_key, w, next, &why) ||
        g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
        g_clear_error(&why);
        return true;
    }
    g_propagate_error(err, why);
    return false;
}

/* Each end is let go as soon as it has answered, so that others have their
 * turn even if the other end hangs. */
static bool look(Watch *w, GError **err)
{
    CtlEnd *sender;

    if (!ctl_pair_ask_all(&w->pair, 1, look_deadline(), err)) {
        return false;
    }
    sender = ctl_pair_sender(w->pair);
    /* What it answered is not lost because the other one took all the time. */
    if (sender->info && !ctl_end_ask(sender, look_deadline(), err)) {
        return false;
    }
    while (has_key(w)) {
        do_key(w, sender, GPOINTER_TO_INT(g_queue_pop_head(&w->keys)));
    }
    add_sample(w);
    ctl_end_close(sender);
    return true;
}

static bool look_on(Watch *w, GError **err)
{
    for (int looks = 1;; looks++) {
        CtlDeadline next = ctl_deadline_in(w->every_ms);

        w->looking = true;
        if (!look(w, err)) {
            return false;
        }
        w->looking = false;
        if (w->on_screen) {
            draw(w);
        } else {
            print_line(w);
        }
        if (!add_record(w, err)) {
            return false;
        }
        if ((count && looks >= count) || ferror(stdout)) {
            return true;
        }
        if (!wait_for_next(w, next, err)) {
            return false;
        }
    }
}

static bool begin(Watch *w, GError **err)
{
    static const CtlSetting time = {
        "--every", "--every", CTL_KIND_TIME, CTL_SIDE_BOTH, NULL, NULL
    };
    g_autoptr(CtlJson) value = ctl_setting_parse(&time, "",
                                                 every ? every : "1s", err);

    if (!value) {
        return false;
    }
    w->every_ms = MAX(ctl_json_int(value, NULL, 0), 10);
    if (record) {
        w->record = fopen(record, "ae");
        if (!w->record) {
            g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s: %s", record,
                        g_strerror(errno));
            return false;
        }
    }
    w->on_screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
    return !w->on_screen || ctl_screen_begin(draw, note_key, w, err);
}

int ctl_watch_main(int argc, char **argv)
{
    static Watch w;
    GError *err = NULL;
    CtlVerdict verdict = CTL_VERDICT_UNKNOWN;

    w.pair = ctl_options_parse_pair(
        "On a terminal: a view with graphs; + and - change the interval, c "
        "takes a round\nnow, q quits.  Elsewhere a line for each look.  The "
        "exit status is that of\nstatus.", entries, 0, 0, &argc, &argv, &err);
    if (!w.pair) {
        return ctl_fail(NULL, err);
    }
    if (count < 0) {
        ctl_pair_free(w.pair);
        ctl_complain(NULL, "--count cannot be %d", count);
        return CTL_EXIT_USAGE;
    }
    if (begin(&w, &err)) {
        look_on(&w, &err);
    }
    ctl_screen_end();
    if (w.number) {
        verdict = w.last.verdict;
    }
    if (w.record && fclose(w.record) != 0 && !err) {
        g_set_error(&err, CTL_ERROR, CTL_ERROR_FAILED, "%s: %s", record,
                    g_strerror(errno));
    }
    ctl_pair_free(w.pair);
    g_free(w.word);
    /* Quitting is how it ends. */
    if (err && !g_error_matches(err, CTL_ERROR, CTL_ERROR_INTERRUPTED)) {
        return ctl_fail(NULL, err);
    }
    g_clear_error(&err);
    return ctl_verdict_exit(verdict);
}
